//! What says which version a board runs.

use std::process::Command;

use anyhow::{Context, Result};

use crate::board::Board;
use crate::image::program::Program;
use crate::paths::Paths;
use crate::process;

/// The version of an image.
#[derive(Debug)]
pub struct Release {
    /// Grows with each commit.
    pub version: u64,
    /// Twelve digits of the commit, with `-dirty` where files differ from it.
    pub revision: String,
    /// The commit's time, in seconds since 1970; the time of every file in the image.
    pub time: u64,
    compatible: String,
    board: String,
    build_id: String,
}

impl Release {
    /// Reads the clone's state.
    ///
    /// # Errors
    /// When the clone is no git repository, or git is missing.
    pub fn read(paths: &Paths, board: &Board, program: &Program) -> Result<Release> {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            process::output(command.current_dir(&paths.root).args(arguments)).with_context(|| {
                format!("`git {}` fails here: an image needs a clone", arguments.join(" "))
            })
        };
        let dirty = !git(&["status", "--porcelain"])?.is_empty();
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        Ok(Release {
            version: git(&["rev-list", "--count", "HEAD"])?.parse()?,
            revision: if dirty { format!("{commit}-dirty") } else { commit },
            time: git(&["show", "--no-patch", "--format=%ct", "HEAD"])?.parse()?,
            compatible: board.compatible.clone(),
            board: board.name.clone(),
            build_id: program.build_id().to_owned(),
        })
    }

    /// As `/usr/lib/spinesight/release` holds it.
    pub fn text(&self) -> String {
        format!(
            "VERSION={}\nREVISION={}\nCOMPATIBLE={}\nBOARD={}\nBUILD_ID={}\n",
            self.version, self.revision, self.compatible, self.board, self.build_id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_name_and_a_value() {
        let release = Release {
            version: 812,
            revision: "0123456789ab-dirty".into(),
            time: 0,
            compatible: "spinesight-a".into(),
            board: "a".into(),
            build_id: "9cff".into(),
        };
        let text = release.text();
        let names: Vec<_> =
            text.lines().map(|line| line.split_once('=').unwrap().0.to_owned()).collect();
        assert_eq!(names, ["VERSION", "REVISION", "COMPATIBLE", "BOARD", "BUILD_ID"]);
        assert!(text.starts_with("VERSION=812\nREVISION=0123456789ab-dirty\n"));
    }
}
