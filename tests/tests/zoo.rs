//! The shipped bundles: reproduced to the bit, refused when a byte differs.

use std::fs;
use std::path::{Path, PathBuf};

use device::scanner::Scanner;
use models::label::Class;
use tests::{phantom, zoo};

#[test]
fn golden_cases_are_reproduced() {
    for dir in zoo() {
        Scanner::load(&dir).expect("loads").self_test().expect("golden case");
    }
}

#[test]
fn every_phantom_gets_a_judgement_with_a_map() {
    for dir in zoo() {
        let scanner = Scanner::load(&dir).expect("loads");
        for (seed, class) in Class::ALL.into_iter().enumerate() {
            let judgement = scanner.scan(&phantom(class, seed as u64)).expect("judges");
            assert!(!judgement.reasons.is_empty());
            assert!(judgement.cam.is_some(), "{:?}", judgement.reasons);
        }
    }
}

#[test]
fn one_flipped_byte_in_any_file_is_refused_and_named() {
    let source = zoo().remove(0);
    let copy = tempfile::tempdir().expect("dir");
    let files = files_below(&source, Path::new(""));
    for name in &files {
        let target = copy.path().join(name);
        fs::create_dir_all(target.parent().expect("parent")).expect("folder");
        fs::copy(source.join(name), target).expect("copies");
    }
    for name in &files {
        let path = copy.path().join(name);
        let good = fs::read(&path).expect("reads");
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).expect("writes");
            let error = Scanner::load(copy.path()).expect_err("must be refused").to_string();
            assert!(error.contains(&*name.to_string_lossy()), "{}: {error}", name.display());
        }
        fs::write(&path, good).expect("writes");
    }
    Scanner::load(copy.path()).expect("whole again");
}

fn files_below(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(folder)).expect("reads") {
        let name = folder.join(entry.expect("entry").file_name());
        if root.join(&name).is_dir() {
            files.extend(files_below(root, &name));
        } else {
            files.push(name);
        }
    }
    files
}
