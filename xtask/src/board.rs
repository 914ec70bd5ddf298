//! What the tasks know of a board: a TOML file per board in `xtask/boards`, and nothing in code.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::paths::{Paths, entries};

/// A board, from its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The file's name without its ending; what `--board` takes.
    #[serde(skip)]
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What an update must name to be installed on it.
    pub compatible: String,
    /// Rust's name of the platform.
    pub triple: String,
    /// The processor, by the emulator's name.
    pub cpu: String,
    /// What the convolution kernels can use of it: `neon`, `dotprod`.
    pub features: Vec<String>,
    /// Processor cores.
    pub cores: u32,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Bundles of `models/zoo` it carries; the first one judges.
    pub bundles: Vec<String>,
    /// Where lamps, buzzer and button are connected.
    pub panel: Panel,
    /// How it is reached when it runs.
    pub reach: Reach,
    /// What it may cost.
    pub budget: Budget,
    /// How its image is made; absent where the vendor's system stays.
    pub image: Option<Image>,
    /// The vendor's system it runs, where no image is made.
    pub vendor: Option<Vendor>,
}

/// Lines of the panel, as in the section `[panel]` of the device's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// GPIO character device.
    pub chip: String,
    /// Line of the green lamp.
    pub green: u32,
    /// Line of the amber lamp.
    pub amber: u32,
    /// Line of the red lamp.
    pub red: u32,
    /// Line of the buzzer.
    pub buzzer: u32,
    /// Line that pulses while the service lives.
    pub heartbeat: u32,
    /// Line of the acknowledge button.
    pub button: u32,
    /// Bus of the display.
    pub i2c: Option<String>,
}

/// How a running board is reached, where the user names no other way.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// User and host for SSH.
    pub ssh: String,
    /// Serial port of this machine that the board's console is usually at.
    #[cfg_attr(not(feature = "logs"), expect(dead_code, reason = "for the log alone"))]
    pub serial: Option<String>,
    /// Speed of that port, baud.
    #[cfg_attr(not(feature = "logs"), expect(dead_code, reason = "for the log alone"))]
    pub baud: Option<u32>,
}

/// Limits that a command checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// From a scan's bytes to its verdict, in ms, for the first bundle.
    pub scan_ms: u32,
    /// The program without symbols, in MiB.
    pub binary_mib: u32,
    /// Memory of the program's self-test with the first bundle, under the emulator and with what
    /// that takes, in MiB.
    pub memory_mib: u32,
    /// The file system of a slot, in MiB; only with an image.
    pub root_mib: Option<u32>,
}

/// How a card's image is made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Debian's package of the kernel, for arm64.
    pub kernel: String,
    /// Debian's package of the boot loader.
    pub boot_loader: String,
    /// Debian's further packages that only this board needs.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Seconds after which the watchdog starts a hanging board again; its hardware has a maximum.
    pub watchdog_s: u32,
    /// Kernel modules of its hardware, loaded before the card is looked for.
    pub modules: Vec<String>,
    /// Files of the card's first partition, by name, from the unpacked packages.
    #[serde(default)]
    pub loader: BTreeMap<String, String>,
    /// Texts of the card's first partition, by name.
    #[serde(default)]
    pub loader_texts: BTreeMap<String, String>,
    /// A slot's kernel partition, in MiB.
    pub boot_mib: u32,
    /// A slot's file system partition, in MiB.
    pub root_mib: u32,
    /// The data partition, in MiB.
    pub data_mib: u32,
}

/// A system that is not ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// What it is called.
    pub system: String,
    /// Where it comes from.
    pub source: String,
}

impl Board {
    /// Reads the board of that name.
    ///
    /// # Errors
    /// When there is none, and names those there are; when its file is wrong.
    pub fn find(paths: &Paths, name: &str) -> Result<Board> {
        let mut boards = Board::all(paths)?;
        let Some(place) = boards.iter().position(|board| board.name == name) else {
            let known: Vec<_> = boards.into_iter().map(|board| board.name).collect();
            bail!("there is no board `{name}`; there are {}", known.join(", "));
        };
        Ok(boards.swap_remove(place))
    }

    /// Every board, by name.
    ///
    /// # Errors
    /// When a file cannot be read or is wrong.
    pub fn all(paths: &Paths) -> Result<Vec<Board>> {
        let mut boards = Vec::new();
        for file in entries(&paths.root.join("xtask/boards"))? {
            if file.extension().is_some_and(|ending| ending == "toml") {
                let name = file.file_stem().unwrap_or_default().to_string_lossy();
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                boards.push(Board::parse(&name, &text)?);
            }
        }
        Ok(boards)
    }

    /// Reads a board's file.
    ///
    /// # Errors
    /// When it is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Board> {
        let mut board: Board =
            toml::from_str(text).with_context(|| format!("board file {name}.toml is wrong"))?;
        if board.image.is_some() == board.vendor.is_some() {
            bail!("board file {name}.toml needs either [image] or [vendor]");
        }
        if board.image.is_some() && board.budget.root_mib.is_none() {
            bail!("board file {name}.toml needs budget.root_mib, because it has an [image]");
        }
        if board.bundles.is_empty() {
            bail!("board file {name}.toml names no bundle");
        }
        board.name = name.to_owned();
        Ok(board)
    }

    /// How its image is made.
    ///
    /// # Errors
    /// Says what to do instead where the vendor's system stays.
    pub fn image(&self) -> Result<&Image> {
        if let Some(vendor) = &self.vendor {
            bail!(
                "{} gets no image: it runs {}, from {}; then `cargo xtask deploy --board {}` \
                 installs Spinesight into that",
                self.title,
                vendor.system,
                vendor.source,
                self.name
            );
        }
        self.image.as_ref().with_context(|| format!("board file {}.toml has no [image]", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Vec<Board> {
        Board::all(&Paths::from_env().unwrap()).unwrap()
    }

    #[test]
    fn every_boards_lines_differ() {
        for board in shipped() {
            let Panel { green, amber, red, buzzer, heartbeat, button, .. } = board.panel;
            let lines =
                std::collections::BTreeSet::from([green, amber, red, buzzer, heartbeat, button]);
            assert_eq!(lines.len(), 6, "{}", board.name);
        }
    }

    #[test]
    fn every_board_has_its_own_compatible_name() {
        let boards = shipped();
        assert!(boards.len() >= 5);
        for board in &boards {
            assert_eq!(board.compatible, format!("spinesight-{}", board.name));
        }
    }

    #[test]
    fn an_unknown_board_is_told_the_known_ones() {
        let paths = Paths::from_env().unwrap();
        let error = Board::find(&paths, "toaster").unwrap_err().to_string();
        assert!(error.contains("qemu-virt") && error.contains("rpi5"), "{error}");
    }

    #[test]
    fn a_file_with_a_mistake_is_refused() {
        let paths = Paths::from_env().unwrap();
        let text = fs::read_to_string(paths.root.join("xtask/boards/rpi4.toml")).unwrap();
        assert!(Board::parse("rpi4", &text).is_ok());
        let check = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            assert!(Board::parse("rpi4", &text.replace(from, to)).is_err(), "{from}");
        };
        check("cores = 4", "cores = \"four\"");
        check("cores = 4", "cores = 4\nclock = 5");
        check("root_mib = 200\n", "");
        check("[image]", "[vendor]");
        check("[\"resnet50-finetuned-int8\"]", "[]");
    }

    #[test]
    fn a_board_with_its_vendors_system_says_what_to_do_instead() {
        let paths = Paths::from_env().unwrap();
        let error = Board::find(&paths, "rpi5").unwrap().image().unwrap_err().to_string();
        assert!(error.contains("cargo xtask deploy --board rpi5"), "{error}");
        assert!(Board::find(&paths, "qemu-virt").unwrap().image().is_ok());
    }
}
