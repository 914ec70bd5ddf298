//! Which kernel modules a folder gets: some, with all that they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Modules that the start of every board needs, in the order of loading; `ext4` and dm-verity use
/// checksums that they do not name.
pub const START: [&str; 8] = [
    "crc32c_generic",
    "sha2-ce",
    "sha256-arm64",
    "dm-verity",
    "squashfs",
    "ext4",
    "loop",
    "nls_ascii",
];
/// Modules that a running board needs beside them.
pub const RUNNING: [&str; 7] =
    ["vfat", "nls_cp437", "nls_iso8859-1", "usb-storage", "uas", "i2c-dev", "overlay"];

/// Copies modules and what they depend on from `parts` to `folder`, with an index for `modprobe`.
///
/// # Errors
/// When the kernel has no such module.
pub fn copy(parts: &Path, version: &str, names: &[&str], folder: &Path) -> Result<()> {
    let source = parts.join("usr/lib/modules").join(version);
    let dependencies = read(&source, "modules.dep", parts, version)?;
    let built_in = fs::read_to_string(source.join("modules.builtin"))
        .with_context(|| format!("cannot read the list of modules in {}", source.display()))?;
    let target = folder.join("lib/modules").join(version);
    for file in closure(&dependencies, &built_in, names)? {
        let to = target.join(&file);
        fs::create_dir_all(to.parent().context("a module lies in no folder")?)?;
        fs::copy(source.join(&file), &to)
            .with_context(|| format!("cannot copy the module {}", file.display()))?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(source.join(list), target.join(list))?;
    }
    process::run(Command::new("/usr/sbin/depmod").arg("-b").arg(folder).arg(version))
}

/// The index of the whole kernel, made when its package is seen for the first time.
fn read(source: &Path, name: &str, parts: &Path, version: &str) -> Result<String> {
    if !source.join(name).exists() {
        process::run(Command::new("/usr/sbin/depmod").arg("-b").arg(parts).arg(version))?;
    }
    fs::read_to_string(source.join(name)).context("depmod has made no index of modules")
}

/// Files of the modules and of all that they depend on.
fn closure(dependencies: &str, built_in: &str, names: &[&str]) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for name in names {
        let line = dependencies.lines().find(|line| {
            line.split_once(':').is_some_and(|(file, _)| module_name(file) == plain(name))
        });
        if let Some(line) = line {
            files.extend(line.split_whitespace().map(|file| file.trim_end_matches(':').into()));
        } else if !built_in.lines().any(|file| module_name(file) == plain(name)) {
            bail!("the kernel has no module `{name}`");
        }
    }
    Ok(files)
}

fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    plain(name.split(".ko").next().unwrap_or(name))
}

/// The kernel takes `-` and `_` in a module's name for the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko\n\
                         kernel/drivers/md/dm-verity.ko:\n";

    #[test]
    fn a_module_comes_with_what_it_needs() {
        let files = closure(INDEX, "", &["ext4", "dm_verity"]).unwrap();
        let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
        let expected = [
            "kernel/drivers/md/dm-verity.ko",
            "kernel/fs/ext4/ext4.ko",
            "kernel/fs/jbd2/jbd2.ko",
            "kernel/lib/crc16.ko",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn built_in_ones_need_no_file_and_unknown_ones_are_errors() {
        assert!(
            closure(INDEX, "kernel/drivers/mmc/core/mmc_block.ko", &["mmc-block"])
                .unwrap()
                .is_empty()
        );
        let error = closure(INDEX, "", &["warp-drive"]).unwrap_err().to_string();
        assert!(error.contains("warp-drive"), "{error}");
    }
}
