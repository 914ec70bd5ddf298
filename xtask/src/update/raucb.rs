//! A board's update: a RAUC bundle of a slot's two partitions.
//!
//! RAUC signs the root of a tree of digests over the payload. `rauc info` checks the signature
//! alone, and would pass a payload with a wrong byte; `rauc extract` reads every block, as a board
//! does when it installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::release::Release;
use crate::board::Board;
use crate::debian::{self, Program};
use crate::keys::Signer;
use crate::process;
use crate::scratch::Scratch;

const NEEDED: [Program; 2] = [
    Program { name: "rauc", package: "rauc" },
    Program { name: "mksquashfs", package: "squashfs-tools" },
];
const UNSIGNED: &str = "-unsigned";

/// What goes into an update.
#[derive(Clone, Debug)]
pub struct Content {
    /// The board's name.
    pub board: String,
    /// What a board must be called to take it.
    pub compatible: String,
    /// Boards refuse one lower than they run.
    pub version: u64,
    /// The clone's revision.
    pub revision: String,
    /// The boot partition.
    pub boot: PathBuf,
    /// The root partition.
    pub root: PathBuf,
}

/// Who stands behind an update, which its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A key for releases.
    Release,
    /// The key of this machine.
    Development,
    /// Nobody.
    None,
}

/// What an update says about itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Info {
    /// What a board must be called to take it.
    pub compatible: String,
    /// Its number, in decimal digits.
    pub version: String,
}

impl Content {
    /// What `cargo xtask image` left in a folder.
    ///
    /// # Errors
    /// When a file is missing, is for another board, or does not fit the board's partition.
    pub fn of(board: &Board, folder: &Path) -> Result<Content> {
        let release = Release::read(&folder.join("release"))?;
        if release.compatible != board.compatible {
            bail!(
                "{} holds an image for {}, not for {}",
                folder.display(),
                release.compatible,
                board.compatible
            );
        }
        let image = board.image()?;
        let content = Content {
            board: board.name.clone(),
            compatible: board.compatible.clone(),
            version: release.version,
            revision: release.revision,
            boot: folder.join("boot.img"),
            root: folder.join("root.img"),
        };
        check_fits(&content.boot, image.boot_mib)?;
        check_fits(&content.root, image.root_mib)?;
        Ok(content)
    }

    fn manifest(&self) -> Result<String> {
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !is_plain(&self.compatible) || !is_plain(&self.revision) {
            bail!("`{}` or `{}` is no plain word", self.compatible, self.revision);
        }
        Ok(format!(
            "[update]\ncompatible={}\nversion={}\ndescription={}\n\n[bundle]\nformat=verity\n\n\
             [image.rootfs]\nfilename=root.img\n\n[image.boot]\nfilename=boot.img\n",
            self.compatible, self.version, self.revision
        ))
    }

    fn file_name(&self, signature: Signature) -> String {
        let dirty = if self.revision.ends_with("-dirty") { "-dirty" } else { "" };
        let mark = signature.mark();
        format!("spinesight-{}-{}{dirty}{mark}.raucb", self.board, self.version)
    }
}

impl Signature {
    /// What this signer's signature is worth.
    pub fn of(signer: &Signer) -> Signature {
        if signer.is_development { Signature::Development } else { Signature::Release }
    }

    fn mark(self) -> &'static str {
        match self {
            Signature::Release => "",
            Signature::Development => "-development",
            Signature::None => UNSIGNED,
        }
    }
}

fn check_fits(image: &Path, mib: u32) -> Result<()> {
    let length = fs::metadata(image)
        .with_context(|| format!("{} is missing: `cargo xtask image` makes it", image.display()))?
        .len();
    if length == 0 || length > u64::from(mib) << 20 {
        bail!("{} has {length} bytes, which do not fit its {mib} MiB", image.display());
    }
    Ok(())
}

/// Makes, signs and checks an update; returns its path in `out`.
///
/// # Errors
/// When RAUC is missing or fails, or a board would refuse the result.
pub fn make(
    content: &Content,
    signature: Signature,
    signer: &Signer,
    out: &Path,
) -> Result<PathBuf> {
    let scratch = begin(out)?;
    let source = scratch.folder("content")?;
    place(&content.boot, &source.join("boot.img"))?;
    place(&content.root, &source.join("root.img"))?;
    fs::write(source.join("manifest.raucm"), content.manifest()?)?;
    let bundle = scratch.path("bundle");
    let mut command = signing("bundle", signer);
    process::capture(command.arg(&source).arg(&bundle))?;
    finish(&bundle, &out.join(content.file_name(signature)), signer)
}

/// Signs an update that nobody has signed yet, and checks it; returns its path in `out`.
///
/// # Errors
/// When the file's name does not say that it is unsigned, RAUC fails, or a board would refuse the
/// result.
pub fn sign_again(unsigned: &Path, signer: &Signer, out: &Path) -> Result<PathBuf> {
    let name = unsigned.file_stem().unwrap_or_default().to_string_lossy();
    let Some(stem) = name.strip_suffix(UNSIGNED) else {
        bail!("{} is signed already, going by its name", unsigned.display());
    };
    let scratch = begin(out)?;
    let bundle = scratch.path("bundle");
    let mut command = signing("resign", signer);
    command.arg("--keyring").arg(&signer.authority).arg("--no-verify");
    process::capture(command.arg(unsigned).arg(&bundle))?;
    let name = format!("{stem}{}.raucb", Signature::of(signer).mark());
    finish(&bundle, &out.join(name), signer)
}

fn begin(out: &Path) -> Result<Scratch> {
    debian::ensure(&NEEDED, "making an update")?;
    Scratch::new(&out.join(".bundle"))
}

fn signing(task: &str, signer: &Signer) -> Command {
    let mut command = Command::new("rauc");
    command.args([task, "--key", &signer.key, "--cert", &signer.certificate]);
    command
}

/// Gives a bundle its name once it verifies.
fn finish(bundle: &Path, to: &Path, signer: &Signer) -> Result<PathBuf> {
    verify(bundle, &signer.authority).with_context(|| {
        format!("a board that trusts {} would refuse this update", signer.authority.display())
    })?;
    fs::rename(bundle, to).with_context(|| format!("cannot make {}", to.display()))?;
    Ok(to.to_path_buf())
}

/// Checks an update's signature and every byte of it, as a board that trusts `authority` does.
///
/// # Errors
/// When it would be refused.
pub fn verify(bundle: &Path, authority: &Path) -> Result<()> {
    let mut info = Command::new("rauc");
    process::capture(info.args(["info", "--keyring"]).arg(authority).arg(bundle))?;
    let scratch = Scratch::new(&bundle.with_extension("extracted"))?;
    let mut extract = Command::new("rauc");
    extract.args(["extract", "--keyring"]).arg(authority).arg(bundle).arg(scratch.path("content"));
    process::capture(&mut extract).map(drop)
}

/// What an update says about itself, whoever signed it.
///
/// # Errors
/// When it is no update, or RAUC is missing.
pub fn info(bundle: &Path) -> Result<Info> {
    debian::ensure(&NEEDED, "reading an update")?;
    let mut command = Command::new("rauc");
    command.args(["info", "--no-verify", "--output-format=json"]).arg(bundle);
    let text = process::capture(&mut command)
        .with_context(|| format!("{} is no update", bundle.display()))?;
    Info::parse(&text).with_context(|| format!("{} is no update of ours", bundle.display()))
}

impl Info {
    fn parse(text: &str) -> Result<Info> {
        let start = text.find('{').context("RAUC printed no JSON")?;
        Ok(serde_json::from_str(text.get(start..).unwrap_or_default())?)
    }
}

/// Puts a file into a folder without copying it, where the file system can.
fn place(file: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(file, to).is_err() {
        fs::copy(file, to).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
