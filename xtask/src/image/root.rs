//! A slot's root file system, as a folder: packages without what a board never reads, our files
//! over them, and what the packages' scripts would have done.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::board::Board;
use crate::dist::program::Program;
use crate::dist::release::Release;
use crate::dist::settings;
use crate::image::modules;
use crate::image::packages::Packages;
use crate::keys;
use crate::paths::{Paths, entries};
use crate::process;
use crate::scratch::Scratch;

/// Whose updates a board takes.
#[derive(Debug)]
pub struct Keys {
    /// Certificate of the authority for whole versions, PEM.
    keyring: PathBuf,
    /// Public key for models, PEM.
    model_key: PathBuf,
}

impl Keys {
    /// The given ones, else those for development in the cache folder.
    ///
    /// # Errors
    /// When only one is given, or those for development cannot be made.
    pub fn find(
        paths: &Paths,
        keyring: Option<PathBuf>,
        model_key: Option<PathBuf>,
    ) -> Result<Keys> {
        if keyring.is_some() != model_key.is_some() {
            bail!("name both --keyring and --model-key, or none of them for development keys");
        }
        if let (Some(keyring), Some(model_key)) = (keyring, model_key) {
            return Ok(Keys { keyring, model_key });
        }
        let set = keys::development(paths)?;
        Ok(Keys { keyring: set.authority(), model_key: set.model_public_key() })
    }
}

/// What packages hold that no board reads.
const EXCLUDED: [&str; 38] = [
    "boot/*",
    "etc/apt",
    "etc/cron.d",
    "etc/init.d",
    "etc/initramfs-tools",
    "etc/kernel",
    "etc/rc*.d",
    "etc/update-motd.d",
    "lib/modules/*",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/perl*",
    "usr/lib/apt",
    "usr/lib/dpkg",
    "usr/lib/initramfs-tools",
    "usr/lib/linux-image-*",
    "usr/lib/modules",
    "usr/lib/raspi-firmware",
    "usr/lib/u-boot",
    "usr/lib/udev/hwdb.d",
    "usr/lib/valgrind",
    "usr/bin/perl*",
    "usr/bin/apt*",
    "usr/bin/dpkg*",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl*",
    "usr/share/zsh",
    "var/cache/*",
    "var/lib/dpkg",
    "var/lock",
    "var/run",
];
/// Small commands that no package is worth.
const APPLETS: [&str; 16] = [
    "awk", "cmp", "find", "free", "gzip", "hexdump", "ip", "less", "ping", "ps", "tar", "top",
    "vi", "wget", "which", "xargs",
];
/// Units that do nothing for a board but take time at its start.
const MASKED: [&str; 31] = [
    "console-getty.service",
    "cryptdisks-early.service",
    "cryptdisks.service",
    "dev-hugepages.mount",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty-static.service",
    "hwclock.service",
    "ldconfig.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "remote-fs.target",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-boot-system-token.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-network-generator.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-repart.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
];
/// Files of updates: in the clone, in the guest, mode.
const UPDATE_FILES: [(&str, &str, u32); 5] = [
    ("system.conf", "etc/rauc/system.conf", 0o644),
    ("pre-install", "usr/lib/spinesight/pre-install", 0o755),
    ("commit", "usr/lib/spinesight/commit", 0o755),
    ("spinesight-commit.service", "usr/lib/systemd/system/spinesight-commit.service", 0o644),
    ("emergency.conf", "etc/systemd/system/emergency.service.d/reboot.conf", 0o644),
];

/// The data partition of a card has room for no more.
const STORAGE: &str = "\n[storage]\nkeep_free_mb = 100\n";

/// Assembles the folder.
///
/// # Errors
/// When a part is missing or a tool fails.
pub fn assemble(
    paths: &Paths,
    board: &Board,
    packages: &Packages,
    program: &Program,
    release: &Release,
    keys: &Keys,
    scratch: &Scratch,
) -> Result<PathBuf> {
    let tree = scratch.folder("root")?;
    packages.unpack_all_but(&EXCLUDED, &tree)?;
    let of_board = board.image()?.modules.iter().map(String::as_str);
    let names: Vec<&str> =
        modules::START.into_iter().chain(modules::RUNNING).chain(of_board).collect();
    modules::copy(&packages.parts, &packages.kernel_version, &names, &tree)?;
    copy_folder(&paths.root.join("xtask/image/root"), &tree)?;
    add_updates(paths, board, keys, &tree)?;
    add_program(paths, board, program, release, &tree)?;
    configure(board, &tree)?;
    Ok(tree)
}

fn add_updates(paths: &Paths, board: &Board, keys: &Keys, tree: &Path) -> Result<()> {
    for (from, to, mode) in UPDATE_FILES {
        let from = paths.root.join("xtask/update").join(from);
        write(tree, to, &read(&from)?.replace("@COMPATIBLE@", &board.compatible), mode)?;
    }
    write(tree, "etc/rauc/keyring.pem", &read(&keys.keyring)?, 0o644)?;
    let key = read(&keys.model_key)?;
    write(tree, "usr/lib/spinesight/model-key.pem", &key, 0o644)
}

fn add_program(
    paths: &Paths,
    board: &Board,
    program: &Program,
    release: &Release,
    tree: &Path,
) -> Result<()> {
    fs::copy(&program.stripped, tree.join("usr/bin/spinesight"))?;
    fs::set_permissions(tree.join("usr/bin/spinesight"), fs::Permissions::from_mode(0o755))?;
    let unit = read(&paths.root.join("device/systemd/spinesight.service"))?;
    write(tree, "usr/lib/systemd/system/spinesight.service", &unit, 0o644)?;
    write(tree, "usr/lib/spinesight/release", &release.text(board, &program.build_id), 0o644)?;
    let settings = settings::text(board) + STORAGE;
    write(tree, "usr/share/spinesight/device.toml", &settings, 0o644)?;
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        write(
            tree,
            &format!("usr/share/spinesight/{license}"),
            &read(&paths.root.join(license))?,
            0o644,
        )?;
    }
    let bundles = tree.join("usr/share/spinesight/bundles");
    for bundle in &board.bundles {
        copy_folder(&paths.root.join("models/zoo").join(bundle), &bundles.join(bundle))?;
    }
    let first = board.bundles.first().context("the board carries no bundle")?;
    symlink(first, bundles.join("default"))?;
    Ok(())
}

/// What the packages' scripts do on a machine that runs them.
fn configure(board: &Board, tree: &Path) -> Result<()> {
    write(tree, "etc/hostname", &format!("{}\n", board.compatible), 0o644)?;
    let hosts = format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", board.compatible);
    write(tree, "etc/hosts", &hosts, 0o644)?;
    write(tree, "etc/machine-id", "", 0o444)?;
    replace_link(&tree.join("etc/resolv.conf"), "../run/systemd/resolve/stub-resolv.conf")?;
    replace_link(&tree.join("etc/localtime"), "../usr/share/zoneinfo/UTC")?;
    for folder in ["data", "etc/spinesight", "var/lib", "var/log", "var/tmp", "var/cache"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    replace_link(&tree.join("var/run"), "../run")?;
    replace_link(&tree.join("var/lock"), "../run/lock")?;
    for applet in APPLETS {
        let link = tree.join("usr/bin").join(applet);
        if fs::symlink_metadata(&link).is_err() {
            symlink("busybox", link)?;
        }
    }
    let watchdog = board.image()?.watchdog_s;
    let manager = format!(
        "# A system that hangs is started again, where the board has a watchdog.\n[Manager]\n\
         RuntimeWatchdogSec={watchdog}s\nDefaultTimeoutStopSec=20s\n"
    );
    write(tree, "etc/systemd/system.conf.d/spinesight.conf", &manager, 0o644)?;
    authorities(tree)?;
    users(tree)?;
    units(tree)
}

/// The certificates of public authorities, in one file.
fn authorities(tree: &Path) -> Result<()> {
    let mut all = String::new();
    for file in entries(&tree.join("usr/share/ca-certificates/mozilla"))? {
        all.push_str(&read(&file)?);
    }
    write(tree, "etc/ssl/certs/ca-certificates.crt", &all, 0o644)
}

fn users(tree: &Path) -> Result<()> {
    let mut sysusers = Command::new("systemd-sysusers");
    let mut root = std::ffi::OsString::from("--root=");
    root.push(tree);
    process::run(sysusers.arg(root).env("SOURCE_DATE_EPOCH", "0"))?;
    // Root has no password; what systemd writes for that would keep keys from being used too.
    let file = tree.join("etc/shadow");
    let shadow = fs::read_to_string(&file).context("systemd-sysusers has made no /etc/shadow")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    fs::write(&file, shadow.replace("root:!*:", "root:*:"))?;
    Ok(())
}

fn units(tree: &Path) -> Result<()> {
    let systemctl = |arguments: &[&str]| {
        let mut command = Command::new("systemctl");
        let mut root = std::ffi::OsString::from("--root=");
        root.push(tree);
        process::run(command.arg("--quiet").arg(root).args(arguments))
    };
    systemctl(&["preset-all"])?;
    systemctl(&[["mask"].as_slice(), &MASKED].concat())?;
    replace_link(
        &tree.join("etc/systemd/system/default.target"),
        "/usr/lib/systemd/system/multi-user.target",
    )
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(tree: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let file = tree.join(path);
    let describe = || format!("cannot write /{path} of the root file system");
    fs::create_dir_all(file.parent().context("no folder")?).with_context(describe)?;
    // A package's file may be a link to elsewhere.
    if fs::symlink_metadata(&file).is_ok() {
        fs::remove_file(&file).with_context(describe)?;
    }
    fs::write(&file, text).with_context(describe)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).with_context(describe)
}

fn replace_link(link: &Path, target: &str) -> Result<()> {
    let describe = || format!("cannot make the link {}", link.display());
    if fs::symlink_metadata(link).is_ok() {
        fs::remove_file(link).with_context(describe)?;
    }
    symlink(target, link).with_context(describe)
}

/// Copies files and folders into a folder, over what is there.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make the folder {}", to.display()))?;
    let inside = entries(from)?;
    if inside.is_empty() {
        bail!("{} is empty: is the clone complete?", from.display());
    }
    for path in inside {
        let target = to.join(path.file_name().context("no name")?);
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
            let executable = fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_copied_with_plain_modes() {
        let home = tempfile::tempdir().unwrap();
        let from = home.path().join("from");
        fs::create_dir_all(from.join("a")).unwrap();
        fs::write(from.join("a/text"), "x").unwrap();
        fs::set_permissions(from.join("a/text"), fs::Permissions::from_mode(0o640)).unwrap();
        let to = home.path().join("to");
        copy_folder(&from, &to).unwrap();
        assert_eq!(fs::metadata(to.join("a/text")).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(copy_folder(&home.path().join("none"), &to).is_err());
    }

    #[test]
    fn a_link_is_replaced_by_the_file() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("etc")).unwrap();
        symlink("/proc/mounts", tree.path().join("etc/mtab")).unwrap();
        write(tree.path(), "etc/mtab", "text", 0o600).unwrap();
        assert!(fs::symlink_metadata(tree.path().join("etc/mtab")).unwrap().is_file());
    }
}
