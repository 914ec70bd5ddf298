//! The pinned Python wheels, and taking out of them what libtorch needs.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

/// One file of a Python package index.
pub struct Wheel {
    /// Name of the project in the index.
    pub project: &'static str,
    /// Name of the file.
    pub file: &'static str,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: &'static str,
    /// A folder whose content is taken, as (name in the wheel, name in the result).
    folder: Option<(&'static str, &'static str)>,
    /// Folder of the wheel that holds the libraries.
    library_folder: &'static str,
    /// Libraries taken from there.
    libraries: &'static [&'static str],
}

/// What libtorch's CPU half consists of.
pub const WHEELS: [Wheel; 3] = [
    Wheel {
        project: "torch",
        file: "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        folder: Some(("torch/include/", "include")),
        library_folder: "torch/lib/",
        libraries: &["libc10.so", "libtorch_cpu.so", "libgomp.so.1"],
    },
    Wheel {
        project: "nvidia-cuda-runtime",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        folder: None,
        library_folder: "nvidia/cu13/lib/",
        libraries: &["libcudart.so.13"],
    },
    Wheel {
        project: "nvidia-cuda-cupti",
        file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        folder: None,
        library_folder: "nvidia/cu13/lib/",
        libraries: &["libcupti.so.13"],
    },
];

/// Names of all libraries taken, as they lie in the result's `lib`.
pub fn libraries() -> impl Iterator<Item = &'static str> {
    WHEELS.iter().flat_map(|wheel| wheel.libraries).copied()
}

/// Writes the needed files of a wheel under `root`.
///
/// # Errors
/// When the file is no wheel, lacks a library, or `root` cannot be written.
pub fn extract(wheel: &Wheel, file: &Path, root: &Path) -> Result<()> {
    let open = || File::open(file).with_context(|| format!("cannot open {}", file.display()));
    let mut archive = ZipArchive::new(BufReader::new(open()?))
        .with_context(|| format!("{} is no wheel", file.display()))?;
    let progress = ProgressBar::new(archive.len() as u64).with_message(wheel.project);
    progress.set_style(ProgressStyle::with_template("unpacking {msg} {wide_bar} {pos}/{len}")?);
    let mut libraries = 0;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).with_context(|| damaged(file))?;
        progress.inc(1);
        let name = entry.name().with_context(|| damaged(file))?;
        let Some(destination) = wheel.destination(&name) else { continue };
        libraries += usize::from(destination.starts_with("lib"));
        write(&mut entry, &root.join(destination)).with_context(|| damaged(file))?;
    }
    progress.finish_and_clear();
    ensure!(libraries == wheel.libraries.len(), "{} lacks a library", file.display());
    Ok(())
}

impl Wheel {
    /// Where in the result a wheel's entry belongs, if it is needed.
    fn destination(&self, name: &str) -> Option<PathBuf> {
        if name.ends_with('/') || name.split('/').any(|part| part == "..") {
            return None;
        }
        if let Some(library) = name.strip_prefix(self.library_folder) {
            return self.libraries.contains(&library).then(|| Path::new("lib").join(library));
        }
        let (from, to) = self.folder?;
        name.strip_prefix(from).map(|rest| Path::new(to).join(rest.trim_start_matches('/')))
    }
}

fn write(content: &mut impl io::Read, path: &Path) -> Result<()> {
    let describe = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(describe)?;
    }
    let mut output = BufWriter::new(File::create(path).with_context(describe)?);
    io::copy(content, &mut output).with_context(describe)?;
    output.into_inner().map_err(|e| e.into_error()).with_context(describe)?;
    Ok(())
}

fn damaged(file: &Path) -> String {
    format!("cannot unpack {}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const WHEEL: Wheel = Wheel {
        project: "p",
        file: "p.whl",
        sha256: "",
        folder: Some(("p/include/", "include")),
        library_folder: "p/lib/",
        libraries: &["liba.so"],
    };

    fn check(entry: &str, expected: Option<&str>) {
        assert_eq!(WHEEL.destination(entry), expected.map(PathBuf::from), "{entry}");
    }

    #[test]
    fn headers_and_named_libraries_are_taken_and_nothing_else() {
        check("p/include/a/b.h", Some("include/a/b.h"));
        check("p/lib/liba.so", Some("lib/liba.so"));
        check("p/lib/libb.so", None);
        check("p/lib/sub/liba.so", None);
        check("p/include/a/", None);
        check("q/include/a.h", None);
    }

    #[test]
    fn no_entry_leaves_the_folder() {
        check("p/include/../../evil", None);
        check("p/include//etc/evil", Some("include/etc/evil"));
    }

    fn archive(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.whl");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        (folder, path)
    }

    #[test]
    fn extraction_writes_the_needed_files() {
        let (folder, path) = archive(&["p/include/a.h", "p/lib/liba.so", "p/lib/libb.so"]);
        let root = folder.path().join("root");
        extract(&WHEEL, &path, &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("include/a.h")).unwrap(), "p/include/a.h");
        assert_eq!(fs::read_to_string(root.join("lib/liba.so")).unwrap(), "p/lib/liba.so");
        assert!(!root.join("lib/libb.so").exists());
    }

    #[test]
    fn a_wheel_without_its_library_is_an_error() {
        let (folder, path) = archive(&["p/include/a.h"]);
        let error = extract(&WHEEL, &path, &folder.path().join("root")).unwrap_err();
        assert!(error.to_string().contains("lacks a library"));
        fs::write(&path, "no zip").unwrap();
        assert!(extract(&WHEEL, &path, folder.path()).is_err());
    }

    #[test]
    fn pins_are_digests() {
        for wheel in &WHEELS {
            let hex = wheel.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            assert!(wheel.sha256.len() == 64 && hex, "{}", wheel.file);
        }
    }
}
