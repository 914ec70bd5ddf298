//! Durable steps on files and folders: what returns `Ok` survives a power cut.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::failpoint::reach;

/// What unfinished files end in; swept at start.
pub(super) const UNFINISHED: &str = ".part";

/// Writes a file so that its name holds all of the bytes or what it held before.
///
/// The name itself is durable once the folder is: see [`sync_dir`].
pub(super) fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(format!(".{name}{UNFINISHED}"));
    let written = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        reach("disk.written");
        file.sync_all()?;
        reach("disk.synced");
        fs::rename(&unfinished, dir.join(name))?;
        reach("disk.renamed");
        Ok(())
    };
    written().inspect_err(|_| {
        // Swept at the next start where it cannot be removed now.
        let _ = fs::remove_file(&unfinished);
    })
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a folder, its parents too; `Ok` where it exists. Its name is not yet durable.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

/// Space that this user may still fill, in bytes.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
