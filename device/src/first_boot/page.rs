//! The page's secret and certificate, where a provisioning file gives the page its names.

use toml::{Table, Value};

use crate::web::provision::Certificate;
use crate::web::secret::{self, SecretError};

/// The hash of the secret.
const SECRET_FILE: &str = "page.secret";
/// The certificate.
const CERTIFICATE_FILE: &str = "board.pem";
/// Its key.
const KEY_FILE: &str = "board.key";
/// Where the page is found: the service may not take a port below 1024.
const ADDRESS: &str = "0.0.0.0:8443";

/// What people need to open the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The secret, which is nowhere else; none where its hash was provisioned.
    pub secret: Option<String>,
    /// SHA-256 of the certificate, to compare at the first visit.
    pub fingerprint: String,
}

/// New files for the page.
pub(super) struct Made {
    secret: Option<String>,
    hash: String,
    certificate: Certificate,
}

/// The page's names, where a provisioning file gives some and leaves certificate and secret to
/// the board.
pub(super) fn names_asked_for(provisioned: &Table) -> Option<Vec<String>> {
    let page = provisioned.get("page").and_then(Value::as_table)?;
    if ["certificate", "key", "secret"].iter().any(|key| page.contains_key(*key)) {
        return None;
    }
    let names = page.get("names").and_then(Value::as_array)?;
    // What is no text is a mistake that the configuration's reader finds.
    let names: Vec<_> = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

/// Lets the configuration name the files of [`Made`], and the page be reached.
pub(super) fn open(config: &mut Table, secrets_as: &str) {
    let Some(page) = config.get_mut("page").and_then(Value::as_table_mut) else { return };
    for (key, name) in
        [("certificate", CERTIFICATE_FILE), ("key", KEY_FILE), ("secret", SECRET_FILE)]
    {
        page.insert(key.into(), format!("{secrets_as}{name}").into());
    }
    let address = page.get("address").and_then(Value::as_str);
    let is_local = address.is_none_or(|address| address.starts_with("127."));
    if is_local {
        page.insert("address".into(), ADDRESS.into());
    }
}

impl Made {
    /// Adds a secret to a certificate, unless its hash is given.
    pub fn new(certificate: Certificate, hash: Option<String>) -> Result<Self, SecretError> {
        if let Some(hash) = hash {
            return Ok(Self { secret: None, hash, certificate });
        }
        let secret = secret::generate()?;
        Ok(Self { hash: secret::hash(&secret)?, secret: Some(secret), certificate })
    }

    /// Names and contents of the files.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [
            (SECRET_FILE, &self.hash),
            (CERTIFICATE_FILE, &self.certificate.certificate_pem),
            (KEY_FILE, &self.certificate.key_pem),
        ]
    }

    /// What people need of it.
    pub fn into_sign_in(self) -> SignIn {
        SignIn { secret: self.secret, fingerprint: self.certificate.fingerprint }
    }
}
