//! The first boot: from an image's defaults and a provisioning file to a configuration.
//!
//! Runs at every boot and does nothing where there is nothing to do. A power cut at any moment
//! leaves the provisioning file to be consumed again, or the finished configuration: the file is
//! wiped as the last step, after whoever calls has shown the sign-in secret.

mod page;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::{Config, ConfigError, Mistake};
use crate::durable::{folder_of, place_file, sync_dir};
use crate::web::provision::{Certificate, CertificateError, certificate};
use crate::web::random::{self, NoRandomness};
use crate::web::secret::SecretError;
pub use page::SignIn;

/// Longest file taken, in bytes.
const MOST: u64 = 1024 * 1024;
/// The section of a provisioning file that is no part of the configuration.
const OWN_SECTION: &str = "first_boot";
/// What the name of a provisioning file ends in while it is wiped.
const USED: &str = ".used";
/// The first line of a configuration that was made here.
const HEADER: &str = "# Made at the first boot; `device config` explains every key.\n";

/// Which files there are.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The provisioning file: keys of the configuration and a section `[first_boot]`. May be
    /// missing.
    pub consume: PathBuf,
    /// The image's defaults.
    pub base: PathBuf,
    /// The configuration that is made, or amended where it is there.
    pub config: PathBuf,
    /// Folder of the page's secret, certificate and key.
    pub secrets: PathBuf,
    /// What stands before the name of such a file where the service finds it.
    pub secrets_as: String,
    /// Where public keys for SSH go; without it the provisioning file must not hold any.
    pub ssh_keys: Option<PathBuf>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was a configuration and nothing to consume.
    Nothing,
    /// A configuration was made from the image's defaults.
    Defaults {
        /// The board's AE title.
        ae_title: String,
    },
    /// A provisioning file was consumed.
    Provisioned {
        /// The board's AE title.
        ae_title: String,
        /// What browsers need, where the file names the page.
        sign_in: Option<SignIn>,
    },
}

/// A configuration that is safe on disk; the provisioning file still is there.
#[must_use = "the provisioning file must be wiped"]
#[derive(Debug)]
pub struct Prepared {
    /// What was done.
    pub outcome: Outcome,
    consumed: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum FirstBootError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// A file is not TOML.
    #[error("{path} is not TOML: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        problem: String,
    },
    /// What the files hold together is no valid configuration.
    #[error("{path} was not consumed, nothing has changed: {error}")]
    Mistakes {
        /// The provisioning file.
        path: PathBuf,
        /// All mistakes.
        error: ConfigError,
    },
    /// The image's defaults are no valid configuration.
    #[error("{path}: {error}")]
    Base {
        /// The file.
        path: PathBuf,
        /// All mistakes.
        error: ConfigError,
    },
    /// The configuration cannot be written as TOML.
    #[error("the configuration cannot be written: {0}")]
    Encode(#[from] toml::ser::Error),
    /// The system gives no random numbers.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// No sign-in secret was made.
    #[error("no sign-in secret was made: {0}")]
    Secret(#[from] SecretError),
}

/// Makes or amends the configuration. Nothing has changed when this fails before it writes, and
/// what it writes is written again by the next call.
///
/// # Errors
/// With all mistakes of the provisioning file, or the file that cannot be read or written.
pub fn prepare(plan: &Plan) -> Result<Prepared, FirstBootError> {
    let used = used(&plan.consume);
    scrub(&used).map_err(at(&used))?;
    // The service's unit hands this folder over, so it must be there.
    make_private_dir(&plan.secrets)?;
    let existing = read_table(&plan.config)?;
    match (read_table(&plan.consume)?, existing) {
        (None, Some(_)) => Ok(Prepared { outcome: Outcome::Nothing, consumed: None }),
        (None, None) => defaults(plan),
        (Some(provisioned), existing) => provision(plan, provisioned, existing),
    }
}

impl Prepared {
    /// Overwrites and removes the provisioning file. Flash may keep what was overwritten: whoever
    /// fears for its content must not put secrets into it, and needs none.
    ///
    /// # Errors
    /// When the file cannot be overwritten or removed.
    pub fn finish(self) -> Result<Outcome, FirstBootError> {
        if let Some(path) = &self.consumed {
            wipe(path).map_err(at(path))?;
        }
        Ok(self.outcome)
    }
}

fn defaults(plan: &Plan) -> Result<Prepared, FirstBootError> {
    let mut merged = base(plan)?;
    let ae_title = ensure_ae_title(&mut merged)?;
    Config::from_provisioned(merged.clone())
        .map_err(|error| FirstBootError::Base { path: plan.base.clone(), error })?;
    write_config(&plan.config, &merged)?;
    Ok(Prepared { outcome: Outcome::Defaults { ae_title }, consumed: None })
}

fn provision(
    plan: &Plan,
    provisioned: Table,
    existing: Option<Table>,
) -> Result<Prepared, FirstBootError> {
    let names = page::names_asked_for(&provisioned);
    let certificate = names.map(|names| certificate(&names));
    let mut mistakes = own_mistakes(plan, &provisioned, certificate.as_ref());
    let mut merged = match existing {
        Some(existing) => existing,
        None => base(plan)?,
    };
    overlay(&mut merged, provisioned);
    let ae_title = ensure_ae_title(&mut merged)?;
    if certificate.is_some() {
        page::open(&mut merged, &plan.secrets_as);
    }
    let read = Config::from_provisioned(merged.clone());
    let refused = |error| FirstBootError::Mistakes { path: plan.consume.clone(), error };
    let first_boot = match read {
        Ok((_, first_boot)) if mistakes.is_empty() => first_boot,
        Err(ConfigError::Mistakes(all)) => {
            mistakes.splice(..0, all);
            return Err(refused(ConfigError::Mistakes(mistakes)));
        }
        Err(error) => return Err(refused(error)),
        Ok(_) => return Err(refused(ConfigError::Mistakes(mistakes))),
    };

    let certificate = certificate.and_then(Result::ok);
    let made =
        certificate.map(|it| page::Made::new(it, first_boot.page_secret_hash)).transpose()?;
    if let Some(made) = &made {
        for (name, content) in made.files() {
            let path = plan.secrets.join(name);
            place_file(&path, content.as_bytes(), 0o600).map_err(at(&path))?;
        }
    }
    if let Some(path) = plan.ssh_keys.as_ref().filter(|_| !first_boot.ssh_keys.is_empty()) {
        make_private_dir(folder_of(path))?;
        let lines = first_boot.ssh_keys.join("\n") + "\n";
        place_file(path, lines.as_bytes(), 0o600).map_err(at(path))?;
    }
    merged.remove(OWN_SECTION);
    write_config(&plan.config, &merged)?;
    let sign_in = made.map(page::Made::into_sign_in);
    let outcome = Outcome::Provisioned { ae_title, sign_in };
    Ok(Prepared { outcome, consumed: Some(plan.consume.clone()) })
}

/// What the configuration's reader cannot tell.
fn own_mistakes(
    plan: &Plan,
    provisioned: &Table,
    certificate: Option<&Result<Certificate, CertificateError>>,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut mistake = |key: &str, problem: String| {
        mistakes.push(Mistake { key: key.to_owned(), problem });
    };
    let own = provisioned.get(OWN_SECTION).and_then(Value::as_table);
    let has = |key| own.is_some_and(|own| own.contains_key(key));
    if plan.ssh_keys.is_none() && has("ssh_keys") {
        let problem = "cannot be used: --ssh-keys does not say where they go";
        mistake("first_boot.ssh_keys", problem.into());
    }
    match certificate {
        Some(Ok(_)) => {}
        Some(Err(error)) => mistake("page.names", error.to_string()),
        None if has("page_secret_hash") => {
            let problem = "needs page.names, and no certificate, key or secret in [page]";
            mistake("first_boot.page_secret_hash", problem.into());
        }
        None => {}
    }
    mistakes
}

/// Puts the keys of one table over those of another; lists are replaced as a whole.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// The board's AE title; a new one where there is none, so that two boards differ.
fn ensure_ae_title(config: &mut Table) -> Result<String, NoRandomness> {
    let new = format!("SPINE_{}", hex::encode_upper(random::bytes::<3>()?));
    let receive = config.entry("receive").or_insert_with(|| Table::new().into());
    // What is no table or no text is a mistake that the configuration's reader finds.
    let Some(receive) = receive.as_table_mut() else { return Ok(new) };
    let ae_title = receive.entry("ae_title").or_insert(Value::String(new));
    Ok(ae_title.as_str().unwrap_or_default().to_owned())
}

fn base(plan: &Plan) -> Result<Table, FirstBootError> {
    let missing = || at(&plan.base)(io::ErrorKind::NotFound.into());
    read_table(&plan.base)?.ok_or_else(missing)
}

/// A TOML file; none where there is none.
fn read_table(path: &Path) -> Result<Option<Table>, FirstBootError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(length) if length as u64 > MOST => {
            return Err(at(path)(io::ErrorKind::FileTooLarge.into()));
        }
        other => other.map_err(at(path))?,
    };
    let syntax = |error: toml::de::Error| FirstBootError::Syntax {
        path: path.to_owned(),
        // The message alone: an excerpt of the file could hold what no log may.
        problem: error.message().to_owned(),
    };
    text.parse().map(Some).map_err(syntax)
}

fn write_config(path: &Path, config: &Table) -> Result<(), FirstBootError> {
    let text = format!("{HEADER}{}", toml::to_string(config)?);
    let dir = folder_of(path);
    fs::create_dir_all(dir).map_err(at(dir))?;
    // The service is another user.
    place_file(path, text.as_bytes(), 0o644).map_err(at(path))
}

fn make_private_dir(dir: &Path) -> Result<(), FirstBootError> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = || -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        sync_dir(folder_of(dir))
    };
    made().map_err(at(dir))
}

/// Takes a file out of use, so that a half overwritten one is never read, and then its content.
fn wipe(path: &Path) -> io::Result<()> {
    let used = used(path);
    fs::rename(path, &used)?;
    sync_dir(folder_of(path))?;
    scrub(&used)
}

/// Where a provisioning file is while it is wiped.
fn used(path: &Path) -> PathBuf {
    let mut used = path.as_os_str().to_owned();
    used.push(USED);
    used.into()
}

/// Overwrites and removes a file; none may be there.
fn scrub(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let length = file.metadata()?.len().min(MOST);
    file.write_all(&vec![0; usize::try_from(length).unwrap_or_default()])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync_dir(folder_of(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FirstBootError {
    let path = path.to_owned();
    move |error| FirstBootError::File { path, error }
}

#[cfg(test)]
mod tests;
