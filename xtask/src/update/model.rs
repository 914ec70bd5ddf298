//! A model alone: the bundle's folder as a plain archive, and the signature of its bytes beside it.
//!
//! The board takes it with `spinesight model install`: it checks the signature first, unpacks,
//! proves the model on its golden cases, and only then lets it judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::{self, Program};
use crate::keys::ModelSigner;
use crate::process;
use crate::scratch::Scratch;

const NEEDED: [Program; 2] =
    [Program { name: "tar", package: "tar" }, Program { name: "openssl", package: "openssl" }];

/// Makes, signs and checks `spinesight-model-NAME[-development].tar` and its `.tar.sig` in `out`;
/// returns the archive's path.
///
/// The same folder gives the same archive. The signature is Ed25519's 64 bytes over the archive.
///
/// # Errors
/// When the folder is no bundle, or tar or OpenSSL fail.
pub fn make(signer: &ModelSigner, bundle: &Path, out: &Path) -> Result<PathBuf> {
    debian::ensure(&NEEDED, "signing a model")?;
    if !bundle.join("bundle.toml").is_file() {
        bail!("{} is no model bundle: it has no bundle.toml", bundle.display());
    }
    let folder = fs::canonicalize(bundle)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let scratch = Scratch::new(&out.join(".model"))?;
    let (archive, signature) = (scratch.path("tar"), scratch.path("sig"));
    pack(&folder, &archive)?;
    sign(&signer.key, &archive, &signature)?;
    let mark = if signer.is_development { "-development" } else { "" };
    let made = out.join(format!("spinesight-model-{name}{mark}.tar"));
    // An archive never stands beside another one's signature.
    let _ = fs::remove_file(signature_of(&made));
    fs::rename(&archive, &made).with_context(|| format!("cannot make {}", made.display()))?;
    fs::rename(&signature, signature_of(&made))?;
    Ok(made)
}

/// Where an archive's signature is.
pub fn signature_of(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

fn pack(folder: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name", "--mtime=@0", "--numeric-owner"]);
    tar.args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "--file"]).arg(archive);
    process::capture(tar.arg("--directory").arg(folder).arg(".")).map(drop)
}

/// Signs a file, and checks that the public half of the key accepts it.
fn sign(key: &Path, file: &Path, signature: &Path) -> Result<()> {
    for [task, option] in [["-sign", "-out"], ["-verify", "-sigfile"]] {
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", task, "-rawin", "-inkey"]).arg(key).arg("-in").arg(file);
        process::capture(command.arg(option).arg(signature))?;
    }
    let length = fs::metadata(signature)?.len();
    if length != 64 {
        bail!("{} is no Ed25519 key: its signature has {length} bytes", key.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_bundle_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let signer = ModelSigner { key: "none".into(), is_development: true };
        let error = make(&signer, folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("bundle.toml"), "{error}");
    }

    #[test]
    fn the_signature_lies_beside_the_archive() {
        assert_eq!(signature_of(Path::new("a/b.tar")), Path::new("a/b.tar.sig"));
    }

    #[test]
    #[ignore = "needs tar and openssl"]
    fn the_same_folder_gives_the_same_archive_and_its_signature_verifies() {
        let home = tempfile::tempdir().unwrap();
        let paths = crate::paths::Paths {
            root: home.path().join("clone"),
            cache: home.path().join("cache"),
            target: home.path().join("target"),
            own_target: home.path().join("target"),
        };
        let keys = crate::keys::development(&paths).unwrap();
        let signer = crate::keys::Release::default().model_signer(&paths).unwrap();
        let made = [home.path().join("a"), home.path().join("b")].map(|place| {
            let bundle = place.join("net");
            fs::create_dir_all(bundle.join("golden")).unwrap();
            fs::write(bundle.join("bundle.toml"), "x = 1\n").unwrap();
            fs::write(bundle.join("golden/0"), "0").unwrap();
            make(&signer, &bundle, &place).unwrap()
        });
        assert!(made[0].ends_with("spinesight-model-net-development.tar"));
        let [archive, again] = made.each_ref().map(|file| fs::read(file).unwrap());
        assert_eq!(archive, again);
        let verify = |file: &Path| {
            let mut command = Command::new("openssl");
            command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]);
            command.arg(keys.model_public_key()).arg("-in").arg(file);
            process::capture(command.arg("-sigfile").arg(signature_of(&made[0])))
        };
        assert!(verify(&made[1]).is_ok());
        let changed = home.path().join("changed");
        fs::write(&changed, [archive.as_slice(), &[0]].concat()).unwrap();
        assert!(verify(&changed).is_err());
    }
}
