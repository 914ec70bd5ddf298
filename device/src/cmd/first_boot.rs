//! `device first-boot`: what a board does before its service starts.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::first_boot::{Outcome, Plan, SignIn, prepare};

/// Make the configuration from an image's defaults and a provisioning file, and wipe that file.
///
/// Runs at every boot, before the service; does nothing where there is nothing to do, and may be
/// cut off at any moment. The provisioning file holds keys of the configuration (`device config`
/// shows them) and may hold a section [first_boot] with ssh_keys and page_secret_hash. With
/// page.names in it, a sign-in secret and a certificate are made for the page, and the secret is
/// printed once: send the standard output to a console, not to a log.
#[derive(Args)]
pub struct FirstBootArgs {
    /// The provisioning file; may be missing
    #[arg(long, value_name = "FILE")]
    consume: PathBuf,
    /// The image's defaults, where there is no configuration yet
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The configuration that is made or amended
    #[arg(long, value_name = "FILE", default_value = "/etc/spinesight/device.toml")]
    config: PathBuf,
    /// Folder for the page's secret, certificate and key
    #[arg(long, value_name = "DIR", default_value = "/etc/spinesight/secrets")]
    secrets: PathBuf,
    /// What stands before the name of such a file where the service finds it
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "/run/credentials/spinesight.service/secrets_"
    )]
    secrets_as: String,
    /// Where the provisioning file's SSH keys go: an authorized_keys file
    #[arg(long, value_name = "FILE")]
    ssh_keys: Option<PathBuf>,
}

/// Runs `device first-boot`.
///
/// # Errors
/// With all mistakes of the provisioning file, which then stays, or when a file cannot be written.
pub fn run(args: FirstBootArgs) -> anyhow::Result<()> {
    let FirstBootArgs { consume, base, config, secrets, secrets_as, ssh_keys } = args;
    let prepared = prepare(&Plan { consume, base, config, secrets, secrets_as, ssh_keys })?;
    // Before the file is wiped: a power cut in between shows another secret at the next boot.
    show(&prepared.outcome).context("cannot show what was made; the provisioning file stays")?;
    prepared.finish()?;
    Ok(())
}

fn show(outcome: &Outcome) -> std::io::Result<()> {
    let mut out = stdout().lock();
    match outcome {
        Outcome::Nothing => return Ok(()),
        Outcome::Defaults { ae_title } => {
            writeln!(out, "No provisioning file: the image's defaults are used.")?;
            writeln!(out, "AE title: {ae_title}")?;
        }
        Outcome::Provisioned { ae_title, sign_in } => {
            writeln!(out, "The provisioning file is consumed.")?;
            writeln!(out, "AE title: {ae_title}")?;
            if let Some(SignIn { secret, fingerprint }) = sign_in {
                if let Some(secret) = secret {
                    writeln!(out, "Sign-in secret of the page, shown this once: {secret}")?;
                }
                writeln!(out, "Certificate, SHA-256 for comparison at the first visit:")?;
                writeln!(out, "{fingerprint}")?;
            }
        }
    }
    out.flush()
}
