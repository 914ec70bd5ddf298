//! How networks are run, as every command takes it.

use clap::Args;

use crate::runtime::engine::{EngineKind, EngineOptions};

/// How networks are run.
#[derive(Args, Clone, Copy, Debug)]
pub struct EngineArgs {
    /// Threads that share the work of one scan; the result is the same for any number
    /// [default: every core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// What runs the convolutions: fused, or tract alone in float arithmetic, for comparison.
    #[arg(long, value_name = "NAME", default_value_t = EngineKind::Fused)]
    engine: EngineKind,
}

impl EngineArgs {
    /// The options that the arguments mean.
    pub fn options(self) -> EngineOptions {
        let threads = self.threads.map_or(EngineOptions::default().threads, usize::from);
        EngineOptions { kind: self.engine, threads }
    }
}
