//! What a provisioning file may hold beside the keys of the configuration.

use toml::Table;

use super::reader::{Reader, Section};
use super::{Config, ConfigError};
use crate::web::secret::Verifier;

/// The section's name.
const SECTION: &str = "first_boot";
/// How public keys of SSH begin.
const KEY_KINDS: [&str; 3] = ["ssh-", "ecdsa-", "sk-"];

/// Section `[first_boot]` of a provisioning file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstBoot {
    /// Public keys that may sign in over SSH, each a line of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The hash of the page's sign-in secret, for a secret that was made elsewhere.
    pub page_secret_hash: Option<String>,
}

impl FirstBoot {
    fn read(mut keys: Section<'_>) -> Self {
        let about = "Public keys that may sign in over SSH.";
        let ssh_keys: Vec<String> = keys.take("ssh_keys", about, Vec::new());
        if !ssh_keys.iter().all(|key| KEY_KINDS.iter().any(|kind| key.starts_with(kind))) {
            keys.mistake(
                "ssh_keys",
                "must be public keys, as in \"ssh-ed25519 AAAA... me\"".into(),
            );
        }
        let about = "Hash of the page's sign-in secret; `device provision` makes both.";
        let page_secret_hash = keys.maybe("page_secret_hash", about, "$argon2id$...".to_owned());
        if let Some(Err(error)) = page_secret_hash.as_deref().map(Verifier::new) {
            keys.mistake("page_secret_hash", error.to_string());
        }
        Self { ssh_keys, page_secret_hash }
    }
}

impl Config {
    /// Reads a configuration that was provisioned, with its section `[first_boot]`.
    ///
    /// # Errors
    /// With all mistakes.
    pub fn from_provisioned(file: Table) -> Result<(Self, FirstBoot), ConfigError> {
        let mut reader = Reader::new(file);
        let first_boot =
            FirstBoot::read(reader.section(SECTION, "What the first boot needs beside."));
        let config = Self::read(&mut reader);
        reader.finish();
        if reader.mistakes.is_empty() {
            Ok((config, first_boot))
        } else {
            Err(ConfigError::Mistakes(reader.mistakes))
        }
    }
}
