//! The files of a folder or of a zip archive, behind one face.
//!
//! Nothing is unpacked to disk: a file is read into memory by its position in a sorted list, up
//! to a bound, so neither a path nor a size that an archive claims has any effect.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::ImportError;
use super::report::SkipReason;
use super::table::{self, SourceTable};

/// Most bytes of one file: above any radiograph within the decoder's own bounds.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most bytes read from one archive in all.
pub const MAX_ARCHIVE_BYTES: u64 = 64 << 30;
/// Most files of a source.
pub const MAX_ENTRIES: usize = 100_000;

/// A tree of files, read one at a time.
pub struct Source {
    entries: Vec<Entry>,
    reader: Reader,
}

/// A file of the tree.
struct Entry {
    /// Path inside the source, with `/` between the parts.
    name: String,
    /// Why it is not even opened.
    refusal: Option<SkipReason>,
    place: Place,
}

enum Place {
    Path(PathBuf),
    Index(usize),
}

enum Reader {
    Folder,
    Zip { archive: Box<ZipArchive<BufReader<File>>>, bytes_left: u64 },
}

impl Source {
    /// Lists a folder, or the zip archive in a file.
    ///
    /// # Errors
    /// [`ImportError::File`], [`ImportError::Archive`], [`ImportError::HostileArchive`] or
    /// [`ImportError::TooManyFiles`].
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let metadata = fs::metadata(path).map_err(file_error(path))?;
        let mut source = if metadata.is_dir() { open_folder(path)? } else { open_zip(path)? };
        source.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(source)
    }

    /// `folder` or `zip`.
    pub fn kind(&self) -> &'static str {
        match self.reader {
            Reader::Folder => "folder",
            Reader::Zip { .. } => "zip",
        }
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Paths of all files inside the source, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// Path of a file inside the source.
    pub fn name(&self, index: usize) -> &str {
        &self.entries[index].name
    }

    /// Why a file must not be read, as far as its listing tells.
    pub fn refusal(&self, index: usize) -> Option<SkipReason> {
        self.entries[index].refusal.clone()
    }

    /// Reads a file whole, up to [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// The reason to leave the file out.
    pub fn read(&mut self, index: usize) -> Result<Vec<u8>, SkipReason> {
        match (&self.entries[index].place, &mut self.reader) {
            (Place::Index(at), Reader::Zip { archive, bytes_left }) => {
                let file = archive.by_index(*at).map_err(unreadable)?;
                let bytes = read_bounded(file, MAX_FILE_BYTES.min(*bytes_left))?;
                *bytes_left -= bytes.len() as u64;
                Ok(bytes)
            }
            (Place::Path(path), _) => {
                read_bounded(File::open(path).map_err(unreadable)?, MAX_FILE_BYTES)
            }
            (Place::Index(_), Reader::Folder) => Err(SkipReason::UnsafePath),
        }
    }

    /// The `manifest.csv` nearest to the root, where there is one.
    ///
    /// # Errors
    /// [`ImportError::Table`] when it does not parse or cannot be read.
    pub fn table(&mut self) -> Result<Option<SourceTable>, ImportError> {
        let is_table = |name: &str| name.rsplit('/').next() == Some(table::FILE_NAME);
        let nearest = (0..self.len())
            .filter(|&i| is_table(self.name(i)) && self.refusal(i).is_none())
            .min_by_key(|&i| self.name(i).matches('/').count());
        let Some(index) = nearest else { return Ok(None) };
        let name = self.name(index).to_string();
        let text = self
            .read(index)
            .map_err(|reason| ImportError::Table { line: 0, reason: reason.to_string() })?;
        SourceTable::parse(&name, &text).map(Some)
    }
}

fn open_folder(root: &Path) -> Result<Source, ImportError> {
    let mut entries = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).map_err(file_error(&folder))? {
            let item = item.map_err(file_error(&folder))?;
            let kind = item.file_type().map_err(file_error(&item.path()))?;
            if kind.is_dir() {
                folders.push(item.path());
                continue;
            }
            let name = name_below(root, &item.path());
            let refusal = (!kind.is_file()).then_some(SkipReason::Link);
            entries.push(Entry { name, refusal, place: Place::Path(item.path()) });
            if entries.len() > MAX_ENTRIES {
                return Err(ImportError::TooManyFiles);
            }
        }
    }
    Ok(Source { entries, reader: Reader::Folder })
}

fn open_zip(path: &Path) -> Result<Source, ImportError> {
    let archive_error = |source| ImportError::Archive { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(file_error(path))?;
    let archive = ZipArchive::new(BufReader::new(file)).map_err(archive_error)?;
    if archive.len() > MAX_ENTRIES {
        return Err(ImportError::TooManyFiles);
    }
    if archive.has_duplicate_names() {
        return Err(ImportError::HostileArchive("it holds several files of one name"));
    }
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index_data(index).map_err(archive_error)?;
        if file.is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(file.name_raw()).into_owned();
        let refusal = if file.enclosed_name().is_none() {
            Some(SkipReason::UnsafePath)
        } else if file.is_symlink() {
            Some(SkipReason::Link)
        } else if file.encrypted() {
            Some(SkipReason::Encrypted)
        } else {
            None
        };
        entries.push(Entry { name, refusal, place: Place::Index(index) });
    }
    let reader = Reader::Zip { archive: Box::new(archive), bytes_left: MAX_ARCHIVE_BYTES };
    Ok(Source { entries, reader })
}

/// Reads to the end, or one byte past the bound: what a header claims of the size is not used.
fn read_bounded(reader: impl Read, bound: u64) -> Result<Vec<u8>, SkipReason> {
    let mut bytes = Vec::new();
    reader.take(bound + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bound { Err(SkipReason::TooLarge) } else { Ok(bytes) }
}

fn name_below(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

fn unreadable(error: impl std::fmt::Display) -> SkipReason {
    SkipReason::Unreadable(error.to_string())
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_path_buf();
    move |source| ImportError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_bound() {
        assert_eq!(read_bounded(&[7u8; 10][..], 10).expect("fits").len(), 10);
        assert!(matches!(read_bounded(io::repeat(0), 1000), Err(SkipReason::TooLarge)));
    }
}
