//! Where things are: the clone, the user's cache folder, the build folders.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result, bail};

/// Absolute paths that every task uses.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The clone: the folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Downloads, libtorch, Python environments; survives `cargo clean` and a new clone.
    pub cache: PathBuf,
    /// Build folder of everything but xtask: outside the clone unless `$CARGO_TARGET_DIR` says
    /// otherwise, so that several clones share the minutes of compiling the inference engine.
    pub target: PathBuf,
    /// Build folder xtask itself was built in by `cargo xtask`.
    pub own_target: PathBuf,
}

impl Paths {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Paths> {
        Paths::from_variables(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Paths> {
        // Cargo sets the folder at run time too; the compiled-in one is for a direct call.
        let manifest = variable("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = match manifest.parent() {
            Some(parent) if parent.join("Cargo.toml").is_file() => parent.to_path_buf(),
            _ => bail!("{} is not in the clone: start with `cargo xtask`", manifest.display()),
        };
        let cache = if let Some(folder) = variable("SPINESIGHT_CACHE") {
            PathBuf::from(folder)
        } else if let Some(folder) = variable("XDG_CACHE_HOME") {
            PathBuf::from(folder).join("spinesight")
        } else if let Some(home) = variable("HOME") {
            PathBuf::from(home).join(".cache/spinesight")
        } else {
            bail!("no home folder is known: set SPINESIGHT_CACHE to a folder with 10 GB of space");
        };
        let cache = absolute(cache)?;
        let chosen = variable("CARGO_TARGET_DIR").map(absolute).transpose()?;
        let target = chosen.clone().unwrap_or_else(|| cache.join("target"));
        let own_target = chosen.unwrap_or_else(|| root.join("target"));
        Ok(Paths { root, cache, target, own_target })
    }
}

/// Files and folders directly inside a folder, sorted by name; empty when the folder is missing.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let result: std::io::Result<Vec<PathBuf>> = read();
    let mut found = result.with_context(|| format!("cannot list {}", folder.display()))?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], cache: &str, target: &str) {
        let look_up = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let paths = Paths::from_variables(look_up).unwrap();
        assert_eq!(paths.cache, Path::new(cache));
        assert_eq!(paths.target, Path::new(target));
        assert!(paths.root.join("Cargo.toml").is_file());
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let home = ("HOME", "/h");
        let xdg = ("XDG_CACHE_HOME", "/x");
        let own = ("SPINESIGHT_CACHE", "/s");
        check(&[home], "/h/.cache/spinesight", "/h/.cache/spinesight/target");
        check(&[home, xdg], "/x/spinesight", "/x/spinesight/target");
        check(&[home, xdg, own], "/s", "/s/target");
        check(&[home, ("CARGO_TARGET_DIR", "/t")], "/h/.cache/spinesight", "/t");
    }

    #[test]
    fn without_any_folder_the_error_says_what_to_set() {
        let error = Paths::from_variables(|_| None).unwrap_err();
        assert!(error.to_string().contains("SPINESIGHT_CACHE"));
    }

    #[test]
    fn a_missing_folder_has_no_entries() {
        assert!(entries(Path::new("/no/such/folder")).unwrap().is_empty());
    }
}
