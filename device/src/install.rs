//! Signed model bundles on a board: one at work, the one before it, and the way back.
//!
//! ```text
//! STORE/lock                   held while bundles change
//! STORE/.incoming/             being unpacked and proven; swept by the next installation
//! STORE/NAME-DIGEST/           a bundle; DIGEST are the first digits of its own
//! STORE/current                link to the bundle that judges: what the configuration names
//! STORE/previous               link to the bundle before it
//! ```
//!
//! `current` leads to a whole, proven bundle at every moment: a bundle is complete and durable
//! under its own name before the link is exchanged. The service notices the exchange by itself.
//!
//! Bundles have no version and no date, so an old one that was signed once can be installed
//! again: the signature says who made a bundle, not that it is the newest.

mod links;
mod signature;
mod unpack;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use models::bundle::{Bundle, BundleError, CARD_FILE};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::durable::{folder_of, lock, sync_dir};
use crate::record::BundleRef;
use crate::runtime::engine::EngineOptions;
use crate::scanner::{Scanner, ScannerError};
use links::Links;
pub use signature::Signed;

/// Where a bundle is unpacked and proven.
const INCOMING: &str = ".incoming";
/// Digits of a bundle's digest in its folder's name.
const DIGITS: usize = 16;
/// Longest name of a bundle.
const MOST_NAME: usize = 64;

/// Why no other bundle judges.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// The archive is larger than any bundle.
    #[error("{path} is larger than {} MiB, which no model bundle is", .most / (1 << 20))]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// Most bytes.
        most: u64,
    },
    /// The key's file holds no such key.
    #[error("{path} holds no Ed25519 public key in PEM form")]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The signature is not one of this key over these bytes.
    #[error("the signature is not valid: the archive was changed, or signed with another key")]
    Signature,
    /// The archive holds something that no bundle has.
    #[error("the archive is refused: {name} {problem}")]
    Entry {
        /// The entry's name, where it can be shown.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The archive cannot be read.
    #[error("the archive is no tar file: {0}")]
    Archive(io::Error),
    /// The bundle is damaged, or computes something else on this machine.
    #[error("the bundle is refused, the one at work stays: {0}")]
    Refused(ScannerError),
    /// The bundle's name cannot name a folder.
    #[error("the bundle's name must be 1 to {MOST_NAME} letters, digits, hyphens, dots")]
    Name,
    /// Another installation is under way.
    #[error("another installation is under way")]
    Busy,
    /// The place of a link is taken.
    #[error("{path} is no link: move it away, so that bundles can be switched there")]
    NoLink {
        /// The place.
        path: PathBuf,
    },
    /// There is no bundle before the one that judges.
    #[error("there is no earlier bundle to go back to")]
    NothingBefore,
}

/// Loads a bundle and runs its golden case on this machine.
///
/// # Errors
/// When it is damaged or computes something else here.
pub fn prove(dir: &Path, options: EngineOptions) -> Result<BundleRef, ScannerError> {
    let scanner = Scanner::load_with(dir, options)?;
    scanner.self_test()?;
    let Bundle { card, digest, .. } = scanner.into_bundle();
    Ok(BundleRef { name: card.name, digest })
}

/// The folder of a board's bundles.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    links: Links,
}

/// A bundle in the store, or the one at work where that is elsewhere.
#[derive(Debug)]
pub struct Listed {
    /// Its folder.
    pub path: PathBuf,
    /// Whether it judges.
    pub is_current: bool,
    /// Whether it judged before.
    pub is_previous: bool,
    /// Its name and digest, where it is whole.
    pub bundle: Result<BundleRef, BundleError>,
}

impl Store {
    /// The bundles in `dir`, and the link `current` that the configuration names. The link to the
    /// bundle before lies beside it.
    pub fn new(dir: PathBuf, current: PathBuf) -> Self {
        Self { links: Links::new(&dir, current), dir }
    }

    /// Installs a bundle whose signature was verified, and lets it judge once `prove` has found it
    /// whole and working. Then only it and the one before it are kept.
    ///
    /// # Errors
    /// Whatever fails, the bundle at work stays.
    pub fn install(
        &self,
        signed: &Signed,
        prove: impl Fn(&Path) -> Result<BundleRef, ScannerError>,
    ) -> Result<BundleRef, InstallError> {
        let _lock = self.lock()?;
        let incoming = self.dir.join(INCOMING);
        remove(&incoming)?;
        unpack::unpack(signed.archive(), &incoming)?;
        let bundle = prove(&incoming).map_err(InstallError::Refused)?;
        let place = self.dir.join(folder_name(&bundle)?);
        self.settle(&incoming, &place, &bundle)?;
        self.links.point_to(&place)?;
        // Whatever cannot be removed now is removed by the next installation.
        let _ = self.prune();
        Ok(bundle)
    }

    /// Lets the bundle before the present one judge again, if it still proves itself.
    ///
    /// # Errors
    /// Whatever fails, the bundle at work stays.
    pub fn roll_back(
        &self,
        prove: impl Fn(&Path) -> Result<BundleRef, ScannerError>,
    ) -> Result<BundleRef, InstallError> {
        let _lock = self.lock()?;
        let bundle = prove(&self.links.earlier()?).map_err(InstallError::Refused)?;
        self.links.exchange()?;
        Ok(bundle)
    }

    /// What there is, verified byte for byte.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, InstallError> {
        let [current, previous] = self.links.targets();
        let mut paths = self.bundles()?;
        paths.extend([&current, &previous].into_iter().flatten().cloned());
        paths.sort();
        paths.dedup();
        let listed = |path: PathBuf| Listed {
            is_current: current.as_ref() == Some(&path),
            is_previous: previous.as_ref() == Some(&path) && previous != current,
            bundle: Bundle::load(&path)
                .map(|Bundle { card, digest, .. }| BundleRef { name: card.name, digest }),
            path,
        };
        Ok(paths.into_iter().map(listed).collect())
    }

    fn lock(&self) -> Result<File, InstallError> {
        unpack::make_dir(&self.dir).map_err(at(&self.dir))?;
        lock(&self.dir.join("lock")).map_err(at(&self.dir))?.ok_or(InstallError::Busy)
    }

    /// Gives a proven bundle its own name, durably. A whole bundle that has it already stays; a
    /// damaged one is exchanged in one step, for it may be the one at work.
    fn settle(
        &self,
        incoming: &Path,
        place: &Path,
        bundle: &BundleRef,
    ) -> Result<(), InstallError> {
        if !place.exists() {
            fs::rename(incoming, place).map_err(at(place))?;
        } else if Bundle::load(place).is_ok_and(|there| there.digest == bundle.digest) {
            remove(incoming)?;
        } else {
            exchange(incoming, place)?;
            remove(incoming)?;
        }
        sync_dir(&self.dir).map_err(at(&self.dir))
    }

    /// Removes bundles of the store that neither judge nor judged before.
    fn prune(&self) -> Result<(), InstallError> {
        let kept = self.links.targets();
        for path in self.bundles()? {
            if !kept.iter().flatten().any(|kept| *kept == path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Folders of the store that are bundles, by their real paths.
    fn bundles(&self) -> Result<Vec<PathBuf>, InstallError> {
        let dir = fs::canonicalize(&self.dir).map_err(at(&self.dir))?;
        let entries = fs::read_dir(&dir).map_err(at(&dir))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at(&dir))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_ours = is_dir && !entry.file_name().to_string_lossy().starts_with('.');
            if is_ours && entry.path().join(CARD_FILE).exists() {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// A name that is a folder's, and differs for bundles that differ.
fn folder_name(bundle: &BundleRef) -> Result<String, InstallError> {
    let BundleRef { name, digest } = bundle;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=MOST_NAME).contains(&name.len()) && name.chars().all(plain);
    let start = digest.get(..DIGITS).filter(|_| fits && !name.starts_with('.'));
    start.map(|start| format!("{name}-{start}")).ok_or(InstallError::Name)
}

fn remove(dir: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(dir)(error)),
        _ => Ok(()),
    }
}

/// Exchanges what two names of one file system stand for, in one step, durably.
fn exchange(one: &Path, other: &Path) -> Result<(), InstallError> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(io::Error::from)
        .and_then(|()| sync_dir(folder_of(other)))
        .map_err(at(other))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |error| InstallError::File { path, error }
}

#[cfg(test)]
mod tests;
