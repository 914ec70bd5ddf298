//! The disks of this machine, and which of them may be written over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process;

/// Linux's folder of what the kernel knows.
pub const SYS: &str = "/sys";
/// Images are laid out in sectors of so many bytes, as cards are.
pub const SECTOR: u64 = 512;

const MIB: u64 = 1 << 20;
const COLUMNS: &str =
    "NAME,PATH,MAJ:MIN,TYPE,SIZE,LOG-SEC,RO,RM,HOTPLUG,TRAN,MODEL,SERIAL,MOUNTPOINTS";
/// Mount points that only the running system has.
const SYSTEM: [&str; 6] = ["/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "[SWAP]"];

/// A whole disk. Two are equal when nothing about them changed, which tells a swapped card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The kernel's name, as `sdb`.
    pub name: String,
    /// Its file in `/dev`.
    pub path: PathBuf,
    /// The kernel's number, as `8:16`.
    pub number: String,
    /// In bytes.
    pub size: u64,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The maker's number of this one.
    pub serial: Option<String>,
    /// Its partitions' files in `/dev`.
    pub partitions: Vec<PathBuf>,
    /// Why nothing may be written to it, whatever the image; empty where it may.
    pub refusals: Vec<String>,
}

/// Every disk of this machine, by lsblk's order.
///
/// # Errors
/// When lsblk does not run.
pub fn all() -> Result<Vec<Disk>> {
    let mut lsblk = Command::new("lsblk");
    let listing = process::output(lsblk.args(["--json", "--bytes", "--output", COLUMNS]));
    let listing = listing.context(
        "lsblk does not run; it lists the disks, on Linux alone (Debian's package util-linux, \
         2.37 or later)",
    )?;
    from_listing(&listing, Path::new(SYS))
}

/// Reads lsblk's JSON; `sys` is [`SYS`] or a copy.
fn from_listing(listing: &str, sys: &Path) -> Result<Vec<Disk>> {
    let listing: Listing = serde_json::from_str(listing).context("lsblk's list is not readable")?;
    Ok(listing.blockdevices.into_iter().map(|node| disk(node, sys)).collect())
}

fn disk(node: Node, sys: &Path) -> Disk {
    let refusals = refusals(&node, sys);
    let partitions = node.children.iter().map(|child| child.path.clone()).collect();
    let tidy = |text: Option<String>| {
        text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    Disk {
        name: node.name,
        path: node.path,
        number: node.number,
        size: node.size,
        model: tidy(node.model),
        serial: tidy(node.serial),
        partitions,
        refusals,
    }
}

fn refusals(node: &Node, sys: &Path) -> Vec<String> {
    let mut found = Vec::new();
    if !["disk", "loop"].contains(&node.kind.as_str()) {
        found.push(format!("is no disk but of type `{}`", node.kind));
    }
    let parts = node.family();
    let mounts: Vec<(&Node, &str)> =
        parts.iter().flat_map(|part| part.mounts().map(move |mount| (*part, mount))).collect();
    if let Some((_, mount)) = mounts.iter().find(|(_, mount)| SYSTEM.contains(mount)) {
        found.push(format!("holds the running system ({mount})"));
    } else if let Some((part, mount)) = mounts.first() {
        let path = part.path.display();
        found.push(format!("is mounted at {mount}: `umount {path}` first"));
    }
    if let Some(user) = parts.iter().find(|part| part.is_assembled()) {
        found.push(format!("is part of {} ({})", user.name, user.kind));
    }
    if !(node.is_virtual() || node.removable || node.hotplug) {
        found.push("is not removable".to_owned());
    }
    if is_soldered(&node.name, sys) {
        found.push("is soldered memory (eMMC), no card".to_owned());
    }
    if node.read_only {
        found.push("is write-protected: some cards have a slide for that".to_owned());
    }
    if node.size == 0 {
        found.push("is empty: there is no card in it".to_owned());
    }
    if node.sector != SECTOR {
        found.push(format!("has sectors of {} bytes, images have {SECTOR}", node.sector));
    }
    found
}

/// The kernel says `SD` or `MMC` of what is behind a card controller.
fn is_soldered(name: &str, sys: &Path) -> bool {
    let kind = fs::read_to_string(sys.join("block").join(name).join("device/type"));
    name.starts_with("mmcblk") && kind.is_ok_and(|kind| kind.trim() == "MMC")
}

impl Disk {
    /// Everything that speaks against writing an image of `length` bytes to it; a disk of more
    /// than `most` bytes is taken for something other than a card.
    pub fn objections(&self, length: u64, most: u64) -> Vec<String> {
        let mut found = self.refusals.clone();
        found.extend(self.too_large(most));
        if self.size < length {
            let (size, need) = (mib(self.size), mib(length));
            found.push(format!("is too small: {size} MiB, the image has {need}"));
        }
        found
    }

    /// Set where the disk is too large to be a card.
    pub fn too_large(&self, most: u64) -> Option<String> {
        let too_large = format!(
            "is larger than {} GiB, as disks are rather than cards (`--max-gib` raises the bound)",
            most >> 30
        );
        (self.size > most).then_some(too_large)
    }

    /// One line for people: file, size, model, serial number.
    pub fn line(&self) -> String {
        let unknown = || "unknown".to_owned();
        let model = self.model.clone().unwrap_or_else(unknown);
        let serial = self.serial.clone().unwrap_or_else(unknown);
        let path = self.path.display();
        format!("{path}  {} MiB  model {model}  serial {serial}", mib(self.size))
    }
}

fn mib(bytes: u64) -> u64 {
    bytes / MIB
}

#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Node>,
}

/// A line of lsblk, with what lies on it.
#[derive(Deserialize)]
struct Node {
    name: String,
    path: PathBuf,
    #[serde(rename = "maj:min")]
    number: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    #[serde(rename = "log-sec")]
    sector: u64,
    #[serde(rename = "ro")]
    read_only: bool,
    #[serde(rename = "rm")]
    removable: bool,
    hotplug: bool,
    model: Option<String>,
    serial: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Node>,
}

impl Node {
    /// Itself and everything that lies on it, at any depth.
    fn family(&self) -> Vec<&Node> {
        let below = self.children.iter().flat_map(Node::family);
        std::iter::once(self).chain(below).collect()
    }

    fn mounts(&self) -> impl Iterator<Item = &str> {
        self.mountpoints.iter().flatten().map(String::as_str)
    }

    /// Whether it is made of disks: RAID, LVM, encryption.
    fn is_assembled(&self) -> bool {
        !["disk", "loop", "part", "rom"].contains(&self.kind.as_str())
    }

    /// Whether it is a file or a network service that the kernel shows as a disk.
    fn is_virtual(&self) -> bool {
        self.kind == "loop" || self.name.starts_with("nbd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const GIB: u64 = 1 << 30;

    /// A card in a USB reader, as lsblk describes it.
    fn card() -> Value {
        json!({
            "name": "sdb", "path": "/dev/sdb", "maj:min": "8:16", "type": "disk",
            "size": 32 * GIB, "log-sec": 512, "ro": false, "rm": true, "hotplug": true,
            "tran": "usb", "model": "Card Reader  ", "serial": "0123", "mountpoints": [null],
            "children": [part(json!([null]))]
        })
    }

    fn part(mountpoints: Value) -> Value {
        json!({
            "name": "sdb1", "path": "/dev/sdb1", "maj:min": "8:17", "type": "part",
            "size": GIB, "log-sec": 512, "ro": false, "rm": true, "hotplug": true, "tran": null,
            "model": null, "serial": null, "mountpoints": mountpoints
        })
    }

    fn read(node: &Value) -> Disk {
        let listing = json!({ "blockdevices": [node] }).to_string();
        from_listing(&listing, Path::new("/no/such/folder")).unwrap().remove(0)
    }

    /// The card with one thing changed is refused for `reason` alone.
    #[track_caller]
    fn check(key: &str, value: Value, reason: &str) {
        let mut node = card();
        node[key] = value;
        let found = read(&node).objections(GIB, 128 * GIB);
        assert!(found.len() == 1 && found[0].contains(reason), "{reason}: {found:?}");
    }

    #[test]
    fn a_card_is_accepted_and_described() {
        let disk = read(&card());
        assert_eq!(disk.objections(32 * GIB, 32 * GIB), [""; 0]);
        assert_eq!(disk.line(), "/dev/sdb  32768 MiB  model Card Reader  serial 0123");
        assert_eq!(disk.partitions, [Path::new("/dev/sdb1")]);
    }

    #[test]
    fn the_systems_disk_is_refused_at_any_depth() {
        check("mountpoints", json!(["/"]), "holds the running system (/)");
        check("children", json!([part(json!([null, "/boot/efi"]))]), "holds the running system");
        check("children", json!([part(json!(["[SWAP]"]))]), "holds the running system ([SWAP])");
        let mut volume = part(json!(["/mnt/x", "/"]));
        volume["type"] = json!("lvm");
        let mut physical = part(json!([null]));
        physical["children"] = json!([volume]);
        let mut node = card();
        node["children"] = json!([physical]);
        let found = read(&node).refusals;
        assert!(found[0].contains("holds the running system"), "{found:?}");
        assert!(found[1].contains("is part of sdb1 (lvm)"), "{found:?}");
    }

    #[test]
    fn a_mounted_disk_is_refused() {
        check("mountpoints", json!(["/media/card"]), "`umount /dev/sdb` first");
        check("children", json!([part(json!(["/media/card"]))]), "`umount /dev/sdb1` first");
    }

    #[test]
    fn a_disk_of_an_array_is_refused() {
        let mut array = part(json!([null]));
        array["type"] = json!("raid1");
        array["name"] = json!("md0");
        check("children", json!([array]), "is part of md0 (raid1)");
    }

    #[test]
    fn what_cannot_be_taken_out_is_refused() {
        let mut node = card();
        node["rm"] = json!(false);
        assert_eq!(read(&node).refusals, [""; 0], "card slots are hot-pluggable, not removable");
        node["hotplug"] = json!(false);
        assert_eq!(read(&node).refusals, ["is not removable"]);
        node["type"] = json!("loop");
        assert_eq!(read(&node).refusals, [""; 0], "a file shown as a disk");
    }

    #[test]
    fn soldered_memory_is_refused_and_a_card_in_the_same_slot_is_not() {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("block/mmcblk0/device");
        fs::create_dir_all(&folder).unwrap();
        let mut node = card();
        node["name"] = json!("mmcblk0");
        let listing = json!({ "blockdevices": [node] }).to_string();
        let refusals =
            || from_listing(&listing, sys.path()).map(|disks| disks[0].refusals.clone()).unwrap();
        fs::write(folder.join("type"), "SD\n").unwrap();
        assert_eq!(refusals(), [""; 0]);
        fs::write(folder.join("type"), "MMC\n").unwrap();
        assert_eq!(refusals(), ["is soldered memory (eMMC), no card"]);
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        check("type", json!("rom"), "of type `rom`");
    }

    #[test]
    fn a_write_protected_disk_is_refused() {
        check("ro", json!(true), "write-protected");
    }

    #[test]
    fn a_reader_without_a_card_is_refused() {
        let mut node = card();
        node["size"] = json!(0);
        assert_eq!(read(&node).refusals, ["is empty: there is no card in it"]);
    }

    #[test]
    fn large_sectors_are_refused() {
        check("log-sec", json!(4096), "sectors of 4096 bytes");
    }

    #[test]
    fn a_disk_larger_than_cards_are_is_refused() {
        check("size", json!(128 * GIB + 512), "is larger than 128 GiB");
    }

    #[test]
    fn a_disk_smaller_than_the_image_is_refused() {
        check("size", json!(GIB - 512), "is too small: 1023 MiB, the image has 1024");
    }
}
