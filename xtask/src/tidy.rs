//! `cargo xtask tidy`: the rules of the repository that a program can check.
//!
//! Each rule is a function from the tracked files to its violations, and every violation is
//! printed before the task fails: [`layout`] has the rules about files and folders, [`content`]
//! those about text, [`rooms`] those about what may depend on what, [`requirements`] those about
//! requirements and their tests, [`boards`], [`docs`] and [`generated`] those about board files,
//! documents and generated files.

mod boards;
mod content;
mod docs;
mod generated;
mod layout;
mod requirements;
mod rooms;
mod rust_code;
pub mod tree;

use anyhow::{Result, bail};

use crate::paths::Paths;
use tree::Tree;

/// A rule: its name, and the violations it finds, one line each.
type Rule = (&'static str, fn(&Tree) -> Vec<String>);

const RULES: [Rule; 13] = [
    ("only the known entries lie at the top", layout::unknown_top_level_entries),
    ("no file is large, except models and samples", layout::large_files),
    ("every model bundle is named in the README", layout::unnamed_bundles),
    ("no text names a path of one machine", content::machine_paths),
    ("no text holds an e-mail address", content::email_addresses),
    ("unsafe code is allowed by its file", content::unmarked_unsafe),
    ("`models` has no runtime, no network, no threads", rooms::impure_models),
    ("`device` never links libtorch; `host` links tract through `device` alone", rooms::crossed),
    ("`host` uses the device library in its verification step alone", rooms::device_in_host),
    ("every requirement has a test that names it", requirements::uncovered),
    ("every board file is right, and its bundles exist", boards::wrong_boards),
    ("what documents link to in the repository exists", docs::broken_links),
    ("generated files say by what they were made", generated::without_header),
];

/// Checks every rule and prints what breaks one.
///
/// # Errors
/// When a rule is broken, or the clone cannot be read.
pub fn run(paths: &Paths) -> Result<()> {
    let tree = Tree::read(&paths.root)?;
    let mut violations = 0;
    for (name, rule) in RULES {
        let found = rule(&tree);
        if !found.is_empty() {
            eprintln!("broken rule: {name}");
        }
        for violation in &found {
            eprintln!("  {violation}");
        }
        violations += found.len();
    }
    if violations > 0 {
        bail!("violations of the repository's rules: {violations}");
    }
    eprintln!("tidy: {} rules hold in {} files", RULES.len(), tree.files.len());
    Ok(())
}
