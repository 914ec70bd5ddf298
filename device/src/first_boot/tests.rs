use tempfile::TempDir;

use super::*;
use crate::dicom::tls::{self, Identity};
use crate::durable::forgetful;
use crate::web::secret::{self, Verifier};

const BASE: &str = "
    [board]
    bundle = \"/var/lib/spinesight-models/current\"
    [panel]
    kind = \"gpio\"
    green = 4
";

const PROVISIONED: &str = "
    [board]
    station = \"WARD 3\"
    [receive]
    ae_title = \"SPINE1\"
    callers = [\"XRAY1\", \"XRAY2\"]
    [[destination]]
    name = \"pacs\"
    address = \"192.0.2.10:104\"
    ae_title = \"PACS\"
    [page]
    names = [\"board.local\", \"192.0.2.7\"]
    [first_boot]
    ssh_keys = [\"ssh-ed25519 AAAA me\", \"ssh-rsa BBBB you\"]
";

/// A board's card: the image's defaults and a provisioning file.
struct World {
    dir: TempDir,
}

impl World {
    fn new(provisioned: Option<&str>) -> Self {
        let dir = TempDir::new().expect("a folder");
        lay_out(dir.path(), provisioned);
        Self { dir }
    }

    fn plan(&self) -> Plan {
        plan(self.dir.path())
    }

    fn boot(&self) -> Result<Outcome, FirstBootError> {
        prepare(&self.plan()).and_then(Prepared::finish)
    }

    fn provide(&self, text: &str) {
        fs::write(self.plan().consume, text).expect("writes");
    }

    fn config(&self) -> Config {
        Config::load(&self.plan().config).expect("a valid configuration").0
    }

    /// The keys of all mistakes.
    fn mistakes(&self) -> Vec<String> {
        match self.boot() {
            Err(FirstBootError::Mistakes { error: ConfigError::Mistakes(all), .. }) => {
                all.into_iter().map(|mistake| mistake.key).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn lay_out(dir: &Path, provisioned: Option<&str>) {
    fs::create_dir_all(dir.join("card")).expect("makes");
    fs::create_dir_all(dir.join("etc")).expect("makes");
    fs::create_dir_all(dir.join("image")).expect("makes");
    fs::write(plan(dir).base, BASE).expect("writes");
    if let Some(text) = provisioned {
        fs::write(plan(dir).consume, text).expect("writes");
    }
}

fn plan(dir: &Path) -> Plan {
    Plan {
        consume: dir.join("card/provision.toml"),
        base: dir.join("image/device.toml"),
        config: dir.join("etc/device.toml"),
        secrets: dir.join("etc/secrets"),
        secrets_as: "/run/credentials/a.service/secrets_".into(),
        ssh_keys: Some(dir.join("ssh/authorized_keys")),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

/// Covers: FST-1
#[test]
fn a_provisioning_file_becomes_a_configuration_and_is_gone() {
    let world = World::new(Some(PROVISIONED));
    let Outcome::Provisioned { ae_title, sign_in: Some(sign_in) } = world.boot().expect("boots")
    else {
        panic!("nothing to sign in with")
    };
    let (config, plan) = (world.config(), world.plan());
    assert_eq!((ae_title.as_str(), config.receive.ae_title.0.as_str()), ("SPINE1", "SPINE1"));
    assert_eq!(config.board.station, "WARD 3");
    assert_eq!(config.board.bundle, Path::new("/var/lib/spinesight-models/current"));
    assert_eq!(config.destinations.len(), 1);
    assert_eq!(config.page.address.port(), 8443);
    let secret_file = config.page.secret.expect("a secret");
    assert_eq!(secret_file, Path::new("/run/credentials/a.service/secrets_page.secret"));

    let hash = fs::read_to_string(plan.secrets.join("page.secret")).expect("reads");
    let secret = sign_in.secret.expect("a secret");
    assert!(Verifier::new(&hash).expect("a hash").accepts(&secret));
    assert_eq!(sign_in.fingerprint.split(':').count(), 32);
    assert_keys_fit(&plan);
    for private in ["page.secret", "board.pem", "board.key"] {
        assert_eq!(mode(&plan.secrets.join(private)), 0o600);
    }
    assert_eq!((mode(&plan.secrets), mode(&plan.config)), (0o700, 0o644));
    let keys = plan.ssh_keys.expect("a place");
    let text = fs::read_to_string(&keys).expect("reads");
    assert_eq!(text, "ssh-ed25519 AAAA me\nssh-rsa BBBB you\n");
    assert_eq!(mode(&keys), 0o600);
    let left = fs::read_dir(world.dir.path().join("card")).expect("lists").count();
    assert_eq!(left, 0, "the provisioning file is gone");

    let before = fs::read(world.plan().config).expect("reads");
    assert_eq!(world.boot().expect("boots again"), Outcome::Nothing);
    assert_eq!(fs::read(world.plan().config).expect("reads"), before);
}

fn assert_keys_fit(plan: &Plan) {
    let [certificate, key] = ["board.pem", "board.key"].map(|name| plan.secrets.join(name));
    tls::server(&Identity { certificate, key }, None).expect("certificate and key fit");
}

#[test]
fn without_a_provisioning_file_the_defaults_hold_and_boards_differ() {
    let titles = [0, 1].map(|_| {
        let world = World::new(None);
        let Outcome::Defaults { ae_title } = world.boot().expect("boots") else { panic!() };
        assert_eq!(world.config().receive.ae_title.0, ae_title);
        assert!(world.config().receive.callers.is_empty(), "nobody may send");
        assert!(world.config().page.address.ip().is_loopback(), "nobody else may look");
        assert!(world.plan().secrets.is_dir());
        assert_eq!(world.boot().expect("boots again"), Outcome::Nothing);
        ae_title
    });
    assert_ne!(titles[0], titles[1]);
}

#[test]
fn another_provisioning_file_amends_what_is_there() {
    let world = World::new(Some(PROVISIONED));
    world.boot().expect("boots");
    world.provide("[receive]\ncallers = [\"XRAY3\"]\n");
    let outcome = world.boot().expect("boots");
    assert_eq!(outcome, Outcome::Provisioned { ae_title: "SPINE1".into(), sign_in: None });
    let config = world.config();
    assert_eq!(config.receive.callers, ["XRAY3"]);
    assert_eq!((config.board.station.as_str(), config.destinations.len()), ("WARD 3", 1));
}

#[test]
fn a_secret_made_elsewhere_is_taken_by_its_hash() {
    let hash = secret::hash("my secret").expect("a hash");
    let text = PROVISIONED.to_owned() + &format!("page_secret_hash = \"{hash}\"\n");
    let world = World::new(Some(&text));
    let Outcome::Provisioned { sign_in: Some(sign_in), .. } = world.boot().expect("boots") else {
        panic!("no certificate")
    };
    assert_eq!(sign_in.secret, None);
    let kept = fs::read_to_string(world.plan().secrets.join("page.secret")).expect("reads");
    assert_eq!(kept, hash);
    let config = fs::read_to_string(world.plan().config).expect("reads");
    assert!(!config.contains("argon2"), "{config}");
}

/// Covers: FST-3
#[test]
fn all_mistakes_are_told_at_once_and_nothing_changes() {
    let text = "
        colour = \"blue\"
        [receive]
        callrs = [\"XRAY1\"]
        [page]
        names = [\"no name\"]
        [first_boot]
        ssh_keys = [\"AAAA\"]
        page_secret_hash = \"secret\"
        shell = true
    ";
    let world = World::new(Some(text));
    let expected = [
        "first_boot.ssh_keys",
        "first_boot.page_secret_hash",
        "first_boot.shell",
        "receive.callrs",
        "colour",
        "page.names",
    ];
    assert_eq!(world.mistakes(), expected);
    assert!(!world.plan().config.exists());
    assert_eq!(fs::read_to_string(world.plan().consume).expect("stays"), text);

    world.provide("[first_boot]\npage_secret_hash = \"$argon2id$\"\n");
    let expected = ["first_boot.page_secret_hash", "first_boot.page_secret_hash"];
    assert_eq!(world.mistakes(), expected);
    world.provide("callers = [\n");
    assert!(matches!(world.boot(), Err(FirstBootError::Syntax { .. })));
    world.provide(PROVISIONED);
    world.boot().expect("boots once it is mended");
}

#[test]
fn keys_without_a_place_are_a_mistake() {
    let world = World::new(Some(PROVISIONED));
    let refused = prepare(&Plan { ssh_keys: None, ..world.plan() }).expect_err("refused");
    assert!(refused.to_string().contains("first_boot.ssh_keys"), "{refused}");
}

#[test]
#[ignore = "the child's part: does something only where its parent says so"]
fn boots() {
    let Some((_, disk)) = forgetful::begin() else { return };
    prepare(&plan(&disk)).and_then(Prepared::finish).expect("boots");
}

/// Covers: FST-2
#[test]
fn a_power_cut_at_any_durable_step_leaves_the_file_or_the_configuration() {
    let prepare_disk = |disk: &Path, _: &Path| lay_out(disk, Some(PROVISIONED));
    let check = |disk: &Path, _: &Path| {
        let plan = plan(disk);
        let is_left = plan.consume.exists();
        if is_left {
            assert_eq!(fs::read_to_string(&plan.consume).expect("reads"), PROVISIONED);
        }
        let outcome = prepare(&plan).and_then(Prepared::finish).expect("boots");
        match outcome {
            Outcome::Provisioned { sign_in, .. } => {
                let hash = fs::read_to_string(plan.secrets.join("page.secret")).expect("reads");
                let secret = sign_in.and_then(|it| it.secret).expect("shown again");
                assert!(is_left && Verifier::new(&hash).expect("a hash").accepts(&secret));
            }
            other => assert!(!is_left && other == Outcome::Nothing, "{other:?}"),
        }
        let (config, _) = Config::load(&plan.config).expect("a valid configuration");
        assert_eq!(config.receive.callers, ["XRAY1", "XRAY2"]);
        assert_keys_fit(&plan);
        assert!(plan.ssh_keys.is_some_and(|keys| keys.exists()));
        let card = disk.join("card");
        assert_eq!(fs::read_dir(card).expect("lists").count(), 0, "nothing stays on the card");
    };
    let steps = forgetful::cut_at_every_step("first_boot::tests::boots", prepare_disk, check);
    assert!(steps >= 10, "{steps} steps");
}
