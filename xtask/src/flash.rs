//! `cargo xtask flash`: an image onto a card or into a file, verified byte by byte.
//!
//! [`disk`] knows the disks and which are refused, [`image`] what may be written, [`target`] opens
//! a disk or file, [`mod@write`] has the order in which nothing half-good can come about, [`receipt`]
//! what is kept.

mod disk;
mod image;
#[cfg(test)]
mod loopback;
mod receipt;
mod target;
mod write;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::board::Board;
use crate::paths::Paths;
use disk::Disk;
use image::Image;
use receipt::Receipt;
use target::Opened;
use write::{EDGE, Step};

/// Command line of the writer of cards.
#[derive(clap::Args)]
pub struct Arguments {
    /// List the disks that may be cards, and why others are none
    #[arg(long, conflicts_with_all = ["board", "image", "to", "dry_run"])]
    list: bool,
    /// The board that the card is for, by its file in xtask/boards
    #[arg(long, value_name = "BOARD", required_unless_present = "list")]
    board: Option<String>,
    /// The image [default: what `cargo xtask image` made, dist/BOARD/card.img]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The image's SHA-256, hexadecimal, where its maker published it; another one is refused
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The card's disk, as /dev/sdb, or a file
    #[arg(long, value_name = "DEVICE|FILE", required_unless_present = "list")]
    to: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Instead of typing the name of the disk or file at the prompt
    #[arg(long, value_name = "NAME")]
    yes_erase_everything_on: Option<String>,
    /// Larger disks are taken for something other than cards
    #[arg(long, value_name = "GIB", default_value_t = 128,
          value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_gib: u64,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Lists disks, or writes an image and prints the receipt.
///
/// # Errors
/// When the target is refused, nobody agrees to losing what is on it, or anything goes wrong
/// while writing or reading back.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let most = arguments.max_gib << 30;
    let (Some(board), Some(to)) = (&arguments.board, &arguments.to) else {
        return list(most, arguments.json);
    };
    let board = Board::find(paths, board)?;
    let image = Image::find(arguments.image.as_deref(), &board)?;
    let plan = Plan::new(&board, image, to, most)?;
    plan.show(arguments.dry_run, arguments.json)?;
    if !plan.objections.is_empty() {
        bail!("{} is refused: it {}", plan.name(), plan.objections.join("; it "));
    }
    if arguments.dry_run {
        return Ok(());
    }
    if !matches!(plan.place, Place::NewFile(_)) {
        let consent = arguments.yes_erase_everything_on.as_deref();
        confirm(&plan.name(), consent, &mut io::stdin().lock(), io::stdin().is_terminal())?;
    }
    let receipt = plan.execute(arguments.sha256.as_deref())?;
    let saved = receipt.save(&plan.image.path);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&receipt)?);
    } else {
        print!("{}", receipt.text());
    }
    let saved = saved.context("the card is good, but its receipt above is not kept")?;
    eprintln!("the receipt is in {}", saved.display());
    Ok(())
}

fn list(most: u64, json: bool) -> Result<()> {
    let disks: Vec<Disk> = disk::all()?
        .into_iter()
        .map(|mut disk| {
            disk.refusals.extend(disk.too_large(most));
            disk
        })
        .collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&disks)?);
        return Ok(());
    }
    for disk in &disks {
        println!("{}", disk.line());
        for refusal in &disk.refusals {
            println!("    refused: it {refusal}");
        }
    }
    if disks.iter().all(|disk| !disk.refusals.is_empty()) {
        println!("no disk here may be written to: put the card into its reader");
    }
    Ok(())
}

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    Disk(Disk),
    NewFile(PathBuf),
    OldFile(PathBuf),
}

/// Everything that is decided before anything is touched.
#[derive(Debug, Serialize)]
struct Plan {
    board: String,
    image: Image,
    place: Place,
    /// Why it is not done.
    objections: Vec<String>,
}

impl Plan {
    fn new(board: &Board, image: Image, to: &Path, most: u64) -> Result<Plan> {
        let place = place(&resolved(to), disk::all)?;
        let mut objections = Vec::new();
        match &place {
            Place::Disk(disk) => objections = disk.objections(image.length, most),
            Place::OldFile(file) if is_same_file(file, &image.path) => {
                objections.push("is the image itself".to_owned());
            }
            Place::OldFile(_) | Place::NewFile(_) => {}
        }
        Ok(Plan { board: board.name.clone(), image, place, objections })
    }

    /// The name to be typed: `sdb` of a disk, else the file's.
    fn name(&self) -> String {
        match &self.place {
            Place::Disk(disk) => disk.name.clone(),
            Place::NewFile(file) | Place::OldFile(file) => file_name(file),
        }
    }

    /// To standard output when it is all that was asked for.
    fn show(&self, is_all: bool, json: bool) -> Result<()> {
        let text = if json { serde_json::to_string_pretty(self)? } else { self.text() };
        match (is_all, json) {
            (true, _) => println!("{text}"),
            (false, false) => eprintln!("{text}"),
            (false, true) => {}
        }
        Ok(())
    }

    fn text(&self) -> String {
        let (target, lost) = match &self.place {
            Place::Disk(disk) => (disk.line(), "EVERYTHING ON IT WILL BE LOST"),
            Place::NewFile(file) => (file.display().to_string(), "a new file"),
            Place::OldFile(file) => (file.display().to_string(), "ITS CONTENT WILL BE LOST"),
        };
        let mut text = format!(
            "image   {} ({} bytes), for {}\ntarget  {target}\n        {lost}\n",
            self.image.path.display(),
            self.image.length,
            self.board
        );
        if let Place::Disk(Disk { partitions, .. }) = &self.place
            && !partitions.is_empty()
        {
            let names: Vec<_> = partitions.iter().map(|path| file_name(path)).collect();
            let _ = writeln!(text, "        it has partitions: {}", names.join(", "));
        }
        let _ = write!(
            text,
            "1. zero the first and last {EDGE} bytes: from here to the end it does not boot\n\
             2. write everything behind the image's first {EDGE} bytes\n\
             3. read it back past the cache and compare SHA-256\n\
             4. write and compare the first {EDGE} bytes: now it boots"
        );
        for objection in &self.objections {
            let _ = write!(text, "\nREFUSED: {} {objection}", self.name());
        }
        text
    }

    /// `expected` is the SHA-256 that the image must have, where one was named.
    fn execute(&self, expected: Option<&str>) -> Result<Receipt> {
        let start = Instant::now();
        let Image { path, length, revision } = &self.image;
        let image = File::open(path);
        let mut image = image.with_context(|| format!("cannot read {}", path.display()))?;
        let mut target = self.open()?;
        let bar = progress_bar(*length)?;
        let mut watch = |step, done| {
            bar.set_message(match step {
                Step::Write => "writing (does not boot yet)",
                Step::Verify => "reading back (does not boot yet)",
            });
            // The second pass starts the rate and the rest anew.
            if done < bar.position() {
                bar.reset();
            }
            bar.set_position(done);
        };
        let written = write::write(&mut image, *length, expected, &mut target, &mut watch);
        bar.finish_and_clear();
        let disk = match &self.place {
            Place::Disk(disk) => Some(disk),
            Place::NewFile(_) | Place::OldFile(_) => None,
        };
        Ok(Receipt {
            board: self.board.clone(),
            image: file_name(path),
            sha256: written?,
            bytes: *length,
            revision: revision.clone(),
            target: disk.map_or_else(|| self.name(), |disk| disk.path.display().to_string()),
            model: disk.and_then(|disk| disk.model.clone()),
            serial: disk.and_then(|disk| disk.serial.clone()),
            time: receipt::now()?,
            seconds: start.elapsed().as_secs(),
        })
    }

    fn open(&self) -> Result<Opened> {
        match &self.place {
            Place::NewFile(file) | Place::OldFile(file) => Opened::file(file, self.image.length),
            Place::Disk(disk) => {
                let is_still_there = disk::all()?.iter().any(|other| other == disk);
                ensure!(is_still_there, "{} is another card by now: start again", disk.name);
                Opened::disk(disk)
            }
        }
    }
}

/// The file that a name leads to; a bare `sdb` is `/dev/sdb` unless there is such a file here.
fn resolved(to: &Path) -> PathBuf {
    let device = Path::new("/dev").join(to);
    let is_bare = to.components().count() == 1;
    let to = if is_bare && !to.exists() && device.exists() { device } else { to.to_owned() };
    fs::canonicalize(&to).unwrap_or(to)
}

fn place(to: &Path, disks: impl FnOnce() -> Result<Vec<Disk>>) -> Result<Place> {
    if to.starts_with("/dev") {
        let disks = disks()?;
        if let Some(whole) = disks.iter().find(|disk| disk.partitions.iter().any(|p| p == to)) {
            let (part, whole) = (to.display(), whole.path.display());
            bail!("{part} is a part of {whole}: an image needs the whole disk");
        }
        let disk = disks.into_iter().find(|disk| disk.path == to);
        return disk.map(Place::Disk).with_context(|| {
            format!("{} is no disk; `cargo xtask flash --list` shows what there is", to.display())
        });
    }
    match fs::metadata(to) {
        Ok(metadata) if metadata.is_file() => Ok(Place::OldFile(to.to_owned())),
        Ok(_) => bail!("{} is neither a disk nor a file", to.display()),
        Err(_) => Ok(Place::NewFile(to.to_owned())),
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    canonical(a).is_some() && canonical(a) == canonical(b)
}

/// Asks for the name, unless it was given on the command line.
fn confirm(
    name: &str,
    given: Option<&str>,
    input: &mut dyn BufRead,
    is_terminal: bool,
) -> Result<()> {
    if given.is_none() && !is_terminal {
        bail!("nobody can be asked here: add `--yes-erase-everything-on {name}`");
    }
    let mut typed = String::new();
    if given.is_none() {
        eprint!("type its name, {name}, to erase everything on it: ");
        input.read_line(&mut typed).context("cannot read the keyboard")?;
    }
    let answer = given.unwrap_or_else(|| typed.trim());
    ensure!(answer == name, "nothing was changed: `{answer}` is not its name, `{name}`");
    Ok(())
}

fn progress_bar(length: u64) -> Result<ProgressBar> {
    let template = "{msg:33} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    Ok(ProgressBar::new(length).with_style(ProgressStyle::with_template(template)?))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn card(name: &str) -> Disk {
        Disk {
            name: name.into(),
            path: Path::new("/dev").join(name),
            number: "8:16".into(),
            size: 1 << 35,
            model: None,
            serial: None,
            partitions: vec![PathBuf::from(format!("/dev/{name}1"))],
            refusals: Vec::new(),
        }
    }

    fn place_among_cards(to: &str) -> Result<Place> {
        place(Path::new(to), || Ok(vec![card("no-disk-a"), card("no-disk-b")]))
    }

    /// A plan from an image to a file, both in `folder`.
    fn plan(folder: &Path, to: &str) -> Plan {
        let mut bytes = write::tests::image(9 << 20);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let image = folder.join("card.img");
        fs::write(&image, &bytes).unwrap();
        let board = Board::find(&Paths::from_env().unwrap(), "qemu-virt").unwrap();
        let image = Image::find(Some(&image), &board).unwrap();
        Plan::new(&board, image, &folder.join(to), 1 << 37).unwrap()
    }

    #[test]
    fn a_disk_is_found_by_its_file() {
        assert_eq!(place_among_cards("/dev/no-disk-b").unwrap(), Place::Disk(card("no-disk-b")));
    }

    #[test]
    fn a_partition_is_refused() {
        let error = place_among_cards("/dev/no-disk-b1").unwrap_err().to_string();
        assert!(error.contains("is a part of /dev/no-disk-b:"), "{error}");
    }

    #[test]
    fn a_missing_disk_is_no_new_file() {
        for name in ["/dev/no-disk-c", "/dev/null"] {
            let error = place_among_cards(name).unwrap_err().to_string();
            assert!(error.contains("is no disk"), "{error}");
        }
    }

    #[test]
    fn a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(place_among_cards(folder.path().to_str().unwrap()).is_err());
    }

    #[test]
    fn a_link_leads_to_what_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("card");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert_eq!(resolved(&link), Path::new("/dev/null"));
        assert_eq!(resolved(Path::new("null")), Path::new("/dev/null"), "a bare name");
        assert_eq!(resolved(Path::new("no-such-name")), Path::new("no-such-name"));
    }

    #[test]
    fn only_the_exact_name_is_consent() {
        let ask = |given: Option<&str>, typed: &str, is_terminal: bool| {
            confirm("sdb", given, &mut typed.as_bytes(), is_terminal).map_err(|e| e.to_string())
        };
        assert_eq!(ask(None, "sdb\n", true), Ok(()));
        assert_eq!(ask(Some("sdb"), "", false), Ok(()));
        for (given, typed) in [(None, "sda\n"), (None, "y\n"), (None, ""), (Some("sda"), "sdb\n")] {
            let error = ask(given, typed, true).unwrap_err();
            assert!(error.starts_with("nothing was changed"), "{error}");
        }
        let error = ask(None, "sdb\n", false).unwrap_err();
        assert!(error.contains("`--yes-erase-everything-on sdb`"), "{error}");
    }

    #[test]
    fn an_image_becomes_a_file_and_the_receipt_tells_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), "copy.img");
        assert!(matches!(plan.place, Place::NewFile(_)) && plan.objections.is_empty());
        let receipt = plan.execute(None).unwrap();
        let copy = fs::read(folder.path().join("copy.img")).unwrap();
        assert!(copy == fs::read(&plan.image.path).unwrap());
        assert_eq!(receipt.sha256, hex::encode(Sha256::digest(&copy)));
        assert_eq!((receipt.target.as_str(), receipt.bytes), ("copy.img", 9 << 20));
    }

    #[test]
    fn an_old_file_is_written_over_but_never_the_image_itself() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("copy.img"), "old").unwrap();
        let over = plan(folder.path(), "copy.img");
        assert!(over.text().contains("ITS CONTENT WILL BE LOST"), "{}", over.text());
        over.execute(None).unwrap();
        assert_eq!(fs::metadata(folder.path().join("copy.img")).unwrap().len(), 9 << 20);
        let itself = plan(folder.path(), "card.img");
        assert_eq!(itself.objections, ["is the image itself"]);
        assert!(itself.text().contains("REFUSED: card.img is the image itself"));
    }

    #[test]
    fn the_plan_names_what_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { place: Place::Disk(card("sdb")), ..plan(folder.path(), "x") };
        let text = plan.text();
        assert!(text.contains("/dev/sdb  32768 MiB"), "{text}");
        assert!(text.contains("it has partitions: sdb1"), "{text}");
        assert!(text.contains("EVERYTHING ON IT WILL BE LOST"), "{text}");
    }
}
