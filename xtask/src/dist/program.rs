//! The board's program: built, without symbols, known by its build id, and within its budget.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::source;
use crate::cross::{Cross, Places, TARGET};
use crate::paths::Paths;
use crate::process;

const PACKAGE: &str = "device";
/// The profile of the workspace that boards' programs are built with.
const PROFILE: &str = "dist";
const MIB: u64 = 1 << 20;
/// Rows of the table of what is large.
const ROWS: usize = 20;

/// A program as boards get it, and what decodes its log.
#[derive(Debug)]
pub struct Program {
    /// Without symbols.
    pub stripped: PathBuf,
    /// With symbols and debug data.
    pub elf: PathBuf,
    /// GNU build id in hexadecimal digits; its log files carry it in their names.
    pub build_id: String,
}

impl Places {
    /// The folders in the cache, which all clones share.
    ///
    /// # Errors
    /// When cargo's home folder is not known.
    pub fn regular(paths: &Paths) -> Result<Places> {
        let folder = paths.cache.join("dist");
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
        let crates = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
        let crates = crates.context("no home folder is known: set CARGO_HOME")?;
        // Behind a symbolic link the compiler would know the folder by two names.
        let crates = fs::canonicalize(&crates).unwrap_or(crates);
        Ok(Places { source: folder.join("source"), target: folder.join("target"), crates })
    }
}

/// Builds the program from the clone's tracked files and leaves it in `folder`.
///
/// # Errors
/// When it does not build, or has no build id.
pub fn build(paths: &Paths, cross: &Cross, places: &Places, folder: &Path) -> Result<Program> {
    let _lock = process::lock(&places.source.with_extension("lock"), "building for a board")?;
    source::copy(&paths.root, &places.source)?;
    if !places.target.exists() {
        eprintln!("building for AArch64: half an hour of processor time at first, then minutes");
    }
    let mut command = cross.cargo_in(places)?;
    command.args(["build", "--locked", "--profile", PROFILE, "--target", TARGET]);
    command.args(["--package", PACKAGE, "--bin", PACKAGE]);
    let built = process::built(&mut command, "bin", PACKAGE)?;
    take(&built, folder)
}

/// Copies a program to `folder`, with and without symbols.
///
/// # Errors
/// When it has no build id, or cannot be copied.
pub fn take(built: &Path, folder: &Path) -> Result<Program> {
    let build_id = build_id(built)?;
    let describe = || format!("cannot write in {}", folder.display());
    fs::create_dir_all(folder).with_context(describe)?;
    let elf = folder.join(format!("spinesight-{build_id}.elf"));
    fs::copy(built, &elf).with_context(describe)?;
    let stripped = folder.join("spinesight");
    let mut strip = Command::new("aarch64-linux-gnu-objcopy");
    process::run(strip.arg("--strip-all").arg(&elf).arg(&stripped))?;
    Ok(Program { stripped, elf, build_id })
}

/// Build id of a program, in hexadecimal digits.
fn build_id(program: &Path) -> Result<String> {
    let mut command = Command::new("aarch64-linux-gnu-readelf");
    command.env("LC_ALL", "C").args(["--wide", "--notes"]).arg(program);
    let notes = process::output(&mut command).unwrap_or_default();
    build_id_in(&notes).with_context(|| format!("{} has no build id", program.display()))
}

fn build_id_in(notes: &str) -> Option<String> {
    let (_, rest) = notes.split_once("Build ID: ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

impl Program {
    /// Bytes without symbols.
    ///
    /// # Errors
    /// When the file is gone.
    pub fn size(&self) -> Result<u64> {
        let data = fs::metadata(&self.stripped);
        Ok(data.with_context(|| format!("cannot read {}", self.stripped.display()))?.len())
    }

    /// Checks the size against a budget in MiB.
    ///
    /// # Errors
    /// With a table of what is large when the program is larger.
    pub fn check_size(&self, budget: u32) -> Result<()> {
        let size = self.size()?;
        if size <= u64::from(budget) * MIB {
            return Ok(());
        }
        let mut command = Command::new("aarch64-linux-gnu-nm");
        command.args(["--print-size", "--radix=d", "--demangle=rust"]).arg(&self.elf);
        let symbols = process::output(&mut command).context("cannot list the program's parts")?;
        bail!(
            "the program has {:.2} MiB, and its budget is {budget} MiB; the largest parts in it, \
             in KiB (generic code counts for the crate that defines it):\n{}",
            size as f64 / MIB as f64,
            table(&symbols)
        )
    }
}

/// Sizes by crate, largest first, from lines `ADDRESS SIZE KIND NAME` of `nm`.
fn table(symbols: &str) -> String {
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for line in symbols.lines() {
        let mut words = line.splitn(4, ' ');
        let size = words.nth(1).and_then(|size| size.parse::<u64>().ok());
        if let (Some(size), Some(name)) = (size, words.nth(1)) {
            *sizes.entry(crate_of(name)).or_default() += size;
        }
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let rows = sizes.iter().take(ROWS);
    let rows: Vec<_> = rows.map(|(name, size)| format!("{:>8}  {name}", size / 1024)).collect();
    rows.join("\n")
}

/// The crate in a symbol's name: `<&tract_core::Op as ...>::eval` is of `tract_core`.
fn crate_of(name: &str) -> &str {
    const OTHER: &str = "C and assembler";
    let Some((before, _)) = name.split_once("::") else { return OTHER };
    let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |i| i + 1);
    Some(&before[start..]).filter(|name| !name.is_empty()).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_found_in_the_notes() {
        assert_eq!(build_id_in("GNU  (unique)    Build ID: 9cffa3\n  x").unwrap(), "9cffa3");
        assert_eq!(build_id_in("Displaying notes"), None);
    }

    #[test]
    fn symbols_are_counted_for_their_crates() {
        let symbols = "00001 00002048 t <&tract_core::ops::Max as tract_core::Op>::eval\n\
                       00002 00001024 T sqlite3VdbeExec\n\
                       00003 00004096 t device::main\n\
                       00004 00001024 t <alloc::vec::Vec<device::Scan> as core::fmt::Debug>::fmt\n\
                       00005 U puts\n\
                       00006 00002048 t tract_core::plan::run";
        let expected =
            "       4  device\n       4  tract_core\n       1  C and assembler\n       1  alloc";
        assert_eq!(table(symbols), expected);
    }

    #[test]
    fn a_program_beyond_its_budget_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let stripped = folder.path().join("program");
        fs::write(&stripped, vec![0; 1 << 20]).unwrap();
        let program = Program { stripped, elf: "no such file".into(), build_id: "ab".into() };
        assert!(program.check_size(1).is_ok());
        assert!(program.check_size(0).is_err());
    }
}
