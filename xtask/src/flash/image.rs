//! An image file, and what is known of it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::disk::SECTOR;
use crate::board::Board;

/// What ends the first sector of every disk with a partition table.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// How compressed files start, and what unpacks them.
const COMPRESSED: [(&[u8], &str); 3] =
    [(b"\x1f\x8b", "gzip -d"), (b"\x28\xb5\x2f\xfd", "zstd -d"), (b"\xfd7zXZ\0", "xz -d")];

/// Beside the card's image, `cargo xtask image` says in this file what is in it.
const RELEASE: &str = "release";

/// A file with the content of a whole card.
#[derive(Debug, Serialize)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// In bytes.
    pub length: u64,
    /// The program's revision, where the image is ours.
    pub revision: Option<String>,
}

impl Image {
    /// The image of a board: the one named, else where `cargo xtask image` puts it.
    ///
    /// # Errors
    /// When there is none, it is no image of a card, or it was made for another board.
    pub fn find(named: Option<&Path>, board: &Board) -> Result<Image> {
        let path = named.map_or_else(|| made(board), |path| Ok(path.to_owned()))?;
        let name = path.display();
        let length = checked_length(&path).with_context(|| format!("{name} cannot be flashed"))?;
        let release = fs::read_to_string(path.with_file_name(RELEASE)).unwrap_or_default();
        let value = |key| release.lines().find_map(|line| line.strip_prefix(key));
        if let Some(other) = value("BOARD=").filter(|other| *other != board.name) {
            bail!("{name} was made for the board {other}, not for {}", board.name);
        }
        let revision = value("REVISION=").map(str::to_owned);
        Ok(Image { path, length, revision })
    }
}

fn made(board: &Board) -> Result<PathBuf> {
    let path = Path::new("dist").join(&board.name).join("card.img");
    if let Some(vendor) = &board.vendor {
        let (title, system, source) = (&board.title, &vendor.system, &vendor.source);
        bail!("{title} runs {system}: get its image from {source}, and name it with `--image`");
    }
    let hint = format!(
        "there is no {}: `cargo xtask image --board {}` makes it, or name another \
         with `--image`",
        path.display(),
        board.name
    );
    ensure!(path.exists(), hint);
    Ok(path)
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
    use crate::paths::Paths;

    fn board(name: &str) -> Board {
        Board::find(&Paths::from_env().unwrap(), name).unwrap()
    }

    /// An image for the Raspberry Pi 4 with this content, and what is said of it.
    fn find(content: &[u8], release: &str) -> Result<Image> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        fs::write(&path, content).unwrap();
        fs::write(folder.path().join(RELEASE), release).unwrap();
        Image::find(Some(&path), &board("rpi4"))
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
        assert_eq!(find(&sectors(3), "").unwrap().length, 3 * 512);
        check_refused(find(b"", ""), "no partition table");
        check_refused(find(&[0; 1024], ""), "no partition table");
        check_refused(find(&[sectors(1), vec![0]].concat(), ""), "no partition table");
        assert!(Image::find(Some(Path::new("/")), &board("rpi4")).is_err());
    }

    #[test]
    fn a_compressed_image_says_what_unpacks_it() {
        for (magic, unpack) in COMPRESSED {
            check_refused(find(&[magic, &sectors(1)].concat(), ""), unpack);
        }
    }

    #[test]
    fn an_image_of_another_board_is_refused() {
        let ours = find(&sectors(1), "VERSION=7\nREVISION=abc\nBOARD=rpi4\n").unwrap();
        assert_eq!(ours.revision.as_deref(), Some("abc"));
        check_refused(find(&sectors(1), "BOARD=rpi5\n"), "made for the board rpi5, not for rpi4");
        assert_eq!(find(&sectors(1), "something else").unwrap().revision, None);
    }

    #[test]
    fn without_an_image_one_is_told_where_it_comes_from() {
        check_refused(Image::find(None, &board("rpi4")), "`cargo xtask image --board rpi4`");
        check_refused(Image::find(None, &board("rpi5")), "https://www.raspberrypi.com");
    }
}
