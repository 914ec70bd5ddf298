//! One file per subcommand: command-line parsing and printing, nothing else.

pub mod dataset;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod phantom;
pub mod quantize;
pub mod train;
pub mod verify;

mod trained;
