//! The licences of everything that is linked, with the texts that their packages carry.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::crates::Crate;
use super::parts::Parts;
use crate::cross::Cross;
use crate::paths::{Paths, entries};

/// How the names of files with licences begin, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
/// Endings of files that have such names and are no texts.
const CODE: [&str; 8] = ["rs", "c", "h", "py", "toml", "json", "yml", "sh"];
const RULE: &str =
    "--------------------------------------------------------------------------------";

/// A text and who comes under it.
type Texts = BTreeMap<String, Vec<String>>;

/// One document: who is linked under which licence, then every text with those it is from.
///
/// # Errors
/// When a text cannot be read, or Rust's standard library came without its own.
pub fn document(paths: &Paths, cross: &Cross, parts: &Parts) -> Result<String> {
    let mut list = String::from(
        "Spinesight is under the MIT or the Apache-2.0 licence, at your choice. It is linked from\n\
         the following; the texts of their licences stand below, as their packages carry them.\n\n",
    );
    let mut texts = Texts::new();
    for part in &parts.crates {
        let name = format!("{} {}", part.id.0, part.id.1);
        let files = texts_of(paths, part)?;
        let remark = if files.is_empty() { " (its package carries no text)" } else { "" };
        let _ = writeln!(list, "{name}: {}{remark}", part.licence);
        files.into_iter().for_each(|text| texts.entry(text).or_default().push(name.clone()));
    }
    for library in &parts.others {
        let _ = writeln!(list, "{} {}: {}", library.name, library.version, library.licence);
    }
    let file = cross.library_licence().context(
        "the Rust compiler came without the licence of its library: install its documentation",
    )?;
    texts.entry(read(&file)?).or_default().push("rust-std".into());
    Ok(list + &joined(texts))
}

/// What a crate's package carries; the clone's own for its own packages.
fn texts_of(paths: &Paths, part: &Crate) -> Result<Vec<String>> {
    let files = if part.checksum.is_none() {
        vec![paths.root.join("LICENSE-MIT"), paths.root.join("LICENSE-APACHE")]
    } else {
        let mut files = Vec::new();
        collect(&part.folder, &mut files)?;
        files
    };
    files.iter().map(|file| read(file)).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in entries(folder)? {
        if entry.is_dir() {
            collect(&entry, found)?;
        } else if holds_a_licence(&entry) {
            found.push(entry);
        }
    }
    Ok(())
}

fn holds_a_licence(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let ending = file.extension().unwrap_or_default().to_string_lossy();
    NAMES.iter().any(|start| name.starts_with(start)) && !CODE.contains(&&*ending)
}

/// The text without what does not show, so that equal texts are equal.
fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n").trim_matches('\n').to_owned())
}

/// Every text under the names of those it is from, in the order of those names.
fn joined(texts: Texts) -> String {
    let mut sections: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
    sections.sort();
    let mut document = String::new();
    for (mut names, text) in sections {
        names.dedup();
        let _ = write!(document, "\n{RULE}\n{}\n{RULE}\n\n{text}\n", names.join(", "));
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_licences_are_known_by_their_names() {
        let check = |name: &str| holds_a_licence(Path::new(name));
        assert!(check("LICENSE") && check("a/LICENSE-MIT") && check("license.txt"));
        assert!(check("COPYING") && check("NOTICE.md") && check("UNLICENSE"));
        assert!(!check("src/license.rs") && !check("README.md") && !check("my-LICENSE"));
    }

    #[test]
    fn one_text_of_several_crates_stands_once() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let texts = Texts::from([
            ("Apache".to_owned(), names(&["b 1", "c 1", "c 1"])),
            ("MIT".to_owned(), names(&["a 1"])),
        ]);
        let document = joined(texts);
        assert_eq!(document.matches("Apache").count(), 1);
        assert!(document.find("a 1").unwrap() < document.find("b 1, c 1\n").unwrap());
    }

    #[test]
    fn texts_are_found_in_folders_too_and_compared_without_what_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("third_party")).unwrap();
        fs::write(folder.path().join("LICENSE"), "a  \r\nb\n\n").unwrap();
        fs::write(folder.path().join("third_party/COPYING"), "a\nb").unwrap();
        let mut files = Vec::new();
        collect(folder.path(), &mut files).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(read(&files[0]).unwrap(), read(&files[1]).unwrap());
    }
}
