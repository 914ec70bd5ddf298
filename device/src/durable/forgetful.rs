//! A disk that forgets what was not synced and fails when told, for tests: see `forgetful.c`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Compiles the disk into a folder; returns the library to preload.
pub(crate) fn library(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("forgetful.c"), dir.join("forgetful.so"));
    fs::write(&source, include_str!("forgetful.c")).expect("writes");
    let compiled = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.expect("cc, which Rust itself needs, runs").success());
    library
}

/// A command on this disk, for what lies below `root`.
pub(crate) fn on_disk(mut command: Command, library: &Path, root: &Path) -> Command {
    command.env("LD_PRELOAD", library).env("DISK_ROOT", root);
    command
}

/// A folder in memory where there is one, for a killed process leaves it as a disk would.
pub(crate) fn fast_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    dir.expect("a folder")
}

/// Makes a folder as a power cut leaves it, from what the disk noted about another.
pub(crate) fn restore(store: &Path, folder: &Path, to: &Path) {
    use std::os::unix::fs::MetadataExt;
    restore_folder(store, fs::metadata(folder).expect("is there").ino(), to);
}

fn restore_folder(store: &Path, inode: u64, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    let list = fs::read_to_string(store.join(format!("d.{inode}"))).unwrap_or_default();
    for entry in list.lines() {
        let mut parts = entry.splitn(3, ' ');
        let mut part = || parts.next().expect("has three parts");
        let (kind, inode, name) = (part(), part().parse::<u64>().expect("a number"), part());
        if kind == "d" {
            restore_folder(store, inode, &to.join(name));
        } else {
            let content = fs::read(store.join(format!("f.{inode}"))).unwrap_or_default();
            fs::write(to.join(name), content).expect("writes");
        }
    }
}
