//! Which of the programs on this machine wrote a log.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use super::elf::{self, Program};
use crate::cross::Places;
use crate::paths::{Paths, entries};

/// What `cargo xtask dist` leaves, in the current folder.
const DIST: &str = "dist";
/// How deep programs are looked for in there.
const DEPTH: u32 = 3;

/// Programs that may have written a log; each is read when it is first needed.
pub struct Programs {
    candidates: Vec<PathBuf>,
    /// Whether the user named the only one.
    is_named: bool,
    read: RefCell<Vec<(PathBuf, Rc<Program>)>>,
}

impl Programs {
    /// The one that the user named.
    pub fn named(elf: &Path) -> Programs {
        Programs { candidates: vec![elf.into()], is_named: true, read: RefCell::default() }
    }

    /// All there are: in `dist`, and as last built for this machine and for boards.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn on_this_machine(paths: &Paths) -> Result<Programs> {
        let mut candidates = Vec::new();
        collect(Path::new(DIST), DEPTH, &mut candidates)?;
        for build_folder in [&paths.target, &Places::regular(paths)?.target] {
            candidates.extend(built(build_folder)?);
        }
        candidates.retain(|path| is_elf(path));
        // The newest first: it is the likeliest.
        candidates.sort_by_key(|path| std::cmp::Reverse(age(path)));
        Ok(Programs { candidates, is_named: false, read: RefCell::default() })
    }

    /// The program of a build; `log` is what messages call its log.
    ///
    /// # Errors
    /// When it is not here, and says what to do.
    pub fn of_build(&self, build: &str, log: &str) -> Result<Rc<Program>> {
        let mut problem = None;
        for path in &self.candidates {
            // Also stripped ones have the build id; they cannot decode.
            if elf::build_id(path).as_deref() == Some(build) {
                match self.remembered(path) {
                    Ok(program) => return Ok(program),
                    Err(error) => problem = Some(error),
                }
            }
        }
        if let Some(problem) = problem {
            return Err(problem).with_context(|| format!("{log} was written by build {build}"));
        }
        if let [only] = &*self.candidates
            && self.is_named
        {
            let own = self.remembered(only)?.build_id.clone();
            bail!(
                "{log} was written by build {build}, but {} is build {own}: name the other one \
                 with --elf",
                only.display()
            );
        }
        bail!(
            "{log} was written by build {build}, and its program is neither in {DIST}/ nor in the \
             build folders: name it, unstripped, with --elf"
        )
    }

    /// A program for a log that does not say by which it was written: the newest one. Says so.
    ///
    /// # Errors
    /// When there is none.
    pub fn assumed(&self, log: &str) -> Result<Rc<Program>> {
        let mut problem = None;
        for path in &self.candidates {
            match self.remembered(path) {
                Ok(program) => {
                    eprintln!(
                        "{log}: does not say which build wrote it; decoded as by {} (build {})",
                        path.display(),
                        program.build_id
                    );
                    return Ok(program);
                }
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem.unwrap_or_else(|| {
            anyhow::anyhow!("no program is here that logs: build it, or name it with --elf")
        }))
    }

    fn remembered(&self, path: &Path) -> Result<Rc<Program>> {
        if let Some((_, program)) = self.read.borrow().iter().find(|(its, _)| its == path) {
            return Ok(Rc::clone(program));
        }
        let program = Rc::new(Program::read(path)?);
        self.read.borrow_mut().push((path.into(), Rc::clone(&program)));
        Ok(program)
    }
}

/// Files in a folder and those below it.
fn collect(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if !path.is_dir() {
            found.push(path);
        } else if depth > 1 {
            collect(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The board's program in a build folder: `PROFILE/device` and `TRIPLE/PROFILE/device`.
fn built(build_folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in entries(build_folder)?.into_iter().filter(|path| path.is_dir()) {
        let inner = entries(&folder)?.into_iter().filter(|path| path.is_dir());
        let programs = inner.chain([folder]).map(|folder| folder.join("device"));
        found.extend(programs.filter(|path| path.is_file()));
    }
    Ok(found)
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

fn age(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_builds_and_archives_leave_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["debug/device", "triple/dist/device", "debug/deps/other", "device"] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), b"\x7fELF").unwrap();
        }
        let mut found = built(folder.path()).unwrap();
        found.sort();
        assert_eq!(found, [path("debug/device"), path("triple/dist/device")]);
        let mut found = Vec::new();
        collect(folder.path(), 2, &mut found).unwrap();
        assert_eq!(found, [path("debug/device"), path("device")]);
        assert!(is_elf(&path("device")));
        fs::write(path("device"), b"\x7fEL").unwrap();
        assert!(!is_elf(&path("device")));
    }

    #[test]
    fn what_to_do_is_said_where_no_program_is() {
        let none = Programs { candidates: vec![], is_named: false, read: RefCell::default() };
        let error = none.of_build("abcd", "the log").err().unwrap().to_string();
        assert!(error.contains("build abcd") && error.contains("--elf"), "{error}");
        let error = none.assumed("the log").err().unwrap().to_string();
        assert!(error.contains("--elf"), "{error}");
        let own = std::env::current_exe().unwrap();
        let error = Programs::named(&own).assumed("the log").err().unwrap().to_string();
        assert!(error.ends_with("does not log"), "{error}");
    }
}
