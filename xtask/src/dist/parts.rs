//! Everything the program is made of, crates and what they bring along.

use std::fs;

use anyhow::{Context, Result};

use super::crates::{self, Crate};
use crate::cross::{Cross, Places};

/// What is linked into a program.
#[derive(Debug)]
pub struct Parts {
    /// Crates, in the order of their names; the program's own package among them.
    pub crates: Vec<Crate>,
    /// Libraries that are not crates.
    pub others: Vec<Library>,
}

/// A library that is not a crate.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: String,
    /// SPDX expression.
    pub licence: &'static str,
    /// The crate that brings it along, where one does.
    pub within: Option<&'static str>,
}

/// Finds all parts.
///
/// # Errors
/// When one does not tell its version or licence.
pub fn find(cross: &Cross, places: &Places) -> Result<Parts> {
    let crates = crates::linked(cross, places)?;
    let version = cross.compiler_version()?;
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    let mut others = vec![Library {
        name: "rust-std",
        version: release.context("the compiler tells no version")?.to_owned(),
        licence: "MIT OR Apache-2.0",
        within: None,
    }];
    if let Some(carrier) = crates.iter().find(|it| it.id.0 == SQLITE_CARRIER) {
        let header = carrier.folder.join("sqlite3/sqlite3.h");
        let text = fs::read_to_string(&header)
            .with_context(|| format!("cannot read {}", header.display()))?;
        let version = sqlite_version(&text).context("SQLite's header tells no version")?;
        others.push(Library {
            name: "sqlite",
            version,
            licence: "blessing",
            within: Some(SQLITE_CARRIER),
        });
    }
    Ok(Parts { crates, others })
}

/// The crate that holds SQLite's source.
const SQLITE_CARRIER: &str = "libsqlite3-sys";

fn sqlite_version(header: &str) -> Option<String> {
    let line = header.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "))?;
    Some(line.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_tells_its_version() {
        let header =
            "/* x */\n#define SQLITE_VERSION        \"3.50.2\"\n#define SQLITE_VERSION_NUMBER 3";
        assert_eq!(sqlite_version(header).unwrap(), "3.50.2");
        assert_eq!(sqlite_version(""), None);
    }
}
