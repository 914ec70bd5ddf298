//! `device provision`: what the page needs before others may reach it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::durable::place_file;
use crate::web::{provision, secret};

/// Make the page's sign-in secret and a certificate for HTTPS.
///
/// Writes page.secret (the secret's hash), board.pem and board.key, and prints the secret once.
#[derive(Args)]
pub struct ProvisionArgs {
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "/etc/spinesight/secrets")]
    out: PathBuf,
    /// Host names and addresses by which browsers reach the board
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Replace what is there
    #[arg(long)]
    replace: bool,
}

/// Runs `device provision`.
///
/// # Errors
/// When something is there already, or cannot be written.
pub fn run(args: &ProvisionArgs) -> anyhow::Result<()> {
    let secret = secret::generate()?;
    let hash = secret::hash(&secret)?;
    let certificate = provision::certificate(&args.names)?;
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let files = [
        ("page.secret", hash.as_str()),
        ("board.pem", &certificate.certificate_pem),
        ("board.key", &certificate.key_pem),
    ];
    let there: Vec<_> =
        files.iter().map(|(name, _)| *name).filter(|name| args.out.join(name).exists()).collect();
    if !args.replace && !there.is_empty() {
        let (out, there) = (args.out.display(), there.join(", "));
        bail!("{out} has {there} already: --replace makes new ones, and the old secret ends");
    }
    for (name, content) in files {
        let path = args.out.join(name);
        // For its owner alone.
        place_file(&path, content.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("Sign-in secret, shown this once: {secret}");
    println!("Certificate, SHA-256 for comparison at the first visit:");
    println!("{}", certificate.fingerprint);
    Ok(())
}
