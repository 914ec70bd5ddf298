//! `device audit`: look at the audit trail.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::audit::{AuditError, Head, Report, verify};

/// Check the audit trail.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    Verify(VerifyArgs),
}

/// Check that no line of an audit trail was changed, removed or exchanged.
///
/// Whoever may write the trail's folder can write a whole new trail. To exclude that, keep the
/// head that this command prints somewhere else, and give it with --head the next time.
#[derive(Debug, Args)]
struct VerifyArgs {
    /// The trail's folder.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A head that was kept elsewhere; may be given several times.
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Vec<Head>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `device audit`; the exit code is 1 when the trail is not intact.
///
/// # Errors
/// When the trail cannot be read.
pub fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let AuditCommand::Verify(args) = args.command;
    match verify(&args.dir, &args.head) {
        Ok(report) => {
            print_intact(&report, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (AuditError::Io { .. } | AuditError::Missing)) => Err(error.into()),
        Err(error) => {
            print_broken(&error, args.json);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print_intact(report: &Report, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let mut line = serde_json::to_value(report)?;
        line["intact"] = true.into();
        println!("{line}");
        return Ok(());
    }
    println!("The trail is intact: entries {} to {}.", report.first, report.head.seq);
    if report.first > 1 {
        println!("Earlier entries are not here: they were moved elsewhere, or removed.");
    }
    if report.repairs > 0 {
        println!("Lines cut off after power losses: {}.", report.repairs);
    }
    if report.is_torn {
        println!("The last line is incomplete: it is being written, or the power failed.");
    }
    println!("Head, to keep elsewhere: {}", report.head);
    Ok(())
}

fn print_broken(error: &AuditError, as_json: bool) {
    if !as_json {
        println!("The trail is NOT intact: {error}.");
        return;
    }
    let (file, line) = match error {
        AuditError::Broken { file, line, .. } => (Some(file), Some(line)),
        _ => (None, None),
    };
    println!(
        "{}",
        json!({"intact": false, "reason": error.to_string(), "file": file, "line": line})
    );
}
