//! Tests and measurements on machines other than this one: an emulated processor, or a board that is
//! reached over SSH.
//!
//! [`machine`] is what `--on` names; [`archive`] makes the test programs; a [`place`] runs them;
//! [`suite`] reads what they say; [`test`] and [`bench`] are the tasks.

mod archive;
pub mod bench;
pub mod machine;
mod place;
mod suite;
pub mod test;

use std::path::PathBuf;

use anyhow::Result;

use crate::board::Board;
use crate::paths::Paths;
use crate::ssh::Host;

/// How a board is reached, where its file says nothing else.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Address {
    /// Where the board is [default: as its file says]
    #[arg(long, value_name = "USER@HOST[:PORT]", requires = "on")]
    ssh: Option<String>,
    /// File of a private key for SSH [default: the SSH client's choice]
    #[arg(long, value_name = "FILE", requires = "on")]
    identity: Option<PathBuf>,
}

impl Address {
    /// The board's machine.
    ///
    /// # Errors
    /// When the address has the wrong form, or the SSH client is missing.
    fn host(&self, paths: &Paths, board: &Board) -> Result<Host> {
        Host::of(paths, board, self.ssh.as_deref(), self.identity.as_deref())
    }
}
