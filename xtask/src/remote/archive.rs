//! Test programs for AArch64, built and packed by `cargo nextest archive`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::cached;
use crate::paths::Paths;
use crate::process;

/// Installed where there is none.
const NEXTEST: (&str, &str) = ("cargo-nextest", "0.9.143");

/// Archives the tests of packages and unpacks them: programs by name, such as `models`.
///
/// `cargo` makes a cargo command of the arguments, for AArch64; `folder` takes the archive.
///
/// # Errors
/// When nextest cannot be installed, or a package does not build.
pub fn make(
    paths: &Paths,
    folder: &Path,
    packages: &[&str],
    cargo: impl Fn(&[&str]) -> Result<Command>,
) -> Result<Vec<(String, PathBuf)>> {
    let search = search_path(paths)?;
    let describe = || format!("cannot write {}", folder.display());
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(describe)?;
    let archive = folder.join("tests.tar.zst");
    let file = archive.to_str().context("the cache folder's name is no Unicode")?;
    let mut arguments = vec!["nextest", "archive", "--lib", "--archive-file", file];
    for package in packages {
        arguments.extend(["--package", package]);
    }
    let mut command = cargo(&arguments)?;
    process::run(command.env("PATH", &search))?;
    // Unpacks, and lists programs instead of running them.
    let mut list = process::cargo_in(folder);
    list.args(["nextest", "list", "--archive-file", file, "--extract-to"]).arg(&unpacked);
    list.args(["--extract-overwrite", "--list-type", "binaries-only", "--message-format", "json"]);
    let listing = process::capture(list.env("PATH", &search))?;
    programs_in(&listing, &unpacked)
}

/// Where programs are looked for, cargo's subcommand nextest among them.
fn search_path(paths: &Paths) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut ask = process::cargo_in(&paths.root);
    if process::output(ask.args(["nextest", "--version"])).is_some() {
        return Ok(path);
    }
    let (name, version) = NEXTEST;
    eprintln!("installing {name} from crates.io, which takes some minutes once");
    let program = cached::tool(paths, name, version)?;
    let folder = program.parent().map(Path::to_path_buf);
    let folders = folder.into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("the cache folder's name has a colon")
}

/// What nextest says of an archive.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Listing {
    rust_build_meta: BuildMeta,
    rust_binaries: BTreeMap<String, Binary>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BuildMeta {
    target_directory: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Binary {
    binary_path: PathBuf,
}

fn programs_in(listing: &str, unpacked: &Path) -> Result<Vec<(String, PathBuf)>> {
    let listing: Listing = serde_json::from_str(listing).context("nextest says something else")?;
    let built = &listing.rust_build_meta.target_directory;
    let mut tests = Vec::new();
    for (name, binary) in listing.rust_binaries {
        // Where it was built; in the archive the build folder is called `target`.
        let Ok(inside) = binary.binary_path.strip_prefix(built) else {
            bail!("{} is not below {}", binary.binary_path.display(), built.display());
        };
        tests.push((name, unpacked.join("target").join(inside)));
    }
    ensure!(!tests.is_empty(), "the archive has no test programs");
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_unpacked_archive() {
        let listing = r#"{"rust-build-meta": {"target-directory": "/t", "linked-paths": []},
            "rust-binaries": {"models": {"binary-id": "models", "kind": "lib",
            "binary-path": "/t/aarch64/debug/deps/models-1", "build-platform": "target"}}}"#;
        let programs = programs_in(listing, Path::new("/u")).unwrap();
        let expected = PathBuf::from("/u/target/aarch64/debug/deps/models-1");
        assert_eq!(programs, [("models".to_owned(), expected)]);
        assert!(programs_in(&listing.replace("\"/t\"", "\"/s\""), Path::new("/u")).is_err());
        assert!(programs_in("{}", Path::new("/u")).is_err());
    }
}
