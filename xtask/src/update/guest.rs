//! What a board's root file system needs to be updated: files of `xtask/update`, filled in.

use crate::board::Board;

/// A file of the root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Absolute path on the board.
    pub path: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub text: String,
}

/// The unit that must be enabled: wanted by `multi-user.target`.
pub const UNIT: &str = "spinesight-commit.service";

/// The files for a board that trusts updates of `authority` (a CA's certificate, PEM) and models
/// signed by `model_key` (a public key, PEM).
pub fn files(board: &Board, authority: &str, model_key: &str) -> Vec<GuestFile> {
    let file = |path, mode, text: &str| GuestFile { path, mode, text: text.to_owned() };
    let system = include_str!("../../update/system.conf");
    vec![
        file("/etc/rauc/system.conf", 0o644, &system.replace("@COMPATIBLE@", &board.compatible)),
        file("/etc/rauc/keyring.pem", 0o644, authority),
        file(super::MODEL_KEY, 0o644, model_key),
        file("/usr/lib/spinesight/pre-install", 0o755, PRE_INSTALL),
        file("/usr/lib/spinesight/commit", 0o755, COMMIT),
        file(
            "/usr/lib/systemd/system/spinesight-commit.service",
            0o644,
            include_str!("../../update/spinesight-commit.service"),
        ),
        file(
            "/etc/systemd/system/emergency.service.d/reboot.conf",
            0o644,
            include_str!("../../update/emergency.conf"),
        ),
    ]
}

const PRE_INSTALL: &str = include_str!("../../update/pre-install");
const COMMIT: &str = include_str!("../../update/commit");

#[cfg(test)]
mod tests;
