//! Names, sizes and refusals of updates; those with RAUC itself run by
//! `cargo test --package xtask -- --ignored raucb`.

use super::*;
use std::io::{Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::keys::{self, Release as Chosen};
use crate::paths::Paths;

const RELEASE: &str = "VERSION=7\nREVISION=0123456789ab\nCOMPATIBLE=spinesight-qemu-virt\n";

fn board() -> Board {
    Board::find(&Paths::from_env().unwrap(), "qemu-virt").unwrap()
}

/// A folder as `cargo xtask image` leaves it, of a small size.
fn image(release: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    // Digests do not compress, so that places in the payload are known.
    let noise = |length: usize| -> Vec<u8> {
        let blocks = (0_u32..).flat_map(|i| Sha256::digest(i.to_le_bytes()));
        blocks.take(length).collect()
    };
    fs::write(folder.path().join("boot.img"), noise(100_000)).unwrap();
    fs::write(folder.path().join("root.img"), noise(300_000)).unwrap();
    fs::write(folder.path().join("release"), release).unwrap();
    folder
}

#[test]
fn the_name_says_what_it_is() {
    let folder = image(RELEASE);
    let mut content = Content::of(&board(), folder.path()).unwrap();
    let check = |content: &Content, signature, name: &str| {
        assert_eq!(content.file_name(signature), name);
    };
    check(&content, Signature::Release, "spinesight-qemu-virt-7.raucb");
    check(&content, Signature::Development, "spinesight-qemu-virt-7-development.raucb");
    content.revision.push_str("-dirty");
    check(&content, Signature::None, "spinesight-qemu-virt-7-dirty-unsigned.raucb");
}

#[test]
fn an_image_of_another_board_is_refused() {
    let folder = image(&RELEASE.replace("qemu-virt", "rpi4"));
    let error = Content::of(&board(), folder.path()).unwrap_err().to_string();
    assert!(error.contains("spinesight-rpi4"), "{error}");
}

#[test]
fn a_partition_that_does_not_fit_is_refused() {
    let folder = image(RELEASE);
    let boot = fs::File::options().write(true).open(folder.path().join("boot.img")).unwrap();
    let most = u64::from(board().image().unwrap().boot_mib) << 20;
    boot.set_len(most).unwrap();
    assert!(Content::of(&board(), folder.path()).is_ok());
    boot.set_len(most + 1).unwrap();
    assert!(Content::of(&board(), folder.path()).is_err());
    fs::remove_file(folder.path().join("root.img")).unwrap();
    assert!(Content::of(&board(), folder.path()).is_err());
}

#[test]
fn a_revision_cannot_add_lines_to_the_manifest() {
    let folder = image(RELEASE);
    let mut content = Content::of(&board(), folder.path()).unwrap();
    assert!(content.manifest().unwrap().contains("\nversion=7\ndescription=0123456789ab\n"));
    content.revision = "x\nversion=9".into();
    assert!(content.manifest().is_err());
}

#[test]
fn what_rauc_says_is_read_behind_its_messages() {
    let info = Info::parse("noise\n{\"compatible\":\"c\",\"version\":\"7\",\"description\":null}");
    let info = info.unwrap();
    assert_eq!((info.compatible.as_str(), info.version.as_str()), ("c", "7"));
    assert!(Info::parse("").is_err());
}

/// An update made and signed with keys of its own.
struct Made {
    home: TempDir,
    bundle: PathBuf,
    authority: PathBuf,
}

fn cache(home: &TempDir) -> Paths {
    let root = home.path().join("clone");
    Paths { cache: home.path().join("cache"), target: root.clone(), own_target: root.clone(), root }
}

fn made() -> Made {
    let home = tempfile::tempdir().unwrap();
    let signer = Chosen::default().signer(&cache(&home)).unwrap();
    let folder = image(RELEASE);
    let content = Content::of(&board(), folder.path()).unwrap();
    let signature = Signature::of(&signer);
    let bundle = make(&content, signature, &signer, &home.path().join("out")).unwrap();
    Made { bundle, authority: signer.authority, home }
}

#[test]
#[ignore = "needs rauc, squashfs-tools and openssl"]
fn a_good_update_verifies_and_says_what_it_is() {
    let made = made();
    verify(&made.bundle, &made.authority).unwrap();
    let info = info(&made.bundle).unwrap();
    assert_eq!(info.compatible, "spinesight-qemu-virt");
    assert_eq!(info.version, "7");
    assert!(made.bundle.ends_with("spinesight-qemu-virt-7-development.raucb"));
    let left = crate::paths::entries(&made.home.path().join("out")).unwrap();
    assert_eq!(left, std::slice::from_ref(&made.bundle), "nothing else is left");
}

#[test]
#[ignore = "needs rauc, squashfs-tools and openssl"]
fn an_update_of_another_authority_is_refused() {
    let (made, other) = (made(), made());
    assert!(verify(&made.bundle, &other.authority).is_err());
}

#[test]
#[ignore = "needs rauc, squashfs-tools and openssl"]
fn a_wrong_byte_anywhere_in_the_payload_is_refused() {
    for place in [4096, 100_000, 300_000] {
        let made = made();
        let byte = fs::read(&made.bundle).unwrap()[place];
        let mut file = fs::File::options().write(true).open(&made.bundle).unwrap();
        file.seek(SeekFrom::Start(place as u64)).unwrap();
        file.write_all(&[byte ^ 1]).unwrap();
        assert!(verify(&made.bundle, &made.authority).is_err(), "{place}");
    }
}

#[test]
#[ignore = "needs rauc, squashfs-tools and openssl"]
fn a_truncated_update_is_refused() {
    let made = made();
    let length = fs::metadata(&made.bundle).unwrap().len();
    for kept in [length - 1, length / 2, 0] {
        fs::File::options().write(true).open(&made.bundle).unwrap().set_len(kept).unwrap();
        assert!(verify(&made.bundle, &made.authority).is_err(), "{kept}");
    }
}

#[test]
#[ignore = "needs rauc, squashfs-tools and openssl"]
fn an_unsigned_update_is_refused_until_someone_signs_it() {
    let home = tempfile::tempdir().unwrap();
    let paths = cache(&home);
    let signer = Chosen::default().signer(&paths).unwrap();
    let folder = image(RELEASE);
    let content = Content::of(&board(), folder.path()).unwrap();
    let nobody = keys::Signer::thrown_away(&paths).unwrap();
    let unsigned = make(&content, Signature::None, &nobody, home.path()).unwrap();
    drop(nobody);
    assert!(unsigned.ends_with("spinesight-qemu-virt-7-unsigned.raucb"));
    assert!(verify(&unsigned, &signer.authority).is_err());
    let signed = sign_again(&unsigned, &signer, home.path()).unwrap();
    assert!(signed.ends_with("spinesight-qemu-virt-7-development.raucb"));
    verify(&signed, &signer.authority).unwrap();
    assert!(sign_again(&signed, &signer, home.path()).is_err(), "signed already");
    let left = crate::paths::entries(&paths.cache.join("keys")).unwrap();
    assert!(left.iter().all(|file| !file.to_string_lossy().contains("unsigned")), "{left:?}");
}
