//! Any bytes in any file of a bundle, under the right digest, are a bundle or a typed refusal.
//!
//! The network's own format is the inference engine's affair: here it has no bytes, so that what
//! loads ends at the engine with a refusal. The picture of the self-test is decoded like any scan.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use device::scanner::Scanner;
use libfuzzer_sys::fuzz_target;
use models::bundle::{Bundle, CARD_FILE, CHECKSUM_FILE, Outliers, Parts};
use models::head::{Head, Matrix, Path};
use models::label::COUNT;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/zoo/resnet50-finetuned-int8");
/// The files that are tried beside the card.
const FILES: [&str; 2] = ["head.safetensors", "golden/expected.toml"];
/// Few channels make small files.
const CHANNELS: usize = 2;

/// A bundle on disk, one of whose files is exchanged.
struct Template {
    folder: PathBuf,
    card: Table,
    files: [Vec<u8>; 2],
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzzed-bundle-{}", std::process::id()));
    save(&folder);
    let card = fs::read_to_string(folder.join(CARD_FILE)).expect("its card");
    let files = FILES.map(|name| fs::read(folder.join(name)).expect("its file"));
    Template { folder, card: card.parse().expect("its card is TOML"), files }
});

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let which = usize::from(which) % (FILES.len() + 1);
    for (place, name) in FILES.into_iter().enumerate() {
        let bytes = if place == which { bytes } else { &TEMPLATE.files[place] };
        fs::write(TEMPLATE.folder.join(name), bytes).expect("writes");
    }
    match FILES.get(which) {
        Some(file) => write_card(card_with(file, bytes).as_bytes()),
        None => write_card(bytes),
    }
    if let Ok(bundle) = Bundle::load(&TEMPLATE.folder) {
        assert!(Scanner::new(bundle, Default::default()).is_err());
    }
});

/// The card with the digest of a file's new bytes.
fn card_with(file: &str, bytes: &[u8]) -> String {
    let mut card = TEMPLATE.card.clone();
    let digests = card["files"].as_table_mut().expect("the card lists its files");
    digests.insert(file.into(), Value::String(hex::encode(Sha256::digest(bytes))));
    card.to_string()
}

fn write_card(bytes: &[u8]) {
    let line = format!("{}  {CARD_FILE}\n", hex::encode(Sha256::digest(bytes)));
    fs::write(TEMPLATE.folder.join(CARD_FILE), bytes).expect("writes");
    fs::write(TEMPLATE.folder.join(CHECKSUM_FILE), line).expect("writes");
}

/// Writes a shipped bundle with a head of a few channels, without network and picture.
fn save(folder: &std::path::Path) {
    let shipped = Bundle::load(SHIPPED.as_ref()).expect("the shipped bundle");
    let mut card = shipped.card;
    card.cam.shape.channels = CHANNELS;
    let matrix = |what| Matrix::new(what, COUNT, CHANNELS, vec![0.5; COUNT * CHANNELS]);
    let weight = matrix("weight").expect("fits");
    let path = Path::Linear { weight, bias: vec![0.0; COUNT] };
    let parts = Parts {
        model: &[],
        head: &Head::new(card.cam.shape, path).expect("fits"),
        outliers: &Outliers {
            mean: vec![0.5; COUNT * CHANNELS],
            inverse_variance: vec![1.0; CHANNELS],
        },
        golden_input: &[],
        expected: &shipped.golden.expected,
    };
    Bundle::save(card, &parts, folder).expect("saves");
}
