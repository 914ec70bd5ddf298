//! `device model`: model bundles, updated alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::install::{Signed, Store, prove};
use crate::runtime::engine::EngineOptions;

/// Install a signed model bundle, go back to the one before, or list what there is.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    Install(InstallArgs),
    Rollback(StoreArgs),
    List(StoreArgs),
}

/// Install a signed bundle and let it judge.
///
/// The signature is verified before anything of the archive is looked at. The bundle judges only
/// after every byte of it is verified and its self-test has passed on this machine; until then,
/// and whatever fails, the one at work stays. A running service takes the new one within seconds.
///
/// Bundles have no version: whoever has an old bundle with its signature can install it again.
#[derive(Debug, Args)]
struct InstallArgs {
    /// The bundle's files at the root of a tar archive
    #[arg(value_name = "FILE.tar")]
    archive: PathBuf,
    /// Its detached Ed25519 signature, 64 bytes
    #[arg(long, value_name = "FILE.sig")]
    signature: PathBuf,
    /// The public key of whoever makes models, PEM
    #[arg(long, value_name = "PUBLIC.pem")]
    key: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

/// Where bundles are.
#[derive(Debug, Args)]
struct StoreArgs {
    /// The folder of installed bundles
    #[arg(long, value_name = "DIR", default_value = "/var/lib/spinesight-models")]
    store: PathBuf,
    /// The link that the configuration names; `previous` lies beside it [default: DIR/current]
    #[arg(long, value_name = "LINK")]
    current: Option<PathBuf>,
}

impl StoreArgs {
    fn store(self) -> Store {
        let current = self.current.unwrap_or_else(|| self.store.join("current"));
        Store::new(self.store, current)
    }
}

/// Runs `device model`.
///
/// # Errors
/// When no other bundle judges now, and why.
pub fn run(args: ModelArgs) -> anyhow::Result<()> {
    let options = EngineOptions::default();
    let bundle = match args.command {
        ModelCommand::Install(InstallArgs { archive, signature, key, store }) => {
            let signed = Signed::read(&archive, &signature, &key)?;
            store.store().install(&signed, |dir| prove(dir, options))?
        }
        ModelCommand::Rollback(store) => store.store().roll_back(|dir| prove(dir, options))?,
        ModelCommand::List(store) => return list(&store.store()),
    };
    println!("{} judges from now on, digest {}", bundle.name, bundle.digest);
    Ok(())
}

fn list(store: &Store) -> anyhow::Result<()> {
    for listed in store.list()? {
        let role = match (listed.is_current, listed.is_previous) {
            (true, _) => "current",
            (_, true) => "previous",
            _ => "",
        };
        let state = match &listed.bundle {
            Ok(bundle) => format!("{}, digest {}", bundle.name, bundle.digest),
            Err(error) => format!("unusable: {error}"),
        };
        println!("{role:8}  {}  {state}", listed.path.display());
    }
    Ok(())
}
