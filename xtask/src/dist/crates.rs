//! The crates that a board's program is linked from, as cargo tells for the target.
//!
//! What only runs while it is built (build scripts, procedural macros) is not in the program and
//! not in the list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cross::{Cross, Places, TARGET};
use crate::process;

/// A crate's name and version.
pub type Id = (String, String);

/// A linked crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crate {
    /// Its name and version.
    pub id: Id,
    /// SPDX expression.
    pub licence: String,
    /// Its sources.
    pub folder: PathBuf,
    /// Where its sources are published.
    pub repository: Option<String>,
    /// SHA-256 of its package in the registry; none for the workspace's own.
    pub checksum: Option<String>,
    /// Crates it uses.
    pub needs: Vec<Id>,
}

/// Every crate linked into the package `device`, in the order of their names.
///
/// # Errors
/// When cargo cannot tell, or a crate names no licence.
pub fn linked(cross: &Cross, places: &Places) -> Result<Vec<Crate>> {
    let cargo = |arguments: &[&str]| -> Result<String> {
        let mut command = cross.cargo_in(places)?;
        let output = process::output(command.args(arguments).arg("--locked"));
        output.with_context(|| format!("`cargo {}` fails", arguments.join(" ")))
    };
    let tree = cargo(&[
        "tree",
        "--package",
        "device",
        "--target",
        TARGET,
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "depth",
        "--format",
        "|{p}",
    ])?;
    let metadata = cargo(&["metadata", "--format-version", "1", "--filter-platform", TARGET])?;
    let metadata = serde_json::from_str(&metadata).context("cargo's metadata are no JSON")?;
    let lock = std::fs::read_to_string(places.source.join("Cargo.lock"))?;
    described(&edges(&tree)?, &metadata, &checksums(&lock)?)
}

/// Who uses whom, from lines `DEPTH|NAME vVERSION ...`.
fn edges(tree: &str) -> Result<BTreeMap<Id, Vec<Id>>> {
    let mut found: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    let mut above: Vec<Id> = Vec::new();
    for line in tree.lines() {
        let odd = || format!("`cargo tree` prints an odd line: {line}");
        let (depth, package) = line.split_once('|').with_context(odd)?;
        let depth: usize = depth.parse().with_context(odd)?;
        let mut words = package.split(' ');
        let name = words.next().with_context(odd)?;
        let version = words.next().and_then(|word| word.strip_prefix('v')).with_context(odd)?;
        let id = (name.to_owned(), version.to_owned());
        above.truncate(depth);
        if let Some(user) = above.last() {
            let needs = found.entry(user.clone()).or_default();
            if !needs.contains(&id) {
                needs.push(id.clone());
            }
        }
        found.entry(id.clone()).or_default();
        above.push(id);
    }
    Ok(found)
}

/// SHA-256 of each package from a registry.
fn checksums(lock: &str) -> Result<BTreeMap<Id, String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock is damaged")?;
    let packages =
        lock.get("package").and_then(|it| it.as_array()).context("an empty Cargo.lock")?;
    let entry = |package: &toml::Value| {
        let text = |key: &str| Some(package.get(key)?.as_str()?.to_owned());
        Some(((text("name")?, text("version")?), text("checksum")?))
    };
    Ok(packages.iter().filter_map(entry).collect())
}

fn described(
    edges: &BTreeMap<Id, Vec<Id>>,
    metadata: &Value,
    checksums: &BTreeMap<Id, String>,
) -> Result<Vec<Crate>> {
    let packages = metadata["packages"].as_array().context("cargo's metadata have no packages")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let by_id: BTreeMap<Id, &Value> = packages
        .iter()
        .filter_map(|package| {
            Some(((text(&package["name"])?, text(&package["version"])?), package))
        })
        .collect();
    let describe = |(id, needs): (&Id, &Vec<Id>)| {
        let package = by_id.get(id).with_context(|| format!("cargo knows nothing of {id:?}"))?;
        let Some(licence) = package["license"].as_str() else {
            bail!("the crate {} {} names no licence: do not ship it", id.0, id.1);
        };
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        Ok(Crate {
            id: id.clone(),
            licence: expression(licence),
            folder: Path::new(manifest).parent().context("a package without a folder")?.into(),
            repository: text(&package["repository"]),
            checksum: checksums.get(id).cloned(),
            needs: needs.clone(),
        })
    };
    edges.iter().map(describe).collect()
}

/// An SPDX expression; older crates write `/` for `OR`.
fn expression(licence: &str) -> String {
    let parts: Vec<_> = licence.split('/').map(str::trim).collect();
    parts.join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> Id {
        (name.to_owned(), "1.0.0".to_owned())
    }

    const TREE: &str = "0|device v1.0.0 (/clone/device)\n1|a v1.0.0\n2|b v1.0.0\n1|b v1.0.0\n\
                        1|c v1.0.0\n2|a v1.0.0 (*)";

    #[test]
    fn a_tree_tells_who_uses_whom() {
        let edges = edges(TREE).unwrap();
        assert_eq!(edges[&id("device")], [id("a"), id("b"), id("c")]);
        assert_eq!(edges[&id("a")], [id("b")]);
        assert_eq!(edges[&id("c")], [id("a")]);
        assert!(edges[&id("b")].is_empty());
        assert!(super::edges("no tree").is_err());
    }

    fn metadata(licence: &str) -> Value {
        let package = |name: &str| {
            serde_json::json!({
                "name": name, "version": "1.0.0", "license": licence,
                "manifest_path": format!("/crates/{name}/Cargo.toml"), "repository": null,
            })
        };
        serde_json::json!({"packages": [package("device"), package("a"), package("b"), package("c"),
            package("unused")]})
    }

    #[test]
    fn what_is_not_linked_is_not_listed() {
        let checksums = BTreeMap::from([(id("a"), "ab".to_owned())]);
        let found = described(&edges(TREE).unwrap(), &metadata("MIT/Apache-2.0"), &checksums);
        let found = found.unwrap();
        let names: Vec<_> = found.iter().map(|found| found.id.0.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "device"]);
        assert_eq!(found[0].licence, "MIT OR Apache-2.0");
        assert_eq!(found[0].checksum.as_deref(), Some("ab"));
        assert_eq!(found[0].folder, Path::new("/crates/a"));
    }

    #[test]
    fn a_crate_without_a_licence_is_not_shipped() {
        let mut metadata = metadata("MIT");
        metadata["packages"][1]["license"] = Value::Null;
        let error = described(&edges(TREE).unwrap(), &metadata, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("names no licence"), "{error}");
    }

    #[test]
    fn a_lock_file_tells_checksums() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"ab\"\n\
                    [[package]]\nname = \"device\"\nversion = \"1.0.0\"\n";
        let found = checksums(lock).unwrap();
        assert_eq!(found, BTreeMap::from([(id("a"), "ab".to_owned())]));
    }
}
