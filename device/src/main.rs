//! The board's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use device::cmd;

/// Judge spine X-rays at the point of care: normal, abnormal, or refer to a human.
///
/// Decision support that flags and explains; never a diagnosis.
#[derive(Parser)]
#[command(name = "device", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Scan(cmd::scan::ScanArgs),
    Info(cmd::info::InfoArgs),
    Selftest(cmd::selftest::SelftestArgs),
    Serve(cmd::serve::ServeArgs),
    Config(cmd::config::ConfigArgs),
    Provision(cmd::provision::ProvisionArgs),
    Audit(cmd::audit::AuditArgs),
    Health(cmd::health::HealthArgs),
    FirstBoot(cmd::first_boot::FirstBootArgs),
    Model(cmd::model::ModelArgs),
    #[command(hide = true)]
    Bench(cmd::bench::BenchArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Scan(args) => cmd::scan::run(args),
        Command::Info(args) => cmd::info::run(args).map(|()| ExitCode::SUCCESS),
        Command::Selftest(args) => cmd::selftest::run(args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => cmd::serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Config(args) => cmd::config::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Provision(args) => cmd::provision::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Audit(args) => cmd::audit::run(args),
        Command::Health(args) => cmd::health::run(&args),
        Command::FirstBoot(args) => cmd::first_boot::run(args).map(|()| ExitCode::SUCCESS),
        Command::Model(args) => cmd::model::run(args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => cmd::bench::run(args).map(|()| ExitCode::SUCCESS),
    }
}
