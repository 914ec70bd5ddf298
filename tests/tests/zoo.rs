//! The shipped bundles at work on synthetic X-rays.

use device::scanner::Scanner;
use models::label::Class;
use tests::{phantom, zoo};

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
