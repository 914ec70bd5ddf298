//! Debian's packages for the board, unpacked and never run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::board::Image;
use crate::cached;
use crate::paths::{self, Paths};
use crate::process;

/// What a board needs beside its kernel; their dependencies come along.
const PACKAGES: [&str; 28] = [
    "base-files",
    "bash",
    "busybox-static",
    "ca-certificates",
    "coreutils",
    "dash",
    "dbus",
    "dmsetup",
    "e2fsprogs",
    "grep",
    "kmod",
    "libc-bin",
    "libgcc-s1",
    "libubootenv-tool",
    "login",
    "mount",
    "netbase",
    "openssh-server",
    "passwd",
    "rauc",
    "rauc-service",
    "sed",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "util-linux",
];
const RELEASE: &str = "bookworm";
const SOURCES: [&str; 2] = [
    "deb http://deb.debian.org/debian bookworm main non-free-firmware",
    "deb http://deb.debian.org/debian-security bookworm-security main non-free-firmware",
];
const ARCHIVE: &str = "packages.tar";

/// Unpacked packages.
#[derive(Debug)]
pub struct Packages {
    archive: PathBuf,
    /// Unpacked: kernel, modules, boot loader, and what the initial RAM disk is made from.
    pub parts: PathBuf,
    /// The kernel's version, as its folder of modules is named.
    pub kernel_version: String,
}

/// What is unpacked beside the archive.
const PARTS: [&str; 11] = [
    "./boot",
    "./usr/lib/modules",
    "./usr/lib/u-boot",
    "./usr/lib/raspi-firmware",
    "./usr/lib/linux-image-*",
    "./usr/bin/busybox",
    "./usr/sbin/dmsetup",
    "./usr/lib/aarch64-linux-gnu",
    "./usr/lib/ld-linux-aarch64.so.1",
    "./lib",
    "./usr/share/doc/raspi-firmware",
];

/// Provides them in the cache folder, once for each list.
///
/// # Errors
/// When they cannot be downloaded.
pub fn ensure(paths: &Paths, image: &Image) -> Result<Packages> {
    let mut list = PACKAGES.join(",");
    for own in [&image.kernel, &image.boot_loader].into_iter().chain(&image.packages) {
        list.push(',');
        list.push_str(own);
    }
    let content = [list.as_bytes(), RELEASE.as_bytes(), SOURCES[0].as_bytes(), b"1"];
    let make = |folder: &Path| unpack(folder, &list);
    let activity = "downloading the packages of an image";
    let folder = cached::folder(paths, "image-packages", &content, activity, |_| true, make)?;
    let parts = folder.join("parts");
    let versions = paths::entries(&parts.join("usr/lib/modules"))?;
    let version = versions.first().and_then(|folder| folder.file_name());
    let kernel_version = version.context("the kernel's package has no modules")?;
    Ok(Packages {
        archive: folder.join(ARCHIVE),
        kernel_version: kernel_version.to_string_lossy().into_owned(),
        parts,
    })
}

impl Packages {
    /// Unpacks all but some paths, which may have wildcards.
    ///
    /// # Errors
    /// When the archive cannot be unpacked.
    pub fn unpack_all_but(&self, excluded: &[&str], folder: &Path) -> Result<()> {
        let mut tar = tar(&self.archive, folder);
        tar.args(["--wildcards", "--anchored"]);
        process::run(tar.args(excluded.iter().map(|path| format!("--exclude=./{path}"))))
    }
}

fn unpack(folder: &Path, list: &str) -> Result<()> {
    eprintln!("downloading the packages of the image from Debian: about 110 MB");
    let parts = folder.join("parts");
    fs::create_dir_all(&parts)?;
    let archive = folder.join(ARCHIVE);
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=extract", "--architectures=arm64"]);
    mmdebstrap.arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    mmdebstrap.arg(format!("--include={list}")).arg(RELEASE).arg(&archive).args(SOURCES);
    // It tells of each package on standard output.
    process::run(mmdebstrap.stdout(Stdio::null()))
        .context("Debian's packages for the board cannot be had")?;
    // Not every board has every part; tar would say so, and fail.
    let mut tar = tar(&archive, &parts);
    tar.args(["--wildcards", "--anchored"]).args(PARTS).stderr(Stdio::null());
    let _ = tar.status().context("cannot start tar")?;
    Ok(())
}

fn tar(archive: &Path, folder: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder);
    tar.args(["--no-same-owner", "--exclude=./dev/*"]);
    tar
}
