use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::receiver::tests::Running;
use super::*;

const ZOO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/zoo/vgg16-gap-random-int8");
const NAMES: [&str; 7] =
    ["configuration", "self-test", "receiver", "spool", "service", "watchdog", "temperature"];

/// A board's folders.
struct World {
    dir: TempDir,
    receiver: Running,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        for name in ["data", "thermal/thermal_zone0", "thermal/thermal_zone1"] {
            fs::create_dir_all(dir.path().join(name)).expect("makes");
        }
        let world = Self { dir, receiver: Running::start(&["XRAY1"], None) };
        world.has_degrees(41.0, 52.5);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn has_degrees(&self, one: f32, other: f32) {
        for (zone, degrees) in [("thermal_zone0", one), ("thermal_zone1", other)] {
            let text = format!("{:.0}\n", degrees * 1000.0);
            fs::write(self.path("thermal").join(zone).join("temp"), text).expect("writes");
        }
    }

    /// The states of all checks with this bundle and so many megabytes to be kept free.
    fn states(&self, bundle: &Path, keep_free_mb: u64) -> [State; 7] {
        let text = format!(
            "[board]\ndata = {:?}\nbundle = {bundle:?}\n{}[storage]\nkeep_free_mb = {keep_free_mb}\n",
            self.path("data"),
            self.receiver.section
        );
        fs::write(self.path("device.toml"), text).expect("writes");
        let report = self.look();
        let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
        assert_eq!(names, NAMES);
        let states: Vec<_> = report.checks.iter().map(|check| check.state).collect();
        assert_eq!(report.well, !states.contains(&State::Failed), "{report:?}");
        states.try_into().expect("seven")
    }

    fn look(&self) -> Report {
        let system = System {
            systemctl: self.path("no-systemctl"),
            uptime: self.path("no-uptime"),
            thermal: self.path("thermal"),
        };
        let unit = "spinesight.service".to_owned();
        look(&self.path("device.toml"), &Options { unit, hottest: 60.0, system })
    }
}

/// Covers: HLT-1
#[test]
fn each_fault_is_found_and_what_cannot_be_seen_is_not_called_good() {
    use State::{Failed, Ok, Unknown};
    let mut world = World::new();
    let zoo = Path::new(ZOO);
    assert_eq!(world.states(zoo, 1), [Ok, Ok, Ok, Ok, Unknown, Unknown, Ok]);
    assert!(fs::read_dir(world.path("data")).expect("lists").next().is_none(), "the probe stays");

    world.has_degrees(60.0, 20.0);
    assert_eq!(world.states(zoo, 1)[6], Failed);
    fs::remove_dir_all(world.path("thermal")).expect("removes");
    assert_eq!(world.states(zoo, 1)[6], Unknown);

    assert_eq!(world.states(zoo, 1_000_000)[3], Failed, "there never are so many free");
    fs::remove_dir(world.path("data")).expect("removes");
    assert_eq!(world.states(zoo, 1)[3], Failed);

    assert_eq!(world.states(&world.path("no-bundle"), 1)[1], Failed);
    world.receiver = Running::start(&["XRAY1"], None);
    world.receiver.section = world.receiver.section.replace("\"BOARD\"", "\"OTHER\"");
    assert_eq!(world.states(zoo, 1)[2], Failed);
}

/// Covers: HLT-1
#[test]
fn without_a_configuration_all_that_needs_it_is_unknown() {
    use State::{Failed, Unknown};
    let world = World::new();
    fs::write(world.path("device.toml"), "[receive]\ncallrs = []\n").expect("writes");
    let report = world.look();
    assert!(!report.well);
    assert!(report.checks[0].sentence.contains("receive.callrs"), "{report:?}");
    let states: Vec<_> = report.checks[..4].iter().map(|check| check.state).collect();
    assert_eq!(states, [Failed, Unknown, Unknown, Unknown]);
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["well"], false);
    assert_eq!(json["checks"][0]["state"], "failed");
}
