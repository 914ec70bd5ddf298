//! The bundles that a board carries, and whose work is in them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::board::Board;

/// A bundle of `models/zoo`.
#[derive(Debug)]
pub struct Bundle {
    /// Its folder.
    pub folder: PathBuf,
    /// SHA-256 of its card, which has those of all its files.
    pub digest: String,
    /// What its card says.
    pub card: Card,
}

/// What an archive tells of a bundle's card.
#[derive(Debug, Deserialize)]
pub struct Card {
    /// The bundle's name.
    pub name: String,
    /// What it may be used for.
    pub intended_use: String,
    /// Whose work is in it.
    #[serde(default)]
    pub attributions: Vec<Attribution>,
}

/// Somebody's work.
#[derive(Debug, Deserialize)]
pub struct Attribution {
    /// What and whose.
    pub work: String,
    /// Under which licence.
    pub licence: String,
}

/// The bundles of a board, the judging one first.
///
/// # Errors
/// When one is missing or damaged.
pub fn of(root: &Path, board: &Board) -> Result<Vec<Bundle>> {
    board.bundles.iter().map(|name| read(&root.join("models/zoo").join(name))).collect()
}

fn read(folder: &Path) -> Result<Bundle> {
    let file = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let describe = || format!("the bundle {} is damaged", folder.display());
    let card: Card = toml::from_str(&file("bundle.toml")?).with_context(describe)?;
    let digest = file("bundle.sha256")?;
    let digest = digest.split_whitespace().next().with_context(describe)?.to_owned();
    ensure!(folder.ends_with(&card.name), "{}: its card names {}", describe(), card.name);
    Ok(Bundle { folder: folder.into(), digest, card })
}

/// Whose work the bundles hold, in plain text; a work that several hold is told once.
pub fn notice(bundles: &[Bundle]) -> String {
    let mut text = String::from(
        "Spinesight is decision support, not a diagnosis, and not a medical device.\n\n\
         The models in this archive were made from the work of others:\n",
    );
    let mut works: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for Bundle { card, .. } in bundles {
        for Attribution { work, licence } in &card.attributions {
            works.entry((work, licence)).or_default().push(&card.name);
        }
    }
    for ((work, licence), names) in works {
        let _ = write!(text, "\n{work}\n  licence: {licence}\n  in: {}\n", names.join(", "));
    }
    text.push_str("\nWhat each model is for:\n");
    for Bundle { card, .. } in bundles {
        let _ = write!(text, "\n{}\n  {}\n", card.name, card.intended_use);
    }
    text.push_str("\nThe program's licence and those of what it is linked from: LICENCES.txt.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    #[test]
    fn every_board_carries_bundles_whose_authors_are_named() {
        let paths = Paths::from_env().unwrap();
        for board in Board::all(&paths).unwrap() {
            let bundles = of(&paths.root, &board).unwrap();
            assert_eq!(bundles.len(), board.bundles.len());
            let text = notice(&bundles);
            for bundle in &bundles {
                assert_eq!(bundle.digest.len(), 64);
                assert!(text.contains(&bundle.card.name), "{text}");
                assert!(!bundle.card.attributions.is_empty());
            }
            assert_eq!(text.matches("CC BY 4.0").count(), 1, "{text}");
        }
    }

    #[test]
    fn a_missing_bundle_is_named() {
        let error = read(Path::new("no/such/bundle")).unwrap_err().to_string();
        assert!(error.contains("no/such/bundle"), "{error}");
    }
}
