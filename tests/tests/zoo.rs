//! The shipped bundles at work on synthetic X-rays.

use device::runtime::engine::{EngineKind, EngineOptions};
use device::scanner::Scanner;
use models::arch::Kind;
use models::bundle::Bundle;
use models::label::Class;
use tests::{phantom, zoo};

#[test]
fn both_architectures_ship() {
    let bundles = zoo();
    let kinds = bundles.iter().map(|dir| Bundle::load(dir).expect("loads").card.architecture);
    let kinds: Vec<Kind> = kinds.collect();
    assert!(kinds.iter().any(|kind| matches!(kind, Kind::ResNet50 { .. })), "{kinds:?}");
    assert!(kinds.iter().any(|kind| matches!(kind, Kind::Vgg16 { .. })), "{kinds:?}");
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

/// tract alone, in float arithmetic, is a second opinion on the fused integers: the two may differ
/// by single steps here and there, not by more.
#[test]
fn both_engines_agree() {
    let tract = EngineOptions { kind: EngineKind::Tract, threads: 1 };
    for dir in zoo() {
        let engines = [EngineOptions::default(), tract]
            .map(|options| Scanner::load_with(&dir, options).expect("loads"));
        for (seed, class) in Class::ALL.into_iter().enumerate() {
            let scan = phantom(class, seed as u64);
            let [ours, theirs] = engines.each_ref().map(|e| e.scan(&scan).expect("judges"));
            let largest = ours.logits.iter().fold(0.0, |m: f32, l| m.max(l.abs()));
            for (a, b) in ours.logits.iter().zip(theirs.logits) {
                assert!((a - b).abs() < 0.02 * largest, "{:?} {:?}", ours.logits, theirs.logits);
            }
        }
    }
}
