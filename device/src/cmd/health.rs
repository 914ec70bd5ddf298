//! `device health`: is the board well?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::health::temperature::HOT;
use crate::health::{Options, Report, System, look};

/// Check the board: configuration, self-test, receiver, spool, service, watchdog, temperature.
///
/// Looks once; whoever starts the board repeats it until it passes or patience ends. Exits with 0
/// only when no check failed. What cannot be looked at is unknown, which is no failure.
#[derive(Args)]
pub struct HealthArgs {
    /// The service's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/spinesight/device.toml")]
    config: PathBuf,
    /// The service's systemd unit
    #[arg(long, default_value = "spinesight.service")]
    unit: String,
    /// Degrees Celsius from which the board is too hot
    #[arg(long, value_name = "DEGREES", default_value_t = HOT)]
    hottest: f32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `device health`; the exit code is 1 when a check failed.
///
/// # Errors
/// When the report cannot be written.
pub fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let HealthArgs { config, unit, hottest, json } = args;
    let system = System::default();
    let report = look(config, &Options { unit: unit.clone(), hottest: *hottest, system });
    if *json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print_table(&report);
    }
    Ok(if report.well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_table(report: &Report) {
    for check in &report.checks {
        println!("{:13} {:7} {}", check.name, check.state.name(), check.sentence);
    }
    println!("{}", if report.well { "The board is well." } else { "The board is NOT well." });
}
