//! Which release an archive holds.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::board::Board;
use crate::process;

/// The clone's state.
#[derive(Clone, Debug)]
pub struct Release {
    /// Commits so far: grows with every commit.
    pub version: u64,
    /// Twelve digits of the commit, with `-dirty` where tracked files differ from it.
    pub revision: String,
    /// The commit's time, in seconds since 1970, UTC.
    pub time: u64,
    /// The same as `2026-01-31T12:00:00Z`.
    pub date: String,
}

impl Release {
    /// Reads the state of the clone in `root`.
    ///
    /// # Errors
    /// When it is no clone, or git is missing.
    pub fn read(root: &Path) -> Result<Release> {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.current_dir(root).env("TZ", "UTC").args(arguments);
            process::output(&mut command).with_context(|| {
                format!("`git {}` fails here: a release needs a git clone", arguments.join(" "))
            })
        };
        // Files that git does not track are no part of a build.
        let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        let date = "--date=format-local:%Y-%m-%dT%H:%M:%SZ";
        Ok(Release {
            version: git(&["rev-list", "--count", "HEAD"])?.parse()?,
            revision: if dirty { format!("{commit}-dirty") } else { commit },
            time: git(&["show", "--no-patch", "--format=%ct", "HEAD"])?.parse()?,
            date: git(&["show", "--no-patch", date, "--format=%cd", "HEAD"])?,
        })
    }

    /// The lines that a board keeps: what it runs.
    pub fn text(&self, board: &Board, build_id: &str) -> String {
        format!(
            "VERSION={}\nREVISION={}\nCOMPATIBLE={}\nBOARD={}\nBUILD_ID={build_id}\n",
            self.version, self.revision, board.compatible, board.name
        )
    }

    /// What a board's archive and its folder are called.
    pub fn name(&self, board: &Board) -> String {
        format!("spinesight-{}-{}-{}", board.name, self.version, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    #[test]
    fn every_line_is_a_name_and_a_value() {
        let paths = Paths::from_env().unwrap();
        let board = Board::find(&paths, "rpi5").unwrap();
        let revision = "0123456789ab-dirty".to_owned();
        let release = Release { version: 812, revision, time: 0, date: String::new() };
        let text = release.text(&board, "9cff");
        let names: Vec<_> =
            text.lines().map(|line| line.split_once('=').unwrap().0.to_owned()).collect();
        assert_eq!(names, ["VERSION", "REVISION", "COMPATIBLE", "BOARD", "BUILD_ID"]);
        assert!(text.starts_with("VERSION=812\nREVISION=0123456789ab-dirty\n"), "{text}");
        assert_eq!(release.name(&board), "spinesight-rpi5-812-0123456789ab-dirty");
    }

    #[test]
    fn what_is_no_clone_has_no_release() {
        let folder = tempfile::tempdir().unwrap();
        let error = Release::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("git clone"), "{error}");
    }
}
