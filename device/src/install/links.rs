//! The links to the bundle that judges and to the one before it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{InstallError, at, exchange};
use crate::durable::{folder_of, sync_dir};

/// The link to the bundle before.
const PREVIOUS: &str = "previous";

/// Both links, which lie in one folder.
#[derive(Clone, Debug)]
pub(super) struct Links {
    store: PathBuf,
    current: PathBuf,
    previous: PathBuf,
}

impl Links {
    pub fn new(store: &Path, current: PathBuf) -> Self {
        let previous = folder_of(&current).join(PREVIOUS);
        Self { store: store.to_owned(), current, previous }
    }

    /// Lets `current` lead to a bundle of the store, and `previous` to where it led before.
    pub fn point_to(&self, bundle: &Path) -> Result<(), InstallError> {
        let target = self.target_for(bundle)?;
        let old = read_link(&self.current)?;
        if old.as_ref() == Some(&target) {
            return Ok(());
        }
        if let Some(old) = old {
            read_link(&self.previous)?;
            replace(&self.previous, &old).map_err(at(&self.previous))?;
        }
        replace(&self.current, &target).map_err(at(&self.current))
    }

    /// The bundle before the present one.
    pub fn earlier(&self) -> Result<PathBuf, InstallError> {
        let [current, previous] = self.targets();
        let earlier = previous.filter(|previous| Some(previous) != current.as_ref());
        earlier.ok_or(InstallError::NothingBefore)
    }

    /// Lets the links change places.
    pub fn exchange(&self) -> Result<(), InstallError> {
        exchange(&self.previous, &self.current)
    }

    /// Where `current` and `previous` lead, by real paths; none for a link that leads nowhere.
    pub fn targets(&self) -> [Option<PathBuf>; 2] {
        [&self.current, &self.previous].map(|link| fs::canonicalize(link).ok())
    }

    /// A target that stays true when store and links are moved together.
    fn target_for(&self, bundle: &Path) -> Result<PathBuf, InstallError> {
        let real = |path: &Path| fs::canonicalize(path).map_err(at(path));
        let (store, links) = (real(&self.store)?, real(folder_of(&self.current))?);
        let bundle = real(bundle)?;
        let inside = bundle.strip_prefix(&store).ok().filter(|_| store == links);
        Ok(inside.map_or(bundle.clone(), Path::to_owned))
    }
}

/// Where a link leads; none where there is nothing yet.
fn read_link(link: &Path) -> Result<Option<PathBuf>, InstallError> {
    match fs::read_link(link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // What is there is none.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(InstallError::NoLink { path: link.to_owned() })
        }
        Err(error) => Err(at(link)(error)),
    }
}

/// Puts a link in place of another, in one step, durably.
fn replace(link: &Path, target: &Path) -> io::Result<()> {
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let new = link.with_file_name(format!(".{name}.new"));
    // Left by a power cut.
    let _ = fs::remove_file(&new);
    symlink(target, &new)?;
    fs::rename(&new, link)?;
    sync_dir(folder_of(link))
}
