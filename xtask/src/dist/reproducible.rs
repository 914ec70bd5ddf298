//! The proof that an archive depends on its commit alone: it is made again from nothing, with
//! every folder in another place and under another name, and compared byte by byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::{Packed, archive, pack};
use crate::board::Board;
use crate::cross::{Cross, Places};
use crate::paths::Paths;
use crate::process;
use crate::scratch::Scratch;

/// Makes the archive again and compares it with `packed`.
///
/// # Errors
/// Names the files that differ, when some do.
pub fn check(paths: &Paths, cross: &Cross, board: &Board, packed: &Packed) -> Result<()> {
    eprintln!("building again from nothing in other folders: half an hour of processor time");
    let scratch = Scratch::new(&paths.cache.join("dist-again"))?;
    let places = elsewhere(&scratch, &Places::regular(paths)?)?;
    let again = pack(paths, cross, board, &places, &scratch.folder("packed")?)?;
    let mut differing = Vec::new();
    for (one, two) in [(&packed.archive, &again.archive), (&packed.elf, &again.elf)] {
        if archive::digest(one)? != archive::digest(two)? {
            differing.push(one.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    differing.extend(differences(&packed.folder, &again.folder)?);
    bail!("two builds of the same sources differ in: {}", differing.join(", "))
}

/// Folders with other names than the regular ones.
fn elsewhere(scratch: &Scratch, regular: &Places) -> Result<Places> {
    let crates = scratch.folder("home-of-cargo")?;
    borrow_crates(&regular.crates, &crates)?;
    Ok(Places { source: scratch.folder("another-clone")?, target: scratch.path("results"), crates })
}

/// Gives cargo another home folder with the same packages and settings, so that nothing is
/// downloaded twice. A symbolic link would not do: the compiler resolves some paths and not others.
fn borrow_crates(home: &Path, other: &Path) -> Result<()> {
    for name in ["registry", "config.toml"] {
        let from = home.join(name);
        if !from.exists() {
            continue;
        }
        let copy = |how: &str| {
            let mut copy = Command::new("cp");
            process::run(copy.args(["--archive", "--force", how]).arg(&from).arg(other))
        };
        // Hard links cost nothing, but not every file system takes them.
        copy("--link").or_else(|_| copy("--reflink=auto"))?;
    }
    Ok(())
}

/// Files that two folders do not have in common, by their names inside.
fn differences(one: &Path, two: &Path) -> Result<Vec<String>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [one, two] {
        let mut found = Vec::new();
        archive::collect(folder, &mut found)?;
        let names = found.iter().map(|file| Ok(file.strip_prefix(folder)?.to_owned()));
        files.extend(names.collect::<Result<Vec<_>>>()?);
    }
    files.sort();
    files.dedup();
    let differs = |name: &PathBuf| {
        let [one, two] = [one, two].map(|folder| fs::read(folder.join(name)).ok());
        one != two
    };
    Ok(files.into_iter().filter(differs).map(|name| name.display().to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        for (place, name, text) in [
            (&one, "a", "1"),
            (&two, "a", "1"),
            (&one, "b", "1"),
            (&two, "b", "2"),
            (&two, "c", ""),
        ] {
            fs::create_dir_all(place).unwrap();
            fs::write(place.join(name), text).unwrap();
        }
        assert_eq!(differences(&one, &two).unwrap(), ["b", "c"]);
        assert!(differences(&one, &one).unwrap().is_empty());
    }

    /// Builds the panel's library, which takes seconds, as the board's program is built, and unpacks
    /// it.
    fn library(paths: &Paths, cross: &Cross, places: &Places, folder: &Path) {
        super::super::source::copy(&paths.root, &places.source).unwrap();
        let mut command: Command = cross.cargo_in(places).unwrap();
        command.args(["build", "--locked", "--profile", "dist", "--package", "panel"]);
        process::run(command.args(["--target", crate::cross::TARGET])).unwrap();
        let built = places.target.join(crate::cross::TARGET).join("dist/libpanel.rlib");
        let mut unpack = Command::new("aarch64-linux-gnu-ar");
        process::run(unpack.arg("x").arg(built).current_dir(folder)).unwrap();
    }

    #[test]
    #[ignore = "cross-builds a library twice: `cargo xtask dist --check-reproducible` does it whole"]
    fn a_librarys_code_is_the_same_wherever_it_is_built() {
        let paths = Paths::from_env().unwrap();
        let cross = Cross::find(&paths).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let first = Scratch::new(&folder.path().join("first")).unwrap();
        let second = Scratch::new(&folder.path().join("another")).unwrap();
        let crates = Places::regular(&paths).unwrap().crates;
        let regular = Places { source: first.path("source"), target: first.path("target"), crates };
        let [one, two] = [&first, &second].map(|scratch| scratch.folder("unpacked").unwrap());
        library(&paths, &cross, &regular, &one);
        library(&paths, &cross, &elsewhere(&second, &regular).unwrap(), &two);
        assert!(differences(&one, &two).unwrap().is_empty());
        let mut objects = Vec::new();
        archive::collect(&one, &mut objects).unwrap();
        assert!(objects.len() > 1, "{objects:?}");
        let home = folder.path().to_str().unwrap().as_bytes();
        for object in objects {
            let bytes = fs::read(object).unwrap();
            assert!(!bytes.windows(home.len()).any(|part| part == home));
        }
    }
}
