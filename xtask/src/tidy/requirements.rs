//! The rule about requirements: each has a test, each test a requirement that exists.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;

const FILE: &str = "device/requirements.md";
/// How a test names what it verifies. (Written in two halves: this file is checked too.)
const MARK: &str = concat!("Cov", "ers: ");

/// Requirements with a MUST that no test names, names without a requirement, and IDs used twice.
pub fn uncovered(tree: &Tree) -> Vec<String> {
    let Some(text) = tree.file(FILE).and_then(|file| file.text.as_deref()) else {
        return vec![format!("{FILE} is missing")];
    };
    let mut found = Vec::new();
    let mut binding: BTreeMap<&str, bool> = BTreeMap::new();
    for item in text.split("\n- **").skip(1) {
        let Some((id, words)) = item.split_once("**") else { continue };
        if binding.insert(id, words.contains("MUST")).is_some() {
            found.push(format!("{FILE}: {id} stands there twice"));
        }
    }
    let covered: BTreeSet<(&str, &str)> = tree.texts().flat_map(named).collect();
    for (path, id) in &covered {
        if !binding.contains_key(id) {
            found.push(format!("{path}: covers {id}, which {FILE} does not have"));
        }
    }
    for id in binding.into_iter().filter_map(|(id, must)| must.then_some(id)) {
        if !covered.iter().any(|(_, named)| *named == id) {
            found.push(format!("{FILE}: no test covers {id}"));
        }
    }
    found
}

/// The requirements that a source file's tests name.
fn named<'a>((path, text): (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    if !path.ends_with(".rs") && !path.ends_with(".py") {
        return Vec::new();
    }
    let marks = text.lines().filter_map(|line| line.split_once(MARK));
    let ids = marks.flat_map(|(_, ids)| ids.split([',', ' ', '.']));
    ids.filter(|id| !id.is_empty()).map(|id| (path, id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requirements: &str, test: &str, expected: &[&str]) {
        let test = test.replace("COVERS", MARK.trim_end());
        let tree = Tree::of(&[(FILE, requirements), ("tests/tests/a.rs", &test)]);
        assert_eq!(uncovered(&tree), expected);
    }

    #[test]
    fn every_must_needs_a_test_that_names_it() {
        let text = "# R\n\n- **A-1** It MUST work.\n- **A-2** It MUST NOT burn.\n- **A-3** It MAY.";
        check(text, "/// COVERS A-1, A-2", &[]);
        check(text, "/// COVERS A-1", &["device/requirements.md: no test covers A-2"]);
    }

    #[test]
    fn a_test_may_not_name_what_is_not_required() {
        let text = "\n- **A-1** It MUST work.";
        let expected = ["tests/tests/a.rs: covers B-9, which device/requirements.md does not have"];
        check(text, "/// COVERS A-1\n/// COVERS B-9", &expected);
    }

    #[test]
    fn an_id_stands_once() {
        let text = "\n- **A-1** It MUST work.\n- **A-1** It MUST shine.";
        check(text, "// COVERS A-1", &["device/requirements.md: A-1 stands there twice"]);
    }

    #[test]
    fn requirements_are_not_optional() {
        assert_eq!(uncovered(&Tree::of(&[])), ["device/requirements.md is missing"]);
    }
}
