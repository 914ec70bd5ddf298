//! The convolution kernels as a package of their own, for tests on other processors.
//!
//! The kernels and the thread pool need no inference engine, which takes a quarter of an hour to
//! cross-compile. So they are compiled as a package of their own, written to the cache folder,
//! which holds nothing but the paths of their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::cross::Cross;
use crate::paths::Paths;
use crate::process;

/// The package, written.
pub struct Package<'a> {
    cross: &'a Cross,
    folder: PathBuf,
}

impl<'a> Package<'a> {
    /// Writes the package.
    ///
    /// # Errors
    /// When it cannot be written, or the workspace's manifest is odd.
    pub fn write(paths: &Paths, cross: &'a Cross) -> Result<Package<'a>> {
        Ok(Package { cross, folder: write_package(paths)? })
    }

    /// `cargo` in it, building for AArch64.
    ///
    /// # Errors
    /// When the folder's name cannot be handed to the compiler.
    pub fn cargo(&self, arguments: &[&str]) -> Result<Command> {
        self.cross.cargo(&self.folder, "max", arguments)
    }

    /// Builds the program that names the kernel that a processor gets.
    ///
    /// # Errors
    /// When it does not build.
    pub fn chooser(&self) -> Result<PathBuf> {
        process::built(&mut self.cargo(&["build"])?, "bin", NAME)
    }
}

/// The package's name.
pub const NAME: &str = "kernels";

/// Writes the package of the kernels and returns its folder.
fn write_package(paths: &Paths) -> Result<PathBuf> {
    let folder = paths.cache.join("kernels");
    let describe = || format!("cannot write {}", folder.display());
    let manifest = fs::read_to_string(paths.root.join("Cargo.toml")).with_context(describe)?;
    let manifest = manifest_from(&manifest.parse()?).context("the workspace's manifest is odd")?;
    let write = || {
        fs::create_dir_all(folder.join("src"))?;
        // The versions of the workspace; cargo drops those that are not needed.
        fs::copy(paths.root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        fs::write(folder.join("Cargo.toml"), manifest.to_string())?;
        fs::write(folder.join("src/lib.rs"), library(&paths.root))?;
        fs::write(folder.join("src/main.rs"), PROGRAM)
    };
    write().with_context(describe)?;
    Ok(folder)
}

/// The package's manifest: edition, profile and the one dependency as in the workspace.
fn manifest_from(workspace: &Table) -> Option<Table> {
    let common = workspace.get("workspace")?;
    let mut package = Table::new();
    package.insert("name".into(), NAME.into());
    package.insert("edition".into(), common.get("package")?.get("edition")?.clone());
    let dependency = common.get("dependencies")?.get("thiserror")?.clone();
    Some(Table::from_iter([
        ("package".into(), Value::Table(package)),
        (
            "dependencies".into(),
            Value::Table([("thiserror".into(), dependency)].into_iter().collect()),
        ),
        ("profile".into(), workspace.get("profile")?.clone()),
        // On its own, even where the cache folder lies inside another workspace.
        ("workspace".into(), Value::Table(Table::new())),
    ]))
}

/// Two modules of the device's runtime, under the names they have there.
fn library(root: &Path) -> String {
    let runtime = root.join("device/src/runtime");
    let (pool, qconv) = (runtime.join("pool.rs"), runtime.join("qconv/mod.rs"));
    format!(
        "pub mod runtime {{\n    #[path = {pool:?}]\n    pub mod pool;\n    #[path = {qconv:?}]\n    \
         pub mod qconv;\n}}\n"
    )
}

/// Names the kernel that this processor gets.
const PROGRAM: &str = r#"fn main() {
    println!("{}", kernels::runtime::qconv::Kernel::fastest().name());
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_made_like_the_workspace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
        let manifest = manifest_from(&workspace).unwrap();
        assert_eq!(manifest["profile"], workspace["profile"]);
        assert!(manifest["dependencies"]["thiserror"].is_str());
        assert!(manifest_from(&Table::new()).is_none());
    }

    #[test]
    fn the_packages_modules_exist() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let library = library(root);
        let paths: Vec<&str> = library.split('"').skip(1).step_by(2).collect();
        assert_eq!(paths.len(), 2);
        assert!(paths.iter().all(|path| Path::new(path).is_file()), "{paths:?}");
    }
}
