//! Scans that come as files: an inbox folder, whose files are taken away, and USB sticks, whose
//! files stay.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::intake::Intake;
use super::pulse::Pulse;
use crate::failpoint::reach;
use crate::spool::SpoolError;

/// Folders inside folders that are looked into.
const DEPTH: usize = 8;
/// Files looked at in one round; the rest waits for the next.
const MOST: usize = 10_000;
/// Where files go that the spool refuses for good.
const REFUSED: &str = ".refused";
/// Endings of files that are still being written by someone.
const UNFINISHED: [&str; 3] = ["part", "tmp", "crdownload"];

/// What a file looked like: when two looks agree, nobody is writing it any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Look {
    size: u64,
    modified: SystemTime,
}

/// Whether files are removed once they are in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The inbox.
    Remove,
    /// A stick.
    Keep,
}

/// One watched folder.
pub(super) struct Watched {
    folder: PathBuf,
    after: After,
    seen: HashMap<PathBuf, Look>,
    taken: HashSet<(PathBuf, Look)>,
}

impl Watched {
    pub fn new(folder: PathBuf, after: After) -> Self {
        Self { folder, after, seen: HashMap::new(), taken: HashSet::new() }
    }

    /// Looks through the folder once, and takes each file that has not changed since the last look.
    ///
    /// # Errors
    /// When the spool cannot take scans now: nothing is lost, the next round tries again.
    pub fn round(&mut self, intake: &Intake, pulse: &Pulse) -> Result<(), SpoolError> {
        let mut files = Vec::new();
        collect(&self.folder, DEPTH, &mut files);
        let looks: HashMap<PathBuf, Look> = files.into_iter().collect();
        let last = std::mem::replace(&mut self.seen, looks.clone());
        self.taken.retain(|(path, look)| looks.get(path) == Some(look));
        let mut steady: Vec<_> = looks
            .into_iter()
            .filter(|(path, look)| last.get(path) == Some(look))
            .filter(|file| !self.taken.contains(file))
            .collect();
        steady.sort_by(|a, b| (a.1.modified, &a.0).cmp(&(b.1.modified, &b.0)));
        for (path, look) in steady {
            pulse.beat();
            self.take(&path, look, intake)?;
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, look: Look, intake: &Intake) -> Result<(), SpoolError> {
        let Ok(file) = File::open(path) else { return Ok(()) };
        let unchanged = || look_of(path).is_ok_and(|now| now == look);
        let stored = match intake.store_file(file, unchanged) {
            Ok(Some(_)) => Ok(()),
            // It changed meanwhile: the next rounds look again.
            Ok(None) => {
                self.seen.remove(path);
                return Ok(());
            }
            Err(error) => Err(error),
        };
        match (stored, self.after) {
            (Ok(()), After::Remove) => {
                reach("folder.taken");
                // A file that cannot be removed is taken again after a restart: the spool knows it.
                let removed = fs::remove_file(path);
                if removed.is_err() {
                    self.taken.insert((path.to_owned(), look));
                }
            }
            (Ok(()), After::Keep) => {
                self.taken.insert((path.to_owned(), look));
            }
            (Err(error), _) if error.may_pass() => return Err(error),
            (Err(_), After::Remove) => {
                if set_aside(path).is_err() {
                    self.taken.insert((path.to_owned(), look));
                }
            }
            (Err(_), After::Keep) => {
                self.taken.insert((path.to_owned(), look));
            }
        }
        Ok(())
    }
}

fn look_of(path: &Path) -> io::Result<Look> {
    look_from(&fs::symlink_metadata(path)?)
}

fn look_from(metadata: &Metadata) -> io::Result<Look> {
    Ok(Look { size: metadata.len(), modified: metadata.modified()? })
}

/// Moves a refused file out of the way, beside the inbox's other files.
fn set_aside(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let refused = parent.join(REFUSED);
    fs::create_dir_all(&refused)?;
    fs::rename(path, refused.join(name))
}

/// Plain files below a folder: no hidden ones, no links, no devices.
fn collect(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, Look)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if found.len() >= MOST {
            return;
        }
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if metadata.is_dir() && depth > 0 {
            collect(&path, depth - 1, found);
        } else if metadata.is_file() && metadata.len() > 0 && !is_unfinished(&path) {
            found.extend(look_from(&metadata).ok().map(|look| (path, look)));
        }
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|end| UNFINISHED.iter().any(|unfinished| end == *unfinished))
}
