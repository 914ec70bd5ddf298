//! One file per subcommand: command-line parsing and printing, nothing else.

pub mod dataset;
pub mod evaluate;
pub mod train;
