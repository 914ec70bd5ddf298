//! X-rays as an X-ray unit sends them: a sample picture as a DICOM file, made by other programs
//! than ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::power::draw;
use crate::debian::Program;
use crate::process;

/// What makes and sends DICOM files.
pub const PROGRAMS: [Program; 4] = [
    Program { name: "pngtopnm", package: "netpbm" },
    Program { name: "dump2dcm", package: "dcmtk" },
    Program { name: "storescu", package: "dcmtk" },
    Program { name: "storescp", package: "dcmtk" },
];

/// Writes a grey picture as computed radiography of an invented patient, a study of its own for
/// each number, and returns the file.
///
/// # Errors
/// When a program is missing or the picture is not grey.
pub fn from_picture(picture: &Path, number: u64, folder: &Path) -> Result<PathBuf> {
    let mut convert = Command::new("pngtopnm");
    let converted = convert.arg(picture).output().context("cannot start pngtopnm")?;
    ensure!(converted.status.success(), "{} failed", process::line(&convert));
    let (width, height, pixels) = grey_pixels(&converted.stdout)
        .with_context(|| format!("{} is no grey picture", picture.display()))?;
    let file = |ending: &str| folder.join(format!("scan-{number}.{ending}"));
    let (raw, dump, dicom) = (file("raw"), file("dump"), file("dcm"));
    fs::write(&raw, pixels)?;
    fs::write(&dump, description(width, height, number, &raw))?;
    let mut command = Command::new("dump2dcm");
    process::run(command.args(["--write-xfer-little"]).args([&dump, &dicom]))?;
    Ok(dicom)
}

/// Sends files over one association, as a unit that has that AE title.
///
/// # Errors
/// When not every file was taken.
pub fn send(files: &[PathBuf], port: u16, caller: &str, called: &str) -> Result<()> {
    let mut command = Command::new("storescu");
    command.args(["--log-level", "warn", "--timeout", "60", "--dimse-timeout", "300"]);
    command.args(["--acse-timeout", "300", "-aet", caller, "-aec", called]);
    process::run(command.args(["127.0.0.1", &port.to_string()]).args(files))
}

/// Width, height and pixels of a binary PGM file with 8 bits a pixel.
fn grey_pixels(pgm: &[u8]) -> Option<(usize, usize, &[u8])> {
    let mut parts = pgm.splitn(4, |byte| byte.is_ascii_whitespace());
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<usize>().ok();
    if parts.next()? != b"P5" {
        return None;
    }
    let (width, height) = (number(parts.next()?)?, number(parts.next()?)?);
    let pixels = parts.next()?.strip_prefix(b"255\n")?;
    (pixels.len() == width * height).then_some((width, height, pixels))
}

/// What `dump2dcm` makes a file of.
fn description(width: usize, height: usize, number: u64, pixels: &Path) -> String {
    let uid = |kind: u64| format!("2.25.{}", draw(&[kind, number]));
    let [study, series, object] = [1, 2, 3].map(uid);
    format!(
        "(0008,0016) UI =ComputedRadiographyImageStorage\n\
         (0008,0018) UI [{object}]\n\
         (0008,0020) DA [20260101]\n\
         (0008,0030) TM [080000]\n\
         (0008,0050) SH [{number}]\n\
         (0008,0060) CS [CR]\n\
         (0010,0010) PN [Test^{number}]\n\
         (0010,0020) LO [TEST-{number}]\n\
         (0010,0030) DA\n\
         (0010,0040) CS\n\
         (0018,0015) CS [SPINE]\n\
         (0020,000d) UI [{study}]\n\
         (0020,000e) UI [{series}]\n\
         (0020,0010) SH [{number}]\n\
         (0020,0011) IS [1]\n\
         (0020,0013) IS [1]\n\
         (0028,0002) US 1\n\
         (0028,0004) CS [MONOCHROME2]\n\
         (0028,0010) US {height}\n\
         (0028,0011) US {width}\n\
         (0028,0100) US 8\n\
         (0028,0101) US 8\n\
         (0028,0102) US 7\n\
         (0028,0103) US 0\n\
         (7fe0,0010) OW ={}\n",
        pixels.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_pictures_are_read_and_no_others() {
        assert_eq!(grey_pixels(b"P5\n2 3\n255\n\n 2345"), Some((2, 3, &b"\n 2345"[..])));
        assert_eq!(grey_pixels(b"P5\n2 3\n255\n12345"), None);
        assert_eq!(grey_pixels(b"P6\n1 2\n255\n123456"), None);
        assert_eq!(grey_pixels(b"P5\n1 1\n65535\n12"), None);
        assert_eq!(grey_pixels(b""), None);
    }

    #[test]
    fn each_number_is_another_study() {
        let one = description(2, 3, 1, Path::new("p"));
        let other = description(2, 3, 2, Path::new("p"));
        let uids = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.contains("2.25.")).map(str::to_owned).collect()
        };
        assert_eq!(uids(&one).len(), 3);
        assert!(uids(&one).iter().all(|line| !uids(&other).contains(line)));
    }
}
