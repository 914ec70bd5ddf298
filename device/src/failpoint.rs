//! Fail points: named moments at which a test may kill the process, to prove that nothing is lost.
//!
//! Every durable step reaches one before and one after it. Nothing happens there unless the
//! environment variable [`VARIABLE`] names one: `NAME`, or `NAME:N` for the Nth time it is
//! reached. The process then dies as if the kernel had killed it: no destructor runs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable that names the fail point to die at.
pub const VARIABLE: &str = "SPINESIGHT_FAILPOINT";

/// Every fail point of this program.
pub const ALL: &[&str] = &[
    "audit.appended",
    "audit.head",
    "audit.rotated",
    "audit.synced",
    "courier.sent",
    "delivery.commit",
    "delivery.committed",
    "disk.renamed",
    "disk.synced",
    "disk.written",
    "expire.commit",
    "expire.marked",
    "expire.removed",
    "expire.unlinked",
    "folder.taken",
    "incoming.begun",
    "incoming.commit",
    "incoming.described",
    "incoming.placed",
    "incoming.recorded",
    "incoming.renamed",
    "incoming.synced",
    "judged.commit",
    "judged.recorded",
    "judged.synced",
    "recovery.commit",
    "recovery.committed",
    "rendered.commit",
    "rendered.described",
    "rendered.recorded",
    "rendered.synced",
    "start.told",
];

/// Dies here if the environment says so.
///
/// The environment is read once, so a process keeps its plan.
pub fn reach(name: &str) {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| Plan::parse(&std::env::var(VARIABLE).ok()?));
    if plan.as_ref().is_some_and(|plan| plan.is_met(name)) {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Where to die.
struct Plan {
    name: String,
    left: AtomicU32,
}

impl Plan {
    fn parse(text: &str) -> Option<Self> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let left = AtomicU32::new(times.parse().ok()?);
        Some(Self { name: name.to_string(), left })
    }

    fn is_met(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Names in calls of [`reach`] in the Rust files below a folder.
    fn used(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("lists") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                used(&path, names);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("reads");
                let calls = text.split("reach(\"").skip(1);
                names.extend(calls.filter_map(|call| Some(call.split_once("\")")?.0.to_string())));
            }
        }
    }

    #[test]
    fn all_names_the_fail_points_of_the_source_and_no_others() {
        let mut names = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        names.retain(|name| !name.is_empty());
        let all: BTreeSet<String> = ALL.iter().map(|name| (*name).to_string()).collect();
        assert_eq!(names, all);
    }

    #[test]
    fn a_plan_is_met_at_the_named_time_only() {
        let plan = Plan::parse("a.b:2").expect("a plan");
        assert_eq!(["a.b", "c", "a.b", "a.b"].map(|n| plan.is_met(n)), [false, false, true, false]);
        assert!(Plan::parse("a.b").expect("a plan").is_met("a.b"));
        assert!(Plan::parse("a.b:often").is_none());
    }
}
