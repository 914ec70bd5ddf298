//! Rules about which room of the workspace may depend on what.

use std::collections::{BTreeMap, BTreeSet};

use super::rust_code::{code_of, lines_with};
use super::tree::Tree;

/// What `models` must never reach, by the start of a package's name: neural-network runtimes,
/// network access, thread pools.
const IMPURE: [&str; 20] = [
    "async-std",
    "burn",
    "candle",
    "crossbeam-deque",
    "curl",
    "hyper",
    "libloading",
    "mio",
    "native-tls",
    "onnxruntime",
    "ort",
    "rayon",
    "reqwest",
    "rustls",
    "socket2",
    "tch",
    "tokio",
    "torch-sys",
    "tract",
    "ureq",
];
const LIBTORCH: [&str; 2] = ["tch", "torch-sys"];
const HOST_SOURCES: &str = "host/src/";
const VERIFICATION: &str = "host/src/export/verify.rs";

/// Packages that `models` reaches and must not.
pub fn impure_models(tree: &Tree) -> Vec<String> {
    let graph = match Graph::of(tree) {
        Ok(graph) => graph,
        Err(violation) => return vec![violation],
    };
    let reached = graph.closure("models").into_iter();
    let impure = reached.filter(|package| IMPURE.iter().any(|name| is_of(package, name)));
    impure.map(|package| format!("models depends on {package}")).collect()
}

/// `device` with libtorch, `host` with tract of its own.
pub fn crossed(tree: &Tree) -> Vec<String> {
    let graph = match Graph::of(tree) {
        Ok(graph) => graph,
        Err(violation) => return vec![violation],
    };
    let device = graph.closure("device").into_iter();
    let mut found: Vec<String> = device
        .filter(|package| LIBTORCH.contains(package))
        .map(|package| format!("device depends on {package}"))
        .collect();
    let host = graph.direct("host").iter().filter(|package| is_of(package, "tract"));
    found.extend(host.map(|package| format!("host depends on {package} directly")));
    found
}

/// Uses of the device library in `host`, outside its verification step.
pub fn device_in_host(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        if !path.starts_with(HOST_SOURCES) || path == VERIFICATION {
            continue;
        }
        let code = code_of(text);
        // `tch::Device` and paths into host's own modules are something else.
        let code = ["crate::device", "self::device", "super::device", "r#device"]
            .iter()
            .fold(code, |code, own| code.replace(own, ""));
        let mut lines = lines_with(&code, "device::");
        lines.extend(lines_with(&code, "use device"));
        lines.extend(lines_with(&code, "extern crate device"));
        lines.sort_unstable();
        lines.dedup();
        let report = |line| format!("{path}:{line}: uses the device library");
        found.extend(lines.into_iter().map(report));
    }
    found
}

/// Whether a package is `name` or one of its family (`name-part`).
fn is_of(package: &str, name: &str) -> bool {
    package.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Package names and what each depends on, from `Cargo.lock`: features of the whole workspace,
/// every platform, development dependencies included, so a rule is rather too strict.
struct Graph {
    dependencies: BTreeMap<String, Vec<String>>,
}

impl Graph {
    fn of(tree: &Tree) -> Result<Graph, String> {
        let text = tree.file("Cargo.lock").and_then(|file| file.text.as_deref());
        let lock: toml::Table = text
            .ok_or("Cargo.lock is missing")?
            .parse()
            .map_err(|error| format!("Cargo.lock: {error}"))?;
        let packages = lock.get("package").and_then(|list| list.as_array());
        let mut dependencies: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in packages.ok_or("Cargo.lock lists no packages")? {
            let name = package.get("name").and_then(|name| name.as_str()).unwrap_or_default();
            let list = package.get("dependencies").and_then(|list| list.as_array());
            // `name`, or `name version` where several versions exist: versions are merged.
            let names = list.into_iter().flatten().filter_map(|entry| entry.as_str());
            let names = names.filter_map(|entry| entry.split(' ').next()).map(String::from);
            dependencies.entry(name.to_owned()).or_default().extend(names);
        }
        for room in ["models", "host", "device"] {
            if !dependencies.contains_key(room) {
                return Err(format!("Cargo.lock has no package `{room}`"));
            }
        }
        Ok(Graph { dependencies })
    }

    fn direct(&self, package: &str) -> &[String] {
        self.dependencies.get(package).map_or(&[], Vec::as_slice)
    }

    /// Everything a package reaches, itself excluded.
    fn closure<'a>(&'a self, package: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![package];
        while let Some(next) = open.pop() {
            let new = self.direct(next).iter().map(String::as_str);
            open.extend(new.filter(|name| reached.insert(*name)));
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock file from lines such as `a: b c`.
    fn lock(lines: &[&str]) -> Tree {
        let mut text = String::from("version = 4\n");
        for line in lines {
            let (name, dependencies) = line.split_once(':').unwrap();
            let quoted: Vec<_> = dependencies.split(',').map(str::trim).collect();
            let list: Vec<_> = quoted.iter().filter(|d| !d.is_empty()).collect();
            text += &format!("[[package]]\nname = \"{name}\"\ndependencies = {list:?}\n");
        }
        Tree::of(&[("Cargo.lock", &text)])
    }

    #[test]
    fn a_runtime_is_found_through_other_packages() {
        let rooms = ["device: models", "host: models, device"];
        let clean = lock(&[&["models: image, toml"], &rooms[..]].concat());
        assert!(impure_models(&clean).is_empty());
        let image = ["models: image", "image: rayon-core 1.13.0", "rayon-core:"];
        let threaded = lock(&[&image[..], &rooms[..]].concat());
        assert_eq!(impure_models(&threaded), ["models depends on rayon-core"]);
    }

    #[test]
    fn a_name_that_only_starts_alike_is_no_relative() {
        assert!(is_of("tract-onnx", "tract") && is_of("tract", "tract"));
        assert!(!is_of("tracing", "tract") && !is_of("tractor", "tract"));
    }

    #[test]
    fn libtorch_stays_out_of_the_device_and_tract_out_of_the_host() {
        let good = ["models:", "device: models, tract-onnx", "host: device, tch", "tch: torch-sys"];
        assert!(crossed(&lock(&good)).is_empty());
        let bad = ["models: tch", "device: models", "host: tract-core", "tch: torch-sys"];
        let expected = [
            "device depends on tch",
            "device depends on torch-sys",
            "host depends on tract-core directly",
        ];
        assert_eq!(crossed(&lock(&bad)), expected);
    }

    #[test]
    fn a_lock_file_without_the_rooms_is_a_violation() {
        assert_eq!(impure_models(&lock(&["models:"])), ["Cargo.lock has no package `host`"]);
        assert_eq!(crossed(&Tree::of(&[])), ["Cargo.lock is missing"]);
    }

    #[track_caller]
    fn check(path: &str, code: &str, violations: usize) {
        let found = device_in_host(&Tree::of(&[(path, code)]));
        assert_eq!(found.len(), violations, "{code}: {found:?}");
    }

    #[test]
    fn the_device_library_is_for_the_verification_step() {
        check("host/src/export/verify.rs", "use device::runtime;", 0);
        check("host/src/train.rs", "use device::runtime;", 1);
        check("host/src/train.rs", "fn f() { device::runtime::load(); }", 1);
        check("host/src/train.rs", "use device as d;", 1);
        check("host/src/train.rs", "/// See `device::runtime`.\nlet s = \"device::x\";", 0);
        check("host/src/train.rs", "use tch::Device;\nlet d = Device::Cpu; my_device::x();", 0);
        check("host/src/train.rs", "use crate::device::pick;", 0);
        check("tests/tests/parity.rs", "use device::runtime;", 0);
    }
}
