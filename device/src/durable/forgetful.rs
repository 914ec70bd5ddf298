//! A disk that forgets what was not synced and fails when told, for tests: see `forgetful.c`.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Names the folder of a child's world.
pub(crate) const CHILD: &str = "SPINESIGHT_TEST_CHILD";

/// This test binary, to run one of its ignored tests in a world.
pub(crate) fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("has a name"));
    command.args(["--exact", test, "--ignored", "--test-threads=1", "-q"]);
    command.env(CHILD, dir).stdout(Stdio::null());
    command
}

/// The child's folder and its disk in it, made durable as it is: the power may be cut from now on.
/// None where no parent says so.
pub(crate) fn begin() -> Option<(PathBuf, PathBuf)> {
    let dir = PathBuf::from(env::var_os(CHILD)?);
    let disk = dir.join("disk");
    sync_all(&disk);
    fs::rename(dir.join("plan"), dir.join("cut")).expect("renames");
    Some((dir, disk))
}

fn sync_all(dir: &Path) {
    for entry in fs::read_dir(dir).expect("lists") {
        let entry = entry.expect("entry");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            sync_all(&entry.path());
        } else if kind.is_file() {
            File::open(entry.path()).expect("opens").sync_all().expect("syncs");
        }
    }
    super::sync_dir(dir).expect("syncs");
}

/// Lets a child, an ignored test, work on a disk that `prepare` made, and cuts the power at each
/// of its durable steps in turn. `check` gets the disk as a kill leaves it, and as a cut leaves it
/// that takes everything not synced; and the child's folder. Returns how many steps there were.
pub(crate) fn cut_at_every_step(
    test: &str,
    prepare: impl Fn(&Path, &Path),
    check: impl Fn(&Path, &Path),
) -> usize {
    let tools = fast_dir();
    let library = library(tools.path());
    for step in 1.. {
        let dir = fast_dir();
        let [disk, store, restored] = ["disk", "store", "restored"].map(|it| dir.path().join(it));
        fs::create_dir_all(&disk).expect("makes");
        fs::create_dir_all(&store).expect("makes");
        prepare(&disk, dir.path());
        fs::write(dir.path().join("plan"), step.to_string()).expect("writes");
        let mut command = on_disk(child(test, dir.path()), &library, &disk);
        command.env("DISK_STORE", &store).env("DISK_CUT", dir.path().join("cut"));
        let status = command.status().expect("runs");
        let was_cut = status.signal() == Some(9);
        assert!(was_cut || status.success(), "step {step}: {status}");
        restore(&store, &disk, &restored);
        check(&restored, dir.path());
        check(&disk, dir.path());
        if !was_cut {
            return step - 1;
        }
    }
    0
}

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
        let (kind, what, path) = (part(), part(), to.join(part()));
        match kind {
            "d" => restore_folder(store, what.parse().expect("a number"), &path),
            "l" => symlink(what, path).expect("links"),
            _ => {
                let content = fs::read(store.join(format!("f.{what}"))).unwrap_or_default();
                fs::write(path, content).expect("writes");
            }
        }
    }
}
