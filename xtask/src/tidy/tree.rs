//! The repository's files, as the rules see them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::entries;
use crate::process;

/// Text beyond this size is not read: only models and samples may be so large.
const MAX_TEXT: u64 = 4 << 20;

/// All files of the repository, sorted by path.
pub struct Tree {
    /// In order of their paths.
    pub files: Vec<File>,
}

/// One file.
pub struct File {
    /// Path from the root of the clone, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Content, where it is text.
    pub text: Option<String>,
}

impl Tree {
    /// Reads the repository's files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(root: &Path) -> Result<Tree> {
        let paths = paths(root)?;
        let files = paths.into_iter().map(|path| File::read(root, path)).collect::<Result<_>>()?;
        Ok(Tree { files })
    }

    /// The file of that path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Files that hold text, with it.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    /// Rust sources, with their text.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// A tree of made-up text files, for the tests of the rules.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).into(),
            size: text.len() as u64,
            text: Some((*text).into()),
        };
        Tree { files: files.iter().map(file).collect() }
    }
}

impl File {
    fn read(root: &Path, path: String) -> Result<File> {
        let absolute = root.join(&path);
        let describe = || format!("cannot read {}", absolute.display());
        let size = fs::metadata(&absolute).with_context(describe)?.len();
        let mut text = None;
        if size <= MAX_TEXT {
            let bytes = fs::read(&absolute).with_context(describe)?;
            text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        }
        Ok(File { path, size, text })
    }
}

/// Paths of the repository's files from the root of the clone, sorted: those that git tracks; all
/// that are not ignored where git cannot tell.
///
/// # Errors
/// When a folder cannot be listed.
pub fn paths(root: &Path) -> Result<Vec<String>> {
    let mut paths = match tracked(root) {
        Some(paths) => paths,
        None => walk(root)?,
    };
    paths.sort();
    // A file that is tracked and deleted is no file.
    paths.retain(|path| root.join(path).is_file());
    Ok(paths)
}

/// Paths that git tracks; `None` without git, outside a clone, and in one with nothing tracked.
fn tracked(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    let listing = process::output(git.args(["ls-files", "-z"]).current_dir(root))?;
    let paths: Vec<String> = listing.split_terminator('\0').map(String::from).collect();
    (!paths.is_empty()).then_some(paths)
}

/// All files, except those of top-level entries that `.gitignore` names as `/name`.
fn walk(root: &Path) -> Result<Vec<String>> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let mut found = Vec::new();
    for entry in entries(root)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        let is_ignored = ignored.lines().any(|line| line.strip_prefix('/') == Some(name));
        if name != ".git" && !is_ignored {
            collect(&entry, name.to_owned(), &mut found)?;
        }
    }
    Ok(found)
}

fn collect(path: &Path, name: String, found: &mut Vec<String>) -> Result<()> {
    if !path.is_dir() {
        found.push(name);
        return Ok(());
    }
    for entry in entries(path)? {
        if let Some(part) = entry.file_name().and_then(|part| part.to_str()) {
            collect(&entry, format!("{name}/{part}"), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_skips_what_git_would_ignore() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (path, text) in [
            (".gitignore", "/target\n/runs\n"),
            ("src/main.rs", "fn main() {}"),
            ("src/target/kept", ""),
            ("target/debug/x", ""),
            (".git/HEAD", ""),
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        let mut found = walk(root).unwrap();
        found.sort();
        assert_eq!(found, [".gitignore", "src/main.rs", "src/target/kept"]);
    }

    #[test]
    fn only_text_is_read_as_text() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [0xFF, 0xFE]).unwrap();
        fs::write(folder.path().join("b"), "spine").unwrap();
        let read = |name: &str| File::read(folder.path(), name.into()).unwrap();
        assert_eq!((read("a").text, read("a").size), (None, 2));
        assert_eq!(read("b").text.as_deref(), Some("spine"));
    }
}
