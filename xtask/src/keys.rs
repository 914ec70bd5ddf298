//! `cargo xtask keys`: what updates are signed with.
//!
//! A board takes an update when its certificate comes from the authority that the board's image
//! names, and a model when it is signed with the key that the image names. Development keys are
//! made once, without a password, in the cache folder, and bundles made with them say so in their
//! names. Release keys are never made by chance: they are named on the command line, and best stay
//! in a token (`pkcs11:...`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::{self, Program};
use crate::paths::Paths;
use crate::process;
use crate::scratch::Scratch;

const OPENSSL: Program = Program { name: "openssl", package: "openssl" };
/// Twenty years, in days: a board in a cupboard must still take updates.
const DAYS: &str = "7300";
const DEVELOPMENT: &str = "development";

/// Command line of the key maker.
#[derive(clap::Args)]
pub struct Arguments {
    /// Make keys for releases in that folder, instead of development keys in the cache folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Keys and certificates of one purpose, as files `NAME.*.pem` of a folder.
#[derive(Clone, Debug)]
pub struct KeySet {
    folder: PathBuf,
    name: &'static str,
}

impl KeySet {
    /// Signs updates of a board.
    pub fn key(&self) -> PathBuf {
        self.file("key")
    }

    /// Goes into an update, beside its signature.
    pub fn certificate(&self) -> PathBuf {
        self.file("cert")
    }

    /// Signs such certificates; not needed for an update.
    pub fn authority_key(&self) -> PathBuf {
        self.file("ca.key")
    }

    /// Goes into an image: what the board checks an update's certificate with.
    pub fn authority(&self) -> PathBuf {
        self.file("ca")
    }

    /// Signs models: Ed25519, PKCS#8.
    pub fn model_key(&self) -> PathBuf {
        self.file("model.key")
    }

    /// Goes into an image: what the board checks a model with, SPKI.
    pub fn model_public_key(&self) -> PathBuf {
        self.file("model.pub")
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}.pem", self.name))
    }

    fn files(&self) -> [PathBuf; 6] {
        [
            self.key(),
            self.certificate(),
            self.authority_key(),
            self.authority(),
            self.model_key(),
            self.model_public_key(),
        ]
    }

    /// Makes the files unless they are there; half a set is left as it is.
    fn ensure(&self) -> Result<()> {
        let _lock = process::lock(&self.folder.join("keys.lock"), "making keys")?;
        let there = self.files().iter().filter(|file| file.is_file()).count();
        if there == self.files().len() {
            return Ok(());
        }
        if there > 0 {
            bail!(
                "some files of the {} keys are missing in {}: bring them back, or move all away",
                self.name,
                self.folder.display()
            );
        }
        debian::ensure(&[OPENSSL], "making keys")?;
        let scratch = Scratch::new(&self.folder.join("new"))?;
        let new = KeySet { folder: scratch.folder(".")?, name: self.name };
        new.make()?;
        for (new, file) in new.files().iter().zip(self.files()) {
            fs::set_permissions(new, fs::Permissions::from_mode(0o600))?;
            fs::rename(new, &file).with_context(|| format!("cannot make {}", file.display()))?;
        }
        Ok(())
    }

    fn make(&self) -> Result<()> {
        let owner = |role: &str| format!("/O=Spinesight/CN=Spinesight {} {role}", self.name);
        let mut authority = request(&self.authority_key(), &self.authority(), &owner("authority"));
        let rights = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        openssl(with_extensions(&mut authority, &rights))?;
        let mut signer = request(&self.key(), &self.certificate(), &owner("updates"));
        signer.arg("-CA").arg(self.authority()).arg("-CAkey").arg(self.authority_key());
        // What RAUC asks of a signer.
        let rights = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=emailProtection",
        ];
        openssl(with_extensions(&mut signer, &rights))?;
        let mut model = Command::new("openssl");
        openssl(model.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(self.model_key()))?;
        let mut public = Command::new("openssl");
        public.args(["pkey", "-pubout", "-in"]).arg(self.model_key());
        openssl(public.arg("-out").arg(self.model_public_key()))
    }
}

/// A new key on the curve P-256, which tokens have too, and a certificate for it.
fn request(key: &Path, certificate: &Path, owner: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(["req", "-config", "/dev/null", "-x509", "-noenc", "-days", DAYS]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", owner]);
    command.arg("-keyout").arg(key).arg("-out").arg(certificate);
    command
}

fn with_extensions<'a>(command: &'a mut Command, extensions: &[&str]) -> &'a mut Command {
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    command
}

/// Runs OpenSSL, silent unless it fails.
fn openssl(command: &mut Command) -> Result<()> {
    process::capture(command).map(drop)
}

/// Makes a set of keys and prints where it is.
///
/// # Errors
/// When OpenSSL is missing, or the folder is in the clone or cannot be written.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let set = match &arguments.out {
        Some(folder) => release(paths, folder)?,
        None => development(paths)?,
    };
    println!("updates are signed with   {}", set.key().display());
    println!("  certificate             {}", set.certificate().display());
    println!("  boards trust            {}", set.authority().display());
    println!("  whose key stays offline {}", set.authority_key().display());
    println!("models are signed with    {}", set.model_key().display());
    println!("  boards trust            {}", set.model_public_key().display());
    Ok(())
}

/// The development keys, made when they are first needed.
///
/// # Errors
/// When OpenSSL is missing or the cache folder cannot be written.
pub fn development(paths: &Paths) -> Result<KeySet> {
    let set = KeySet { folder: paths.cache.join("keys"), name: DEVELOPMENT };
    set.ensure()?;
    Ok(set)
}

fn release(paths: &Paths, folder: &Path) -> Result<KeySet> {
    let folder = std::path::absolute(folder)?;
    refuse_in_clone(paths, &folder)?;
    let set = KeySet { folder, name: "release" };
    if set.files().iter().any(|file| file.exists()) {
        bail!("there are release keys in {} already", set.folder.display());
    }
    set.ensure()?;
    Ok(set)
}

/// A private key in the clone would be committed one day.
fn refuse_in_clone(paths: &Paths, path: &Path) -> Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if path.starts_with(&paths.root) {
        bail!("{} is in the clone, where no private key may lie", path.display());
    }
    Ok(())
}

/// What a command signs with, where it is not with the development keys.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Release {
    /// Private key, a PEM file or `pkcs11:...` [default: the development key]
    #[arg(long, value_name = "FILE|URL")]
    key: Option<String>,
    /// Certificate of --key, a PEM file or `pkcs11:...`
    #[arg(long, value_name = "FILE|URL", requires = "key")]
    cert: Option<String>,
    /// Certificate (PEM) of the authority that boards trust [default: --cert itself]
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Option<PathBuf>,
}

/// Signs updates of boards.
#[derive(Debug)]
pub struct Signer {
    /// A file or a PKCS#11 URL.
    pub key: String,
    /// A file or a PKCS#11 URL.
    pub certificate: String,
    /// What the result is checked with, as on a board.
    pub authority: PathBuf,
    /// Whether only boards in development trust it.
    pub is_development: bool,
    /// Holds the files of a key that nobody keeps.
    _scratch: Option<Scratch>,
}

/// Signs models.
#[derive(Debug)]
pub struct ModelSigner {
    /// A file: Ed25519, PKCS#8.
    pub key: PathBuf,
    /// Whether only boards in development trust it.
    pub is_development: bool,
}

impl Release {
    /// That key, without a certificate: for models.
    pub fn with_key(key: Option<String>) -> Release {
        Release { key, ..Release::default() }
    }

    /// Who signs updates of boards.
    ///
    /// # Errors
    /// When a file is missing, or the key lies in the clone.
    pub fn signer(&self, paths: &Paths) -> Result<Signer> {
        let Some(key) = &self.key else { return Signer::of(&development(paths)?, None) };
        let Some(certificate) = &self.cert else {
            bail!("--cert names the certificate of --key, which goes into the update");
        };
        check(paths, key)?;
        check_exists(certificate)?;
        let authority = match &self.ca {
            Some(authority) => authority.clone(),
            None if is_token(certificate) => {
                bail!("--ca names the certificate of the authority that boards trust")
            }
            None => PathBuf::from(certificate),
        };
        check_exists(&authority.to_string_lossy())?;
        Ok(Signer {
            key: key.clone(),
            certificate: certificate.clone(),
            authority,
            is_development: is_development(paths, key),
            _scratch: None,
        })
    }

    /// Who signs models.
    ///
    /// # Errors
    /// When the file is missing or lies in the clone, or the key is in a token.
    pub fn model_signer(&self, paths: &Paths) -> Result<ModelSigner> {
        let Some(key) = &self.key else {
            let key = development(paths)?.model_key();
            return Ok(ModelSigner { key, is_development: true });
        };
        if is_token(key) {
            bail!("a model's key must be a file: no common token signs with Ed25519");
        }
        check(paths, key)?;
        Ok(ModelSigner { key: key.into(), is_development: is_development(paths, key) })
    }
}

impl Signer {
    fn of(set: &KeySet, scratch: Option<Scratch>) -> Result<Signer> {
        let text = |file: PathBuf| {
            let text = file.into_os_string().into_string();
            text.ok().context("the name of the key's folder is no Unicode")
        };
        Ok(Signer {
            key: text(set.key())?,
            certificate: text(set.certificate())?,
            authority: set.authority(),
            is_development: true,
            _scratch: scratch,
        })
    }

    /// A signer whose key is gone with it: RAUC makes no bundle without one.
    ///
    /// # Errors
    /// When OpenSSL is missing.
    pub fn thrown_away(paths: &Paths) -> Result<Signer> {
        debian::ensure(&[OPENSSL], "making keys")?;
        let place = format!("keys/unsigned-{}", std::process::id());
        let scratch = Scratch::new(&paths.cache.join(place))?;
        let set = KeySet { folder: scratch.folder(".")?, name: "unsigned" };
        set.make()?;
        Signer::of(&set, Some(scratch))
    }
}

fn is_token(name: &str) -> bool {
    name.starts_with("pkcs11:")
}

fn is_development(paths: &Paths, key: &str) -> bool {
    let folder = fs::canonicalize(paths.cache.join("keys"));
    folder.is_ok_and(|folder| fs::canonicalize(key).is_ok_and(|key| key.starts_with(folder)))
}

fn check(paths: &Paths, key: &str) -> Result<()> {
    check_exists(key)?;
    if is_token(key) { Ok(()) } else { refuse_in_clone(paths, Path::new(key)) }
}

fn check_exists(name: &str) -> Result<()> {
    if !is_token(name) && !Path::new(name).is_file() {
        bail!("there is no file {name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(home: &Path) -> Paths {
        let root = home.join("clone");
        fs::create_dir_all(&root).unwrap();
        Paths {
            root: root.clone(),
            cache: home.join("cache"),
            target: root.clone(),
            own_target: root,
        }
    }

    fn named(key: &Path, certificate: Option<&Path>) -> Release {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        Release { key: Some(text(key)), cert: certificate.map(text), ca: None }
    }

    #[test]
    fn a_private_key_in_the_clone_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let paths = paths(home.path());
        let (inside, outside) = (paths.root.join("key.pem"), home.path().join("key.pem"));
        fs::write(&inside, "").unwrap();
        fs::write(&outside, "").unwrap();
        let error = named(&inside, Some(&outside)).signer(&paths).unwrap_err().to_string();
        assert!(error.contains("in the clone"), "{error}");
        assert!(named(&inside, None).model_signer(&paths).is_err());
        assert!(release(&paths, &paths.root.join("keys")).is_err());
        let signer = named(&outside, Some(&outside)).signer(&paths).unwrap();
        assert!(!signer.is_development);
    }

    #[test]
    fn the_development_key_is_known_by_its_place() {
        let home = tempfile::tempdir().unwrap();
        let paths = paths(home.path());
        let key = paths.cache.join("keys/development.key.pem");
        fs::create_dir_all(key.parent().unwrap()).unwrap();
        fs::write(&key, "").unwrap();
        assert!(named(&key, Some(&key)).signer(&paths).unwrap().is_development);
    }

    #[test]
    fn a_token_needs_the_authority_named() {
        let home = tempfile::tempdir().unwrap();
        let paths = paths(home.path());
        let token = Path::new("pkcs11:token=x");
        let error = named(token, Some(token)).signer(&paths).unwrap_err().to_string();
        assert!(error.contains("--ca"), "{error}");
        assert!(named(token, None).model_signer(&paths).is_err());
        assert!(named(token, None).signer(&paths).is_err(), "no certificate");
    }

    #[test]
    fn half_a_set_of_keys_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let paths = paths(home.path());
        let kept = paths.cache.join("keys/development.key.pem");
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::write(&kept, "precious").unwrap();
        assert!(development(&paths).is_err());
        assert_eq!(fs::read(&kept).unwrap(), b"precious");
    }
}
