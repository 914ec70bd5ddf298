//! The training workstation's command line.

use clap::{Parser, Subcommand};
use host::cmd;

/// Train spine X-ray classifiers, judge them honestly, export them for the board.
///
/// Decision support that flags and explains; never a diagnosis.
#[derive(Parser)]
#[command(name = "host", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dataset(cmd::dataset::DatasetArgs),
    Train(Box<cmd::train::TrainArgs>),
    Evaluate(cmd::evaluate::EvaluateArgs),
    Explain(cmd::explain::ExplainArgs),
    Quantize(cmd::quantize::QuantizeArgs),
    Export(cmd::export::ExportArgs),
    Verify(cmd::verify::VerifyArgs),
    Phantom(cmd::phantom::PhantomArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Dataset(args) => cmd::dataset::run(args),
        Command::Train(args) => cmd::train::run(*args),
        Command::Evaluate(args) => cmd::evaluate::run(args),
        Command::Explain(args) => cmd::explain::run(args),
        Command::Quantize(args) => cmd::quantize::run(args),
        Command::Export(args) => cmd::export::run(args),
        Command::Verify(args) => cmd::verify::run(args),
        Command::Phantom(args) => cmd::phantom::run(args),
    }
}
