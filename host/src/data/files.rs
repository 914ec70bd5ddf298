//! Writing a file so that a reader sees the old content or the new, never a half.

use std::fs;
use std::io;
use std::path::Path;

/// Writes `bytes` beside `path` and renames the result over it.
///
/// # Errors
/// What the file system reports; `path` then has its old content.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}
