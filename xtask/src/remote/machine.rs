//! What `--on` names.

use std::convert::Infallible;
use std::str::FromStr;

/// A machine other than this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// AArch64 processors with and without dot products, emulated by QEMU.
    QemuAarch64,
    /// A whole board, emulated, from source to update.
    QemuVirt,
    /// A board of `xtask/boards`, by the name of its file.
    Board(String),
}

impl FromStr for Machine {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Machine, Infallible> {
        Ok(match name {
            "qemu-aarch64" => Machine::QemuAarch64,
            "qemu-virt" => Machine::QemuVirt,
            board => Machine::Board(board.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_emulator_is_a_board() {
        assert_eq!("qemu-aarch64".parse(), Ok(Machine::QemuAarch64));
        assert_eq!("qemu-virt".parse(), Ok(Machine::QemuVirt));
        assert_eq!("rpi5".parse(), Ok(Machine::Board("rpi5".into())));
    }
}
