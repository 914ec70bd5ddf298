//! What a board keeps for people: its scans with their results, and the audit trail.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::guest::Guest;

/// Lists digest and path of every file of every scan.
const LIST: &str = "cd /var/lib/spinesight/spool/scans && find . -type f -exec sha256sum {} +";
const DAMAGED: &str = "/var/lib/spinesight/spool/damaged";
const TRAIL: &str = "/var/lib/spinesight/audit";

/// Every file of every scan of a board, by digest and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    files: BTreeSet<String>,
}

impl Stored {
    /// Asks a board, whose service may be running.
    ///
    /// # Errors
    /// When the board cannot be reached.
    pub fn on(guest: &Guest) -> Result<Stored> {
        Ok(Stored::of(&guest.ask(LIST)?))
    }

    fn of(list: &str) -> Stored {
        Stored { files: list.lines().map(str::to_owned).collect() }
    }

    /// How many scans it has.
    pub fn scans(&self) -> usize {
        let folder = |line: &String| line.split('/').nth(1).map(str::to_owned);
        self.files.iter().filter_map(folder).collect::<BTreeSet<_>>().len()
    }

    /// Whether a board, whose service has started, still has all of this, unchanged, with an audit
    /// trail in order.
    ///
    /// # Errors
    /// When something is missing or was set aside as damaged.
    pub fn check(&self, guest: &Guest) -> Result<()> {
        // One question, because a login takes an emulated board seconds.
        let answer = guest.ask(&format!(
            "ls {DAMAGED} 2>/dev/null | wc -l && spinesight audit verify {TRAIL} >&2 && {LIST}"
        ))?;
        let (damaged, list) = answer.split_once('\n').unwrap_or((&answer, ""));
        ensure!(damaged.trim() == "0", "{damaged} scans were set aside as damaged");
        let now = Stored::of(list);
        let lost: Vec<_> = self.files.difference(&now.files).map(String::as_str).collect();
        ensure!(lost.is_empty(), "lost or changed: {}", lost.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_folders() {
        let files = ["1  ./a/source.dcm", "2  ./a/results/x.dcm", "3  ./b/source.dcm"];
        let stored = Stored { files: files.map(str::to_owned).into() };
        assert_eq!(stored.scans(), 2);
    }
}
