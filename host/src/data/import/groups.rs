//! Merging images into patient groups, and names for the groups that say nothing of a patient.

/// Hex digits of a hash in a group's name.
const GROUP_DIGITS: usize = 10;

/// Disjoint sets over `0..n`; each is represented by its smallest member.
pub(super) struct Partition {
    parent: Vec<usize>,
}

impl Partition {
    /// Every element alone.
    pub(super) fn new(n: usize) -> Self {
        Self { parent: (0..n).collect() }
    }

    /// Merges the sets of two elements.
    pub(super) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.parent[a.max(b)] = a.min(b);
    }

    /// The smallest member of an element's set.
    pub(super) fn first(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }
}

/// Names each element's group by the first digits of its smallest member's hash: the same for
/// the same images, and free of whatever the source called the group.
pub(super) fn names(partition: &mut Partition, hashes: &[&str]) -> Vec<String> {
    let mut smallest: Vec<&str> = hashes.to_vec();
    for (at, hash) in hashes.iter().enumerate() {
        let first = partition.first(at);
        smallest[first] = smallest[first].min(hash);
    }
    (0..hashes.len()).map(|at| smallest[partition.first(at)][..GROUP_DIGITS].to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_elements_share_a_name_and_others_do_not() {
        let hashes = ["5aaaaaaaaaaa", "3aaaaaaaaaaa", "4aaaaaaaaaaa", "2aaaaaaaaaaa"];
        let mut partition = Partition::new(4);
        partition.join(2, 1);
        partition.join(0, 2);
        let names = names(&mut partition, &hashes);
        assert_eq!(names, ["3aaaaaaaaa", "3aaaaaaaaa", "3aaaaaaaaa", "2aaaaaaaaa"]);
        assert_eq!(partition.first(2), 0);
    }
}
