//! A root file system that cannot be changed unnoticed: squashfs, then a tree of its blocks' hashes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::process;

/// Bytes of a block of data and of hashes.
const BLOCK: u64 = 4096;
/// In the tree's header; not unique, because equal file systems get equal trees.
const UUID: &str = "5350494e-4553-4947-4854-000000000001";

/// What opens the file system.
#[derive(Debug, PartialEq)]
pub struct Verity {
    root_hash: String,
    salt: String,
    /// Of data, in front of the tree.
    blocks: u64,
}

impl Verity {
    /// Text for the boot loader; the kernel's command line gets the value as it is.
    pub fn environment(&self) -> String {
        format!("verity={}:{}:{}\n", self.root_hash, self.salt, self.blocks)
    }
}

/// Packs a folder into `file`, with one time for every file in it, in seconds since 1970: the same
/// folder always becomes the same bytes.
///
/// # Errors
/// When a tool fails.
pub fn pack(tree: &Path, time: u64, file: &Path) -> Result<Verity> {
    let time = time.to_string();
    let mut squash = Command::new("mksquashfs");
    squash.arg(tree).arg(file).args(["-noappend", "-quiet", "-no-progress", "-no-xattrs"]);
    squash.args(["-all-root", "-all-time", &time, "-mkfs-time", &time, "-comp", "zstd"]);
    process::run(squash.env_remove("SOURCE_DATE_EPOCH"))?;
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let size = content.len() as u64;
    ensure!(size.is_multiple_of(BLOCK), "{} is not made of whole blocks", file.display());
    let salt = hex::encode(Sha256::digest(&content));
    drop(content);
    let mut format = Command::new("/usr/sbin/veritysetup");
    format.env("LC_ALL", "C").arg("format").args(["--hash", "sha256", "--uuid", UUID]);
    format.args(["--salt", &salt, "--hash-offset", &size.to_string()]).arg(file).arg(file);
    let printed = process::output(&mut format).context("veritysetup has made no tree of hashes")?;
    Ok(Verity { root_hash: root_hash(&printed)?, salt, blocks: size / BLOCK })
}

fn root_hash(printed: &str) -> Result<String> {
    let line = printed.lines().find_map(|line| line.strip_prefix("Root hash:"));
    Ok(line.context("veritysetup has named no root hash")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_loader_gets_hash_salt_and_size() {
        let printed = "UUID:  \t1\nHash type:   \t1\nSalt:   \tff\nRoot hash:      \tabcd\n";
        let root_hash = root_hash(printed).unwrap();
        assert!(super::root_hash("nothing").is_err());
        let verity = Verity { root_hash, salt: "ff".into(), blocks: 7 };
        assert_eq!(verity.environment(), "verity=abcd:ff:7\n");
    }
}
