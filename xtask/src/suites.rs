//! Test suites that are asked for by name, `cargo xtask test --with NAME`: they need programs
//! beside Rust, or time.

use std::path::PathBuf;

use anyhow::Result;

use crate::debian::{self, Program};
use crate::paths::Paths;
use crate::peers;
use crate::process;
use crate::setup;

/// A suite of the service's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// DCMTK, Orthanc, dicom3tools and pynetdicom against the service
    DicomPeers,
    /// The page in headless Chromium
    Browser,
    /// Kills at every durable step, 10,000 scans (about an hour)
    Faults,
    /// Slow, huge, many and malformed senders
    Hostile,
    /// An hour of steady load: memory, files, latency
    Soak,
}

impl Suite {
    /// The test program in `tests/tests`.
    fn program(self) -> &'static str {
        match self {
            Suite::DicomPeers => "dicom_peers",
            Suite::Browser => "browser",
            Suite::Faults => "faults",
            Suite::Hostile => "hostile",
            Suite::Soak => "soak",
        }
    }

    fn needs(self) -> &'static [Program] {
        match self {
            Suite::DicomPeers => &DICOM_PEERS,
            Suite::Browser => &BROWSER,
            Suite::Faults | Suite::Hostile | Suite::Soak => &[],
        }
    }

    /// The file in `tests/peers` with the Python packages it needs.
    fn python(self) -> Option<&'static str> {
        match self {
            Suite::DicomPeers => Some("requirements-dicom.txt"),
            Suite::Browser => Some("requirements-browser.txt"),
            Suite::Faults | Suite::Hostile | Suite::Soak => None,
        }
    }
}

const DICOM_PEERS: [Program; 4] = [
    Program { name: "storescu", package: "dcmtk" },
    Program { name: "/usr/sbin/Orthanc", package: "orthanc" },
    Program {
        name: "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
        package: "orthanc-dicomweb",
    },
    Program { name: "dciodvfy", package: "dicom3tools" },
];
const BROWSER: [Program; 2] = [
    Program { name: "chromium", package: "chromium" },
    Program { name: "chromedriver", package: "chromium-driver" },
];

/// Installs what the suites need and runs them one after the other.
///
/// # Errors
/// When something cannot be installed, or a suite fails.
pub fn run(paths: &Paths, suites: &[Suite]) -> Result<()> {
    let libtorch = setup::ensure(paths)?;
    for suite in suites {
        debian::ensure(suite.needs(), "this suite")?;
        let python: Option<PathBuf> =
            suite.python().map(|file| peers::ensure(paths, file)).transpose()?;
        let device = process::build_binary(paths, "device", Some(&libtorch))?;
        let mut command = process::cargo(paths, &paths.target);
        command.arg("test").args(process::SELECTION).args(["--test", suite.program()]);
        command.args(["--", "--ignored", "--nocapture", "--test-threads", "1"]);
        command.env("SPINESIGHT_DEVICE", device);
        if let Some(python) = python {
            command.env("SPINESIGHT_PEERS", python);
        }
        libtorch.apply(&mut command);
        process::run(&mut command)?;
    }
    Ok(())
}
