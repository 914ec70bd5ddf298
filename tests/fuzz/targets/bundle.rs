//! Any bytes in any file of a bundle, under the right digest, are a bundle or a typed refusal.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use device::scanner::Scanner;
use libfuzzer_sys::fuzz_target;
use models::bundle::{Bundle, CARD_FILE, CHECKSUM_FILE};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/zoo/resnet50-finetuned-int8");
/// Every file but the network, whose format is tract's affair.
const FILES: [&str; 3] = ["head.safetensors", "golden/input.png", "golden/expected.toml"];

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzzed-bundle-{}", std::process::id()));
    fs::create_dir_all(folder.join("golden")).expect("makes a folder");
    folder
});

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    match FILES.get(usize::from(which)) {
        Some(file) => with_file(file, bytes),
        None => write_card(bytes),
    }
    // The network is left out, so what loads ends at the engine with a refusal.
    if let Ok(bundle) = Bundle::load(&FOLDER) {
        assert!(Scanner::new(bundle, Default::default()).is_err());
    }
});

/// The shipped bundle with one file replaced, a network of no bytes, and digests that agree.
fn with_file(file: &str, bytes: &[u8]) {
    let shipped = Path::new(SHIPPED);
    let card = fs::read_to_string(shipped.join(CARD_FILE)).expect("the shipped card");
    let mut card: Table = card.parse().expect("the shipped card is TOML");
    let mut place = |name: &str, bytes: &[u8]| {
        fs::write(FOLDER.join(name), bytes).expect("writes");
        let digests = card["files"].as_table_mut().expect("the card lists its files");
        digests.insert(name.into(), Value::String(hex::encode(Sha256::digest(bytes))));
    };
    place("model.onnx", &[]);
    for name in FILES {
        let own = fs::read(shipped.join(name)).expect("the shipped file");
        place(name, if name == file { bytes } else { &own });
    }
    write_card(card.to_string().as_bytes());
}

fn write_card(bytes: &[u8]) {
    let line = format!("{}  {CARD_FILE}\n", hex::encode(Sha256::digest(bytes)));
    fs::write(FOLDER.join(CARD_FILE), bytes).expect("writes");
    fs::write(FOLDER.join(CHECKSUM_FILE), line).expect("writes");
}
