//! An image file, and what its maker wrote beside it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::disk::SECTOR;

/// What ends the first sector of every disk with a partition table.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// How compressed files start, and what unpacks them.
const COMPRESSED: [(&[u8], &str); 3] =
    [(b"\x1f\x8b", "gzip -d"), (b"\x28\xb5\x2f\xfd", "zstd -d"), (b"\xfd7zXZ\0", "xz -d")];

/// A file with the content of a whole card.
#[derive(Debug, Serialize)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// In bytes.
    pub length: u64,
    /// What is known of it.
    pub origin: Origin,
}

/// What `IMAGE.json` beside an image says of it; everything else in there is passed over.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Origin {
    /// The board it is for.
    pub board: Option<String>,
    /// The program's revision.
    pub revision: Option<String>,
    /// SHA-256 of the image, hexadecimal.
    pub sha256: Option<String>,
}

impl Image {
    /// Looks at an image for a board.
    ///
    /// # Errors
    /// When it cannot be read, is no image of a card, or was made for another board.
    pub fn find(path: &Path, board: &str) -> Result<Image> {
        let name = path.display();
        let length = checked_length(path).with_context(|| format!("{name} cannot be flashed"))?;
        let origin = origin(path)?;
        if let Some(other) = origin.board.as_deref().filter(|other| *other != board) {
            bail!("{name} was made for the board {other}, not for {board}");
        }
        Ok(Image { path: path.to_owned(), length, origin })
    }
}

fn origin(image: &Path) -> Result<Origin> {
    let mut name = image.as_os_str().to_owned();
    name.push(".json");
    let beside = PathBuf::from(name);
    match fs::read_to_string(&beside) {
        Ok(text) => {
            let wrong = || format!("{} does not describe an image", beside.display());
            serde_json::from_str(&text).with_context(wrong)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Origin::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", beside.display())),
    }
}

fn checked_length(image: &Path) -> Result<u64> {
    let file = File::open(image)?;
    let metadata = file.metadata()?;
    ensure!(metadata.is_file(), "it is no file");
    let mut start = Vec::new();
    file.take(SECTOR).read_to_end(&mut start)?;
    if let Some((_, unpack)) = COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        bail!("it is compressed: `{unpack}` it first");
    }
    let is_whole = start.len() as u64 == SECTOR && metadata.len() % SECTOR == 0;
    ensure!(is_whole && start.ends_with(&SIGNATURE), "it has no partition table");
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with this content, and what is beside it.
    fn find(content: &[u8], beside: Option<&str>) -> Result<Image> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        fs::write(&path, content).unwrap();
        if let Some(beside) = beside {
            fs::write(folder.path().join("a.img.json"), beside).unwrap();
        }
        Image::find(&path, "rpi4")
    }

    fn sectors(count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count * 512];
        bytes[510..512].copy_from_slice(&SIGNATURE);
        bytes
    }

    #[track_caller]
    fn check_refused(found: Result<Image>, reason: &str) {
        let error = format!("{:#}", found.unwrap_err());
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn an_image_starts_with_a_partition_table_and_ends_with_a_whole_sector() {
        assert_eq!(find(&sectors(3), None).unwrap().length, 3 * 512);
        check_refused(find(b"", None), "no partition table");
        check_refused(find(&[0; 1024], None), "no partition table");
        check_refused(find(&[sectors(1), vec![0]].concat(), None), "no partition table");
        assert!(Image::find(Path::new("/"), "rpi4").is_err());
    }

    #[test]
    fn a_compressed_image_says_what_unpacks_it() {
        for (magic, unpack) in COMPRESSED {
            check_refused(find(&[magic, &sectors(1)].concat(), None), unpack);
        }
    }

    #[test]
    fn what_the_maker_wrote_is_used() {
        let beside = r#"{"board":"rpi4","revision":"abc","sha256":"00","partitions":[]}"#;
        let origin = find(&sectors(1), Some(beside)).unwrap().origin;
        assert_eq!(
            (origin.revision.as_deref(), origin.sha256.as_deref()),
            (Some("abc"), Some("00"))
        );
        check_refused(find(&sectors(1), Some(r#"{"board":"rpi5"}"#)), "made for the board rpi5");
        check_refused(find(&sectors(1), Some("no JSON")), "does not describe an image");
    }
}
