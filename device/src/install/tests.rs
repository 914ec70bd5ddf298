use std::cell::RefCell;
use std::os::unix::fs::symlink;

use models::bundle::Parts;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::durable::forgetful;

const ZOO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/zoo/vgg16-gap-random-int8");

/// A maker of bundles with a key, and a board with a store.
struct World {
    dir: TempDir,
    key: Ed25519KeyPair,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let key = new_key();
        write_key(dir.path(), &key);
        Self { dir, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> Store {
        store(self.dir.path())
    }

    fn sign(&self, archive: &[u8]) -> Result<Signed, InstallError> {
        sign(self.dir.path(), "model", &self.key, archive);
        read(self.dir.path(), "model")
    }

    /// Installs a small bundle of this name.
    fn install(&self, name: &str) -> Result<BundleRef, InstallError> {
        let signed = self.sign(&small_archive(name)).expect("a good signature");
        self.store().install(&signed, whole)
    }

    /// Names of the bundles that judge and judged before.
    fn linked(&self) -> [Option<String>; 2] {
        ["current", "previous"].map(|link| {
            let bundle = Bundle::load(&self.path("store").join(link)).ok()?;
            Some(bundle.card.name)
        })
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("store")).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().into_string()).collect();
        names.sort();
        names.into_iter().map(|name| name.expect("UTF-8")).collect()
    }
}

fn store(dir: &Path) -> Store {
    Store::new(dir.join("store"), dir.join("store/current"))
}

fn new_key() -> Ed25519KeyPair {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key")
}

fn write_key(dir: &Path, key: &Ed25519KeyPair) {
    let head = hex::decode("302a300506032b6570032100").expect("hex");
    let der = [head.as_slice(), key.public_key().as_ref()].concat();
    let pem = SubjectPem(&der).to_string();
    fs::write(dir.join("public.pem"), pem).expect("writes");
}

/// A public key as PEM.
struct SubjectPem<'a>(&'a [u8]);

impl std::fmt::Display for SubjectPem<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", base64(self.0))
    }
}

fn base64(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let at = |place: usize| u32::from(*bytes.get(place).unwrap_or(&0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let letter = |place: usize| char::from(letters[(bits >> (18 - 6 * place)) as usize & 63]);
        (0..4)
            .map(|place| if place <= bytes.len() { letter(place) } else { '=' })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn sign(dir: &Path, name: &str, key: &Ed25519KeyPair, archive: &[u8]) {
    fs::write(dir.join(format!("{name}.tar")), archive).expect("writes");
    fs::write(dir.join(format!("{name}.sig")), key.sign(archive).as_ref()).expect("writes");
}

fn read(dir: &Path, name: &str) -> Result<Signed, InstallError> {
    let [archive, signature] = ["tar", "sig"].map(|end| dir.join(format!("{name}.{end}")));
    Signed::read(&archive, &signature, &dir.join("public.pem"))
}

/// The bytes of a bundle with a name and a network of its own, which no engine could run.
fn small_archive(name: &str) -> Vec<u8> {
    archive_of(|bundle| {
        bundle.card.name = name.into();
        bundle.model = name.into();
    })
}

/// The bytes of the zoo's bundle with a change that its maker made.
fn archive_of(change: impl FnOnce(&mut Bundle)) -> Vec<u8> {
    let dir = TempDir::new().expect("a folder");
    let mut bundle = Bundle::load(Path::new(ZOO)).expect("loads");
    change(&mut bundle);
    let Bundle { card, model, head, outliers, golden, .. } = &bundle;
    let parts =
        Parts { model, head, outliers, golden_input: &golden.input, expected: &golden.expected };
    Bundle::save(card.clone(), &parts, dir.path()).expect("saves");
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", dir.path()).expect("packs");
    builder.into_inner().expect("packs")
}

/// Proves that a bundle is whole, where no network is to be run.
fn whole(dir: &Path) -> Result<BundleRef, ScannerError> {
    let Bundle { card, digest, .. } = Bundle::load(dir)?;
    Ok(BundleRef { name: card.name, digest })
}

fn some(names: [&str; 2]) -> [Option<String>; 2] {
    names.map(|name| Some(name.to_owned()))
}

/// Covers: MDL-1
#[test]
fn only_what_the_maker_signed_is_looked_at() {
    let world = World::new();
    let archive = small_archive("one");
    world.sign(&archive).expect("a good signature");
    let again = || read(world.dir.path(), "model");

    for at in [0, 600, archive.len() - 1] {
        let mut changed = archive.clone();
        changed[at] ^= 1;
        fs::write(world.path("model.tar"), changed).expect("writes");
        assert!(matches!(again(), Err(InstallError::Signature)), "byte {at}");
    }
    for length in [0, archive.len() - 512] {
        fs::write(world.path("model.tar"), &archive[..length]).expect("writes");
        assert!(matches!(again(), Err(InstallError::Signature)), "{length} bytes");
    }
    fs::write(world.path("model.tar"), &archive).expect("writes");
    again().expect("as it was");

    let signature = fs::read(world.path("model.sig")).expect("reads");
    for wrong in [&signature[..63], b"", &[0; 64], &[&signature[..], b"\n"].concat()] {
        fs::write(world.path("model.sig"), wrong).expect("writes");
        assert!(matches!(again(), Err(InstallError::Signature)));
    }
    fs::write(world.path("model.sig"), new_key().sign(&archive).as_ref()).expect("writes");
    assert!(matches!(again(), Err(InstallError::Signature)), "signed by another");

    fs::write(world.path("model.sig"), signature).expect("writes");
    for wrong in ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        fs::write(world.path("public.pem"), wrong).expect("writes");
        assert!(matches!(again(), Err(InstallError::Key { .. })), "{wrong}");
    }
    assert!(!world.path("store").exists());
}

/// An archive with one entry of this kind, name and content.
fn entry(kind: tar::EntryType, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.as_old_mut().linkname[..4].copy_from_slice(b"/etc");
    header.set_mode(0o777);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).expect("packs");
    builder.into_inner().expect("packs")
}

/// Covers: MDL-1
#[test]
fn an_archive_cannot_reach_out_of_its_folder() {
    use tar::EntryType;
    let world = World::new();
    world.install("one").expect("installs");
    let check = |archive: &[u8], problem: &str| {
        let refused = world.store().install(&world.sign(archive).expect("signed"), whole);
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains(problem), "{error}");
        assert_eq!(world.linked(), [Some("one".into()), None]);
        assert!(!world.path("escaped").exists());
    };
    let file = EntryType::Regular;
    check(&entry(file, b"../../escaped", b"x"), "leads elsewhere");
    check(&entry(file, b"a/../../../escaped", b"x"), "leads elsewhere");
    check(&entry(file, b"/tmp/escaped", b"x"), "leads elsewhere");
    check(&entry(file, b"a/b/c/d/e", b"x"), "leads elsewhere");
    check(&entry(file, b"a\x1b[2J", b"x"), "leads elsewhere");
    check(&entry(file, b"\xff\xfe", b"x"), "leads elsewhere");
    for kind in
        [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo]
    {
        check(&entry(kind, b"a", b""), "neither a plain file nor a folder");
    }
    check(&entry(EntryType::GNUSparse, b"a", b""), "sparse");
    let many = (0..65).flat_map(|n| entry(file, format!("f{n}").as_bytes(), b"")[..512].to_vec());
    check(&many.collect::<Vec<_>>(), "one entry too many");
    let twice = [&entry(file, b"a", b"")[..512], &entry(file, b"a", b"")].concat();
    check(&twice, "exists");
    let inside_a_file = [&entry(file, b"a", b"")[..512], &entry(file, b"a/b", b"")].concat();
    check(&inside_a_file, "/a");
    check(&entry(file, b"a", &[1; 2000])[..1024], "");
    check(b"no tar file at all", "tar");
    check(&small_archive("../up"), "name");
}

/// Covers: MDL-2
#[test]
fn what_does_not_prove_itself_never_judges() {
    let world = World::new();
    world.install("one").expect("installs");
    let options = EngineOptions::default();

    let wrong = archive_of(|bundle| bundle.golden.expected.logits[0] += 1.0);
    let refused = world.store().install(&world.sign(&wrong).expect("signed"), |dir| {
        assert_eq!(world.linked(), [Some("one".into()), None]);
        prove(dir, options)
    });
    assert!(matches!(refused, Err(InstallError::Refused(ScannerError::SelfTest { .. }))));
    assert_eq!(world.linked(), [Some("one".into()), None]);

    let mut damaged = archive_of(|_| {});
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let refused = world.store().install(&world.sign(&damaged).expect("signed"), whole);
    assert!(matches!(refused, Err(InstallError::Refused(ScannerError::Bundle(_)))));
    assert_eq!(world.linked(), [Some("one".into()), None]);

    let good = archive_of(|_| {});
    let seen = RefCell::new(None);
    let installed = world.store().install(&world.sign(&good).expect("signed"), |dir| {
        *seen.borrow_mut() = world.linked()[0].clone();
        prove(dir, options)
    });
    assert_eq!(installed.expect("installs").name, "vgg16-gap-random-int8");
    assert_eq!(seen.into_inner().as_deref(), Some("one"), "the old one judges until then");
    assert_eq!(world.linked(), some(["vgg16-gap-random-int8", "one"]));
    assert!(!world.names().contains(&INCOMING.to_owned()));
}

/// Covers: MDL-3
#[test]
fn the_bundle_before_is_kept_and_judges_again_on_demand() {
    let world = World::new();
    world.install("one").expect("installs");
    assert!(matches!(world.store().roll_back(whole), Err(InstallError::NothingBefore)));
    world.install("two").expect("installs");
    world.install("two").expect("installs again");
    assert_eq!(world.linked(), some(["two", "one"]));
    world.install("three").expect("installs");
    assert_eq!(world.linked(), some(["three", "two"]));
    assert!(!world.names().iter().any(|name| name.starts_with("one-")), "{:?}", world.names());

    assert_eq!(world.store().roll_back(whole).expect("goes back").name, "two");
    assert_eq!(world.linked(), some(["two", "three"]));
    assert_eq!(world.store().roll_back(whole).expect("goes forth").name, "three");

    let two = fs::canonicalize(world.path("store/previous")).expect("is there");
    fs::write(two.join("model.onnx"), "damaged").expect("writes");
    assert!(matches!(world.store().roll_back(whole), Err(InstallError::Refused(_))));
    assert_eq!(world.linked()[0].as_deref(), Some("three"));

    let listed = world.store().list().expect("lists");
    let told: Vec<_> = listed
        .iter()
        .map(|it| (it.is_current, it.is_previous, it.bundle.as_ref().ok().map(|b| &*b.name)))
        .collect();
    assert_eq!(told, [(true, false, Some("three")), (false, true, None)]);
}

#[test]
fn a_bundle_elsewhere_is_gone_back_to_and_never_removed() {
    let world = World::new();
    let shipped = world.path("shipped");
    fs::create_dir(&shipped).expect("makes");
    tar::Archive::new(&*small_archive("shipped")).unpack(&shipped).expect("unpacks");
    fs::create_dir(world.path("store")).expect("makes");
    symlink(&shipped, world.path("store/current")).expect("links");
    world.install("one").expect("installs");
    assert_eq!(world.linked(), some(["one", "shipped"]));
    world.store().roll_back(whole).expect("goes back");
    assert_eq!(world.linked(), some(["shipped", "one"]));
    world.install("two").expect("installs");
    assert_eq!(world.linked(), some(["two", "shipped"]));
    assert!(Bundle::load(&shipped).is_ok());
}

#[test]
fn a_damaged_bundle_is_mended_by_installing_it_again() {
    let world = World::new();
    world.install("one").expect("installs");
    let place = fs::canonicalize(world.path("store/current")).expect("is there");
    fs::write(place.join("model.onnx"), "damaged").expect("writes");
    assert_eq!(world.linked(), [None, None]);
    world.install("one").expect("installs again");
    assert_eq!(world.linked(), [Some("one".into()), None]);
}

#[test]
fn a_folder_in_place_of_the_link_and_another_installation_are_told_of() {
    let world = World::new();
    fs::create_dir_all(world.path("store/current")).expect("makes");
    assert!(matches!(world.install("one"), Err(InstallError::NoLink { .. })));
    fs::remove_dir(world.path("store/current")).expect("removes");
    let held = lock(&world.path("store/lock")).expect("locks");
    assert!(held.is_some() && matches!(world.install("one"), Err(InstallError::Busy)));
}

#[test]
#[ignore = "the child's part: does something only where its parent says so"]
fn updates() {
    let Some((dir, disk)) = forgetful::begin() else { return };
    let signed = read(&dir, "two").expect("a good signature");
    store(&disk).install(&signed, whole).expect("installs");
    store(&disk).roll_back(whole).expect("goes back");
}

/// Covers: MDL-4
#[test]
fn a_power_cut_at_any_durable_step_leaves_a_whole_bundle_at_work() {
    let key = new_key();
    let archives = ["one", "two"].map(|name| (name, small_archive(name)));
    let prepare = |disk: &Path, dir: &Path| {
        write_key(dir, &key);
        for (name, archive) in &archives {
            sign(dir, name, &key, archive);
        }
        let signed = read(dir, "one").expect("a good signature");
        store(disk).install(&signed, whole).expect("installs");
    };
    let check = |disk: &Path, dir: &Path| {
        let name = |link: &str| Bundle::load(&disk.join("store").join(link)).map(|it| it.card.name);
        let at_work = name("current").expect("a whole bundle is at work");
        assert!(["one", "two"].contains(&&*at_work), "{at_work}");
        let signed = read(dir, "two").expect("a good signature");
        store(disk).install(&signed, whole).expect("installs");
        assert_eq!(name("current").expect("is whole"), "two");
        assert_eq!(name("previous").expect("is whole"), "one");
        assert!(!disk.join("store").join(INCOMING).exists());
    };
    let steps = forgetful::cut_at_every_step("install::tests::updates", prepare, check);
    assert!(steps >= 10, "{steps} steps");
}
