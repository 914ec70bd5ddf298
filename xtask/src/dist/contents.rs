//! What lies in a board's archive, and where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive;
use super::bundles::{self, Bundle};
use super::parts::Parts;
use super::program::Program;
use super::release::Release;
use super::{licences, sbom, settings};
use crate::board::Board;
use crate::cross::Cross;
use crate::paths::{Paths, entries};

/// Installs the archive into a system that is not ours.
const INSTALLER: &str = include_str!("../../dist/install.sh");
const README: &str = include_str!("../../dist/README.md");
/// Where the unit files say the program is, in our own images.
const IMAGE_PROGRAM: &str = "/usr/bin/spinesight";
/// Where the installer puts it in a system that is not ours.
const VENDOR_PROGRAM: &str = "/opt/spinesight/current/bin/spinesight";

/// Everything that goes into an archive.
pub struct Contents<'a> {
    /// The clone.
    pub paths: &'a Paths,
    /// The compiler's tools.
    pub cross: &'a Cross,
    /// The board.
    pub board: &'a Board,
    /// The release.
    pub release: &'a Release,
    /// The program.
    pub program: &'a Program,
    /// What it is linked from.
    pub parts: &'a Parts,
    /// The board's bundles, the judging one first.
    pub bundles: &'a [Bundle],
}

impl Contents<'_> {
    /// Writes the archive's folder inside `place` and returns it.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write(&self, place: &Path) -> Result<PathBuf> {
        let folder = place.join(self.release.name(self.board));
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            let write = || {
                fs::create_dir_all(path.parent().unwrap_or(&folder))?;
                fs::write(&path, text)
            };
            write().with_context(|| format!("cannot write {}", path.display()))
        };
        self.copy(&self.program.stripped, &folder.join("bin/spinesight"), 0o755)?;
        for bundle in self.bundles {
            self.copy_folder(&bundle.folder, &folder.join("bundles").join(&bundle.card.name))?;
        }
        for unit in entries(&self.paths.root.join("device/systemd"))? {
            let name = unit.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&unit)
                .with_context(|| format!("cannot read {}", unit.display()))?;
            write(&format!("systemd/{name}"), &self.unit(&text))?;
        }
        for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
            self.copy(&self.paths.root.join(name), &folder.join(name), 0o644)?;
        }
        write("config/device.toml", &settings::text(self.board))?;
        write("release", &self.release.text(self.board, &self.program.build_id))?;
        write("README.md", &self.readme())?;
        write("NOTICE.txt", &bundles::notice(self.bundles))?;
        write("LICENCES.txt", &licences::document(self.paths, self.cross, self.parts)?)?;
        let bill = sbom::bill(self.board, self.release, self.parts, self.bundles);
        write("sbom.cdx.json", &format!("{bill:#}\n"))?;
        if self.board.vendor.is_some() {
            let judging = self.bundles.first().map_or("", |bundle| &bundle.card.name);
            write("install.sh", &INSTALLER.replace("{judging}", judging))?;
            set_mode(&folder.join("install.sh"), 0o755)?;
        }
        archive::seal(&folder)?;
        Ok(folder)
    }

    /// A unit file as this board needs it.
    fn unit(&self, text: &str) -> String {
        if self.board.vendor.is_some() {
            text.replace(IMAGE_PROGRAM, VENDOR_PROGRAM)
        } else {
            text.to_owned()
        }
    }

    fn readme(&self) -> String {
        let Board { title, name, vendor, bundles, .. } = self.board;
        let into = match vendor {
            Some(vendor) => format!(
                "This board runs {} ({}). There, as root:\n\n```sh\nsh install.sh\n```\n\nIt puts \
                 everything into `/opt/spinesight`, keeps the version before, and leaves \
                 `/etc/spinesight` as it is where it is there already. From the machine it was \
                 built on, `cargo xtask deploy --board {name}` does the same over SSH, with a \
                 health check and a way back.",
                vendor.system, vendor.source
            ),
            None => format!(
                "This board runs an image of its own, which holds the same files: `cargo xtask \
                 image --board {name}` makes one."
            ),
        };
        let models: Vec<_> = bundles.iter().map(|bundle| format!("`{bundle}`")).collect();
        README
            .replace("{title}", title)
            .replace("{version}", &self.release.version.to_string())
            .replace("{revision}", &self.release.revision)
            .replace("{build_id}", &self.program.build_id)
            .replace("{judging}", models.first().map_or("", String::as_str))
            .replace("{models}", &models.join(", "))
            .replace("{install}", &into)
    }

    fn copy_folder(&self, from: &Path, to: &Path) -> Result<()> {
        let mut files = Vec::new();
        archive::collect(from, &mut files)?;
        for file in files {
            self.copy(&file, &to.join(file.strip_prefix(from)?), 0o644)?;
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path, mode: u32) -> Result<()> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::copy(from, to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        set_mode(to, mode)
    }
}

fn set_mode(file: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot change {}", file.display()))
}
