//! The bill of materials: CycloneDX 1.5, as JSON.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::bundles::Bundle;
use super::crates::{Crate, Id};
use super::parts::{Library, Parts};
use super::release::Release;
use crate::board::Board;

/// The crate whose program it is.
const ROOT: &str = "device";

/// The bill of materials of a board's archive; the same for the same content.
pub fn bill(board: &Board, release: &Release, parts: &Parts, bundles: &[Bundle]) -> Value {
    let version = format!("{}-{}", release.version, release.revision);
    let root = format!("spinesight-{}@{version}", board.name);
    let is_root = |part: &&Crate| part.id.0 == ROOT;
    let mut components: Vec<Value> =
        parts.crates.iter().filter(|part| !is_root(part)).map(from_crate).collect();
    components.extend(parts.others.iter().map(from_library));
    components.extend(bundles.iter().map(from_bundle));
    let mut bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": release.date,
            "tools": { "components": [{ "type": "application", "name": "cargo xtask dist" }] },
            "component": {
                "type": "firmware",
                "bom-ref": root,
                "name": format!("spinesight-{}", board.name),
                "version": version,
                "description": format!("Spinesight for {}", board.title),
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": dependencies(&root, parts, bundles),
    });
    let digest = Sha256::digest(bill.to_string());
    bill["serialNumber"] = format!("urn:uuid:{}", uuid(&digest)).into();
    bill
}

fn from_crate(part: &Crate) -> Value {
    let (name, version) = &part.id;
    let mut component = json!({
        "type": "library",
        "bom-ref": package_url(&part.id),
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{ "expression": part.licence }],
    });
    // The workspace's own packages are in no registry.
    if let Some(checksum) = &part.checksum {
        component["purl"] = package_url(&part.id).into();
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = &part.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

fn from_library(library: &Library) -> Value {
    let reference = library_url(library);
    json!({
        "type": "library",
        "bom-ref": reference,
        "name": library.name,
        "version": library.version,
        "scope": "required",
        "licenses": [{ "expression": library.licence }],
        "purl": reference,
    })
}

fn from_bundle(bundle: &Bundle) -> Value {
    let mut licences: Vec<_> = bundle.card.attributions.iter().map(|it| &it.licence).collect();
    licences.sort();
    licences.dedup();
    let licences: Vec<_> =
        licences.into_iter().map(|name| json!({ "license": { "name": name } })).collect();
    json!({
        "type": "machine-learning-model",
        "bom-ref": model_reference(bundle),
        "name": bundle.card.name,
        "version": bundle.digest,
        "description": bundle.card.intended_use,
        "hashes": [{ "alg": "SHA-256", "content": bundle.digest }],
        "licenses": licences,
    })
}

/// Who uses whom; the archive uses what the program's own package uses, and the models.
fn dependencies(root: &str, parts: &Parts, bundles: &[Bundle]) -> Vec<Value> {
    let mut found = Vec::new();
    for part in &parts.crates {
        let mut needs: Vec<String> = part.needs.iter().map(package_url).collect();
        let brought = |library: &&Library| library.within == Some(part.id.0.as_str());
        needs.extend(parts.others.iter().filter(brought).map(library_url));
        let reference = if part.id.0 == ROOT {
            let free = parts.others.iter().filter(|library| library.within.is_none());
            needs.extend(free.map(library_url));
            needs.extend(bundles.iter().map(model_reference));
            root.to_owned()
        } else {
            package_url(&part.id)
        };
        found.push(json!({ "ref": reference, "dependsOn": needs }));
    }
    found
}

fn package_url((name, version): &Id) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn library_url(library: &Library) -> String {
    format!("pkg:generic/{}@{}", library.name, library.version)
}

fn model_reference(bundle: &Bundle) -> String {
    format!("model:{}@{}", bundle.card.name, bundle.digest)
}

/// A version 8 UUID (RFC 9562: made in a way of one's own) from a digest.
fn uuid(digest: &[u8]) -> String {
    let mut digits = hex::encode(digest);
    digits.replace_range(12..13, "8");
    digits.replace_range(16..17, "a");
    let part = |from: usize, to: usize| &digits[from..to];
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::dist::bundles;
    use crate::paths::Paths;

    fn part(name: &str, checksum: Option<&str>, needs: &[&str]) -> Crate {
        let id = |name: &str| (name.to_owned(), "1.0.0".to_owned());
        Crate {
            id: id(name),
            licence: "MIT OR Apache-2.0".into(),
            folder: "/secret/place".into(),
            repository: None,
            checksum: checksum.map(str::to_owned),
            needs: needs.iter().map(|name| id(name)).collect(),
        }
    }

    fn sample() -> Value {
        let paths = Paths::from_env().unwrap();
        let board = Board::find(&paths, "rpi5").unwrap();
        let bundles = bundles::of(&paths.root, &board).unwrap();
        let date = "2026-01-31T12:00:00Z".to_owned();
        let release = Release { version: 7, revision: "0123456789ab".into(), time: 0, date };
        let sqlite = Library {
            name: "sqlite",
            version: "3.50.2".into(),
            licence: "blessing",
            within: Some("libsqlite3-sys"),
        };
        let crates = vec![
            part("device", None, &["libsqlite3-sys", "models"]),
            part("libsqlite3-sys", Some("ab"), &[]),
            part("models", None, &[]),
        ];
        bill(&board, &release, &Parts { crates, others: vec![sqlite] }, &bundles)
    }

    #[test]
    fn every_reference_leads_to_one_component() {
        let bill = sample();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let components = bill["components"].as_array().unwrap();
        let mut known: Vec<String> = components.iter().map(|it| text(&it["bom-ref"])).collect();
        known.push(text(&bill["metadata"]["component"]["bom-ref"]));
        let set: BTreeSet<_> = known.iter().cloned().collect();
        assert_eq!(set.len(), known.len(), "{known:?}");
        let mut used = BTreeSet::new();
        for entry in bill["dependencies"].as_array().unwrap() {
            assert!(set.contains(&text(&entry["ref"])));
            used.extend(entry["dependsOn"].as_array().unwrap().iter().map(text));
        }
        assert!(used.is_subset(&set), "{used:?}");
        assert!(used.contains("pkg:generic/sqlite@3.50.2"));
        assert_eq!(used.iter().filter(|it| it.starts_with("model:")).count(), 2);
    }

    #[test]
    fn it_is_the_same_again_and_names_no_folder() {
        let (one, two) = (sample().to_string(), sample().to_string());
        assert_eq!(one, two);
        assert!(!one.contains("/secret"));
    }

    #[test]
    fn serial_numbers_have_the_form_of_a_uuid() {
        assert_eq!(uuid(&[0xff; 32]), "ffffffff-ffff-8fff-afff-ffffffffffff");
    }
}
