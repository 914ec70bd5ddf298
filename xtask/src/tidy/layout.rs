//! Rules about files and folders.

use std::collections::BTreeSet;

use super::tree::Tree;

const TOP_LEVEL: [&str; 16] = [
    ".cargo",
    ".ci",
    ".gitattributes",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "device",
    "host",
    "models",
    "rustfmt.toml",
    "tests",
    "xtask",
];

/// Largest file outside [`LARGE_FOLDERS`], in bytes.
const MAX_SIZE: u64 = 1 << 20;
/// Where model bundles lie.
pub const ZOO: &str = "models/zoo/";
const LARGE_FOLDERS: [&str; 2] = [ZOO, "models/samples/"];

/// Entries at the top of the clone that are not in the list of known ones.
pub fn unknown_top_level_entries(tree: &Tree) -> Vec<String> {
    let entries = tree.files.iter().filter_map(|file| file.path.split('/').next());
    let entries: BTreeSet<&str> = entries.filter(|entry| !TOP_LEVEL.contains(entry)).collect();
    entries.into_iter().map(|entry| format!("{entry}: belongs in one of the rooms")).collect()
}

/// Files too large for a clone to carry.
pub fn large_files(tree: &Tree) -> Vec<String> {
    let is_model = |path: &str| LARGE_FOLDERS.iter().any(|folder| path.starts_with(folder));
    let large = tree.files.iter().filter(|file| file.size > MAX_SIZE && !is_model(&file.path));
    large.map(|file| format!("{}: {} bytes, at most {MAX_SIZE}", file.path, file.size)).collect()
}

/// Model bundles that the README does not mention.
pub fn unnamed_bundles(tree: &Tree) -> Vec<String> {
    let readme = tree.file("README.md").and_then(|file| file.text.as_deref()).unwrap_or_default();
    let paths = tree.files.iter().map(|file| file.path.as_str());
    let bundles = paths.filter_map(|path| path.strip_prefix(ZOO)?.strip_suffix("/bundle.toml"));
    let unnamed = bundles.filter(|bundle| !readme.contains(bundle));
    unnamed.map(|bundle| format!("{ZOO}{bundle}: not in README.md")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_top_level_entry_is_reported_once() {
        let tree =
            Tree::of(&[("README.md", ""), ("host/src/lib.rs", ""), ("new/a", ""), ("new/b", "")]);
        assert_eq!(unknown_top_level_entries(&tree), ["new: belongs in one of the rooms"]);
    }

    #[test]
    fn only_models_and_samples_may_be_large() {
        let large = "x".repeat(MAX_SIZE as usize + 1);
        let tree = Tree::of(&[
            ("models/zoo/a/model.onnx", &large),
            ("models/samples/a.png", &large),
            ("models/src/lib.rs", &large),
            ("README.md", &large[1..]),
        ]);
        let found = large_files(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("models/src/lib.rs: 1048577 bytes"));
    }

    #[test]
    fn bundles_must_be_in_the_readme() {
        let files = [("models/zoo/resnet50/bundle.toml", ""), ("models/zoo/vgg16/bundle.toml", "")];
        let named = Tree::of(&[files[0], files[1], ("README.md", "`vgg16` and `resnet50`")]);
        assert!(unnamed_bundles(&named).is_empty());
        let half = Tree::of(&[files[0], files[1], ("README.md", "`vgg16`")]);
        assert_eq!(unnamed_bundles(&half), ["models/zoo/resnet50: not in README.md"]);
        assert_eq!(unnamed_bundles(&Tree::of(&files)).len(), 2);
    }
}
