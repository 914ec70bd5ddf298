//! The disk of `disk.c`, which forgets and fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the disk into a folder; returns the library to preload.
pub(super) fn library(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("disk.c"), dir.join("disk.so"));
    fs::write(&source, include_str!("disk.c")).expect("writes");
    let compiled = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.expect("cc, which Rust itself needs, runs").success());
    library
}

/// Makes a folder as a power cut leaves it, from what the disk noted about another.
pub(super) fn restore(store: &Path, folder: &Path, to: &Path) {
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
