//! Rules about text.

use super::rust_code::{code_of, lines_with};
use super::tree::Tree;

/// Folders that exist on one machine alone. (Written in two halves: this file is checked too.)
const MACHINE_FOLDERS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Endings behind an `@` that make file and unit names, not addresses.
const NO_DOMAINS: [&str; 9] =
    ["png", "jpg", "jpeg", "svg", "service", "socket", "timer", "target", "mount"];

/// Absolute paths into somebody's machine.
pub fn machine_paths(tree: &Tree) -> Vec<String> {
    each_line(tree, |line| {
        let found = MACHINE_FOLDERS.iter().find(|folder| holds_path(line, folder))?;
        Some(format!("names `{found}`: paths of one machine help nobody else"))
    })
}

/// E-mail addresses.
pub fn email_addresses(tree: &Tree) -> Vec<String> {
    each_line(tree, |line| {
        let mut ats = line.match_indices('@').map(|(i, _)| i);
        ats.any(|at| is_address(&line[..at], &line[at + 1..]))
            .then(|| "holds an e-mail address: personal data stays out".to_owned())
    })
}

/// Rust files with `unsafe` code and no file-level attribute that allows it.
pub fn unmarked_unsafe(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.rust() {
        let code = code_of(text);
        let is_allowed = code.split("#![allow(").skip(1).any(|attribute| {
            attribute.split(']').next().is_some_and(|inner| inner.contains("unsafe_code"))
        });
        if !is_allowed {
            let lines = lines_with(&code, "unsafe");
            let report =
                |line| format!("{path}:{line}: needs `#![allow(unsafe_code, reason = ...)]`");
            found.extend(lines.into_iter().map(report));
        }
    }
    found
}

fn each_line(tree: &Tree, violation: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        for (i, line) in text.lines().enumerate() {
            found.extend(violation(line).map(|message| format!("{path}:{}: {message}", i + 1)));
        }
    }
    found
}

/// Whether a path starts with `folder`, rather than contains it.
fn holds_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(i, _)| {
        let before = &line[..i];
        let inside = |c: char| c.is_alphanumeric() || "._-~})*".contains(c);
        !before.ends_with(inside)
    })
}

/// Whether what stands on both sides of an `@` makes an address.
fn is_address(before: &str, after: &str) -> bool {
    let is_local = |c: char| c.is_ascii_alphanumeric() || "._%+-".contains(c);
    let is_domain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let domain = after.split(|c| !is_domain(c)).next().unwrap_or_default().trim_end_matches('.');
    let Some((_, ending)) = domain.rsplit_once('.') else { return false };
    let is_ending = ending.len() >= 2 && ending.chars().all(|c| c.is_ascii_alphabetic());
    let local = before.rsplit(|c| !is_local(c)).next().unwrap_or_default();
    // A login of a machine, as SSH takes it, is nobody's address.
    !["", "root"].contains(&local) && is_ending && !NO_DOMAINS.contains(&ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&Tree) -> Vec<String>, path: &str, text: &str, violations: usize) {
        let found = rule(&Tree::of(&[(path, text)]));
        assert_eq!(found.len(), violations, "{text}: {found:?}");
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            check(machine_paths, "a.md", &format!("see {folder}x"), 1);
            check(machine_paths, "a.md", &format!("\"{folder}x\"\n\n({folder}y)"), 2);
            check(machine_paths, "a.md", &format!("file://{folder}x"), 1);
            check(machine_paths, "a.md", &format!("https://example.org{folder}x"), 0);
            check(machine_paths, "a.md", &format!("..{folder}x and ~{folder}y"), 0);
        }
    }

    #[test]
    fn addresses_are_found() {
        let address = ["jane.doe", "hospital.example"].join("@");
        check(email_addresses, "a.md", &format!("write to <{address}>."), 1);
        check(email_addresses, "a.md", &format!("authors = [\"{address}\"]"), 1);
        check(email_addresses, "a.md", "getty@tty1.service, icon@2x.png, @media, a@b", 0);
        check(email_addresses, "a.md", "torch@2.11.0 and pkg@1.x", 0);
        check(email_addresses, "a.toml", "ssh = \"root@board.example\"", 0);
    }

    #[test]
    fn a_violation_names_file_and_line() {
        let text = format!("fine\n{}x", MACHINE_FOLDERS[0]);
        let found = machine_paths(&Tree::of(&[("doc/a.md", &text)]));
        assert!(found[0].starts_with("doc/a.md:2: "), "{found:?}");
    }

    #[test]
    fn unsafe_code_needs_the_files_leave() {
        check(unmarked_unsafe, "a.rs", "fn f() { unsafe { g() } }", 1);
        check(unmarked_unsafe, "a.rs", "// unsafe\nlet a = \"unsafe\";", 0);
        check(unmarked_unsafe, "a.rs", "#![deny(unsafe_code)]\nunsafe fn f() {}", 1);
        check(unmarked_unsafe, "a.rs", "#![allow(unsafe_code)]\nunsafe fn f() {}", 0);
        let reasoned =
            "//! Docs.\n#![allow(\n    unsafe_code,\n    reason = \"SIMD\"\n)]\nunsafe {}";
        check(unmarked_unsafe, "a.rs", reasoned, 0);
        check(unmarked_unsafe, "a.md", "unsafe", 0);
    }
}
