//! Durable steps on files and folders: what returns `Ok` survives a power cut.

#[cfg(test)]
pub(crate) mod forgetful;

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::failpoint::reach;

/// What unfinished files end in; swept at start.
pub(crate) const UNFINISHED: &str = ".part";

/// Writes a file so that its name holds all of the bytes or what it held before.
///
/// The name itself is durable once the folder is: see [`sync_dir`].
pub(crate) fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write(dir, name, bytes, None)
}

/// Writes a file with these permissions, whatever those of new files are otherwise. When this
/// returns, the name is durable too.
pub(crate) fn place_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let dir = folder_of(path);
    write(dir, &name.to_string_lossy(), bytes, Some(mode))?;
    sync_dir(dir)
}

fn write(dir: &Path, name: &str, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    let unfinished = dir.join(format!(".{name}{UNFINISHED}"));
    let written = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        if let Some(mode) = mode {
            // Before there is anything to be seen.
            file.set_permissions(Permissions::from_mode(mode))?;
        }
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

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Space that this user may still fill, in bytes.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// How long to wait for a process that is just ending and still holds a lock.
const PATIENCE: Duration = Duration::from_millis(500);

/// Takes a lock that ends with the process or the returned file; none where another holds it.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::create(path)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => return Ok(None),
            Err(TryLockError::WouldBlock) => sleep(PATIENCE / 20),
        }
    }
}
