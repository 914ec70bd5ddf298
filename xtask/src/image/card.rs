//! The card's partitions, in one image.
//!
//! 1. `loader`, FAT: what the board starts from and U-Boot's script; no update writes it.
//! 2. `env`: U-Boot's environment, two copies.
//! 3. `boot-a`, FAT, and 4. `root-a`: the first slot.
//! 5. `boot-b`, FAT, and 6. `root-b`: the second slot.
//! 7. `data`, ext4: what a board keeps.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::board::Image;
use crate::image::boot::Boot;
use crate::image::packages::Packages;
use crate::paths::Paths;
use crate::process;
use crate::scratch::Scratch;

/// MiB of the partition that the board starts from.
const LOADER_MIB: u32 = 32;
/// MiB of the environment's partition.
const ENV_MIB: u64 = 1;
/// Bytes of one copy of the environment.
const ENV_BYTES: u64 = 4096;
/// What the boot loader finds at the first start.
const ENVIRONMENT: &str = "BOOT_ORDER=a b\nBOOT_a_LEFT=3\nBOOT_b_LEFT=3\n";
/// The provisioning file's name on the first partition.
const PROVISION: &str = "provision.toml";

/// What a card is made of.
pub struct Parts<'a> {
    /// The board's sizes and files.
    pub image: &'a Image,
    /// Kernel and initial RAM disk.
    pub slot: &'a Boot,
    /// Where the boot loader's files are.
    pub packages: &'a Packages,
    /// The root file system with its hash tree.
    pub root: &'a Path,
    /// Consumed at the first start.
    pub provision: Option<&'a Path>,
    /// Time of every file, in seconds since 1970.
    pub time: u64,
}

/// Image files.
#[derive(Debug)]
pub struct Card {
    /// The whole card.
    pub card: PathBuf,
    /// One slot's boot partition.
    pub boot: PathBuf,
}

/// Makes the image in `out`.
///
/// # Errors
/// When a file is missing or does not fit into its partition.
pub fn assemble(paths: &Paths, parts: &Parts, scratch: &Scratch, out: &Path) -> Result<Card> {
    let input = scratch.folder("card")?;
    let mut loader = loader_files(parts, &input)?;
    loader.push(script(paths, parts.time, &input)?);
    if let Some(file) = parts.provision {
        fs::copy(file, input.join(PROVISION))
            .with_context(|| format!("cannot read {}", file.display()))?;
        loader.push(PROVISION.to_owned());
    }
    let slot = [&parts.slot.kernel, &parts.slot.initrd, &parts.slot.environment];
    for file in slot {
        let name = file.file_name().context("a slot's file has no name")?;
        link_or_copy(file, &input.join(name))?;
    }
    environment(&input)?;
    link_or_copy(parts.root, &input.join("root.img"))?;
    let configuration = scratch.path("genimage.cfg");
    fs::write(&configuration, genimage_configuration(parts.image, &loader))?;
    let made = scratch.folder("made")?;
    let mut genimage = Command::new("genimage");
    genimage
        .args(["--loglevel", "0"])
        .arg("--config")
        .arg(&configuration)
        .arg("--inputpath")
        .arg(&input);
    genimage.arg("--outputpath").arg(&made).arg("--tmppath").arg(scratch.path("genimage"));
    genimage.arg("--rootpath").arg(scratch.folder("empty")?);
    // mtools takes a file's time for local time.
    genimage.env("TZ", "UTC").env("SOURCE_DATE_EPOCH", parts.time.to_string());
    genimage.env("E2FSPROGS_FAKE_TIME", parts.time.to_string());
    process::run(genimage.stdout(Stdio::null()))?;
    let take = |name: &str| {
        let to = out.join(name);
        fs::rename(made.join(name), &to)
            .with_context(|| format!("cannot write {}", to.display()))?;
        anyhow::Ok(to)
    };
    Ok(Card { card: take("card.img")?, boot: take("boot.img")? })
}

fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()));
    copied.with_context(|| format!("cannot copy {}", from.display()))
}

/// What the board's own boot chain needs, put into `folder`.
fn loader_files(parts: &Parts, folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, path) in &parts.image.loader {
        let path = path.replace("VERSION", &parts.packages.kernel_version);
        let source = parts.packages.parts.join(path);
        fs::copy(&source, folder.join(name))
            .with_context(|| format!("cannot read {}", source.display()))?;
        names.push(name.clone());
    }
    for (name, text) in &parts.image.loader_texts {
        fs::write(folder.join(name), text)?;
        names.push(name.clone());
    }
    Ok(names)
}

/// U-Boot's script, in its own format.
fn script(paths: &Paths, time: u64, folder: &Path) -> Result<String> {
    let name = "boot.scr";
    let mut mkimage = Command::new("mkimage");
    mkimage.args(["-q", "-A", "arm64", "-T", "script", "-C", "none", "-n", "Spinesight", "-d"]);
    mkimage.arg(paths.root.join("xtask/image/boot.cmd")).arg(folder.join(name));
    mkimage.env("SOURCE_DATE_EPOCH", time.to_string());
    process::run(mkimage.stdout(Stdio::null()))?;
    Ok(name.to_owned())
}

/// The environment's partition; its second copy is not valid until it is written.
fn environment(folder: &Path) -> Result<()> {
    let text = folder.join("environment.txt");
    fs::write(&text, ENVIRONMENT)?;
    let file = folder.join("env.img");
    let mut mkenvimage = Command::new("mkenvimage");
    mkenvimage.args(["-r", "-p", "0", "-s", &ENV_BYTES.to_string(), "-o"]).arg(&file).arg(&text);
    process::run(&mut mkenvimage)?;
    let mut image = OpenOptions::new().write(true).open(&file)?;
    ensure!(image.seek(SeekFrom::End(0))? == ENV_BYTES, "mkenvimage made another size");
    image.set_len(ENV_MIB << 20)?;
    image.flush()?;
    Ok(())
}

/// What genimage is told: it copies each part to its place in the card.
fn genimage_configuration(image: &Image, loader: &[String]) -> String {
    let quoted: Vec<_> = loader.iter().map(|name| format!("\"{name}\"")).collect();
    let Image { boot_mib, root_mib, data_mib, .. } = image;
    let mut text = format!(
        "image loader.img {{\n  vfat {{ label = \"LOADER\" extraargs = \"--invariant\" \
         files = {{ {} }} }}\n  size = {LOADER_MIB}M\n}}\n\
         image boot.img {{\n  vfat {{ label = \"BOOT\" extraargs = \"--invariant\" \
         files = {{ \"Image\", \"initrd.img\", \"slot.env\" }} }}\n  size = {boot_mib}M\n}}\n\
         image data.img {{\n  ext4 {{ label = \"data\" use-mke2fs = true features = \"^metadata_csum_seed\" \
         extraargs = \"-m 1 -U {DATA_UUID} -E hash_seed={DATA_UUID}\" }}\n  empty = true\n  \
         size = {data_mib}M\n}}\n\
         image card.img {{\n  hdimage {{ partition-table-type = \"gpt\" disk-uuid = \"{DISK_UUID}\" }}\n",
        quoted.join(", ")
    );
    let sizes = [
        ("loader", "loader.img", u64::from(LOADER_MIB), "F"),
        ("env", "env.img", ENV_MIB, "L"),
        ("boot-a", "boot.img", u64::from(*boot_mib), "F"),
        ("root-a", "root.img", u64::from(*root_mib), "L"),
        ("boot-b", "boot.img", u64::from(*boot_mib), "F"),
        ("root-b", "root.img", u64::from(*root_mib), "L"),
        ("data", "data.img", u64::from(*data_mib), "L"),
    ];
    for (number, (name, file, size, kind)) in sizes.into_iter().enumerate() {
        // Formatting into a string cannot fail.
        let _ = writeln!(
            text,
            "  partition {name} {{ image = \"{file}\" size = {size}M partition-type-uuid = {kind} \
             partition-uuid = \"{PART_UUID}{:02}\" }}",
            number + 1
        );
    }
    text.push_str("}\n");
    text
}

const DISK_UUID: &str = "5350494e-4553-4947-4854-000000000000";
const DATA_UUID: &str = "5350494e-4553-4947-4854-000000000007";
/// Without its last two digits, which are the partition's number.
const PART_UUID: &str = "5350494e-4553-4947-4854-0000000001";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;

    #[test]
    fn the_card_has_seven_partitions_in_order() {
        let paths = Paths::from_env().unwrap();
        let board = Board::find(&paths, "qemu-virt").unwrap();
        let text = genimage_configuration(board.image().unwrap(), &["boot.scr".into()]);
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("partition "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(names, ["loader", "env", "boot-a", "root-a", "boot-b", "root-b", "data"]);
        assert!(text.contains("files = { \"boot.scr\" }"));
    }
}
