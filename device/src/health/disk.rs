//! Can scans be stored?

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::{Finding, failed, ok};
use crate::config::Config;
use crate::durable::{free_bytes, sync_dir};

/// A file that comes and goes; one that a power cut left is written over the next time.
const PROBE: &str = ".health.part";
/// Its content: more than any file system keeps beside a name.
const BYTES: [u8; 8192] = [0x5a; 8192];
const MEGABYTE: u64 = 1_000_000;

pub(super) fn look(config: &Config) -> Finding {
    let (data, least) = (&config.board.data, config.storage.keep_free);
    if let Err(error) = write_probe(data) {
        return failed(format!("Nothing can be stored in {}: {error}.", data.display()));
    }
    match free_bytes(data) {
        Err(error) => failed(format!("{}: {error}.", data.display())),
        Ok(free) if free < least => failed(format!(
            "Scans are refused: {} MB are free, {} MB must be.",
            free / MEGABYTE,
            least / MEGABYTE
        )),
        Ok(free) => ok(format!("A file could be stored; {} MB are free.", free / MEGABYTE)),
    }
}

fn write_probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE);
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&BYTES)?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)?;
    sync_dir(dir)
}
