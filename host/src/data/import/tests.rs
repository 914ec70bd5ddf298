//! Whole imports of generated sources: nothing personal survives, nothing is left out in silence.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Luma};
use models::radiograph::Radiograph;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::report::SkipReason;
use super::*;
use crate::data::manifest::Record;

const SECRET: &str = "Jane Roe 1234567";

/// A picture of its own for each seed.
fn picture(seed: u32) -> ImageBuffer<Luma<u8>, Vec<u8>> {
    ImageBuffer::from_fn(96, 128, |x, y| {
        let wave = |n: u32, at: u32| (f64::from(at * (seed * 7 + n) % 211) / 33.0).sin();
        Luma([(128.0 + 60.0 * wave(1, x) + 60.0 * wave(3, y + x)) as u8])
    })
}

fn png(seed: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(picture(seed)).write_to(&mut bytes, ImageFormat::Png).expect("png");
    bytes.into_inner()
}

/// A JPEG with an EXIF block: orientation 6 (turn right) and an artist's name.
fn jpeg_with_exif(seed: u32) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x02\0".to_vec();
    exif.extend(b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0");
    exif.extend(b"\x3b\x01\x02\0");
    exif.extend((SECRET.len() as u32).to_le_bytes());
    exif.extend(38u32.to_le_bytes());
    exif.extend([0; 4]);
    exif.extend(SECRET.as_bytes());
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    encoder.set_exif_metadata(exif).expect("exif");
    let source = picture(seed);
    encoder.write_image(&source, 96, 128, image::ExtendedColorType::L8).expect("jpeg");
    bytes
}

fn zip(path: &Path, files: &[(&str, Vec<u8>)]) {
    let mut writer = ZipWriter::new(fs::File::create(path).expect("create"));
    for (name, bytes) in files {
        writer.start_file(*name, SimpleFileOptions::default()).expect("entry");
        writer.write_all(bytes).expect("write");
    }
    writer.finish().expect("finish");
}

fn quiet_import(source: &Path, out: &Path) -> Result<Imported, ImportError> {
    import(source, out, &mut |_, _| {})
}

fn all_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(folder).expect("folder") {
        let path = item.expect("item").path();
        if path.is_dir() { files.extend(all_files(&path)) } else { files.push(path) }
    }
    files
}

/// Archive as users download it, with everything that is wrong in such archives.
fn original_archive(dir: &Path) -> std::path::PathBuf {
    let root = "A dataset/ImagesOriginalSize";
    let exported = png(2);
    let files = [
        (format!("{root}/ScolFinal/N93, Rt TL AIS {SECRET}, F, 14 Yrs.jpg"), jpeg_with_exif(1)),
        (format!("{root}/NormalFinal/N1,N,F,21_1_0.jpg"), exported.clone()),
        (format!("{root}/NormalFinal/N2,N,F,21_2_0.jpg"), png(3)),
        (format!("{root}/NormalFinal/N3,N,M,21_1_0.jpg"), png(4)),
        (format!("{root}/NormalFinal/N1,N,F,21_1_0 (1).jpg"), exported.clone()),
        (format!("{root}/SpondFinal/N5, L5, M, 61 Yrs.png"), exported),
        (format!("{root}/NormalFinal/readme {SECRET}.txt"), SECRET.as_bytes().to_vec()),
        (format!("{root}/NormalFinal/N9,N,F,30_1_0.jpg"), png(6)[..700].to_vec()),
        (format!("{root}/other/x.png"), png(7)),
        ("A dataset/Images224/NormalFinal/N1,N,F,21_1_0.jpg".to_string(), png(8)),
        (format!("__MACOSX/{root}/NormalFinal/._N1.jpg"), vec![1, 2, 3]),
        (format!("{root}/more.zip"), vec![1, 2, 3]),
        ("../../NormalFinal/escape.png".to_string(), png(9)),
    ];
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let path = dir.join("download.zip");
    zip(&path, &files);
    path
}

#[test]
fn the_original_archive_is_taken_and_scrubbed() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("set");
    let imported = quiet_import(&original_archive(dir.path()), &out).expect("import");
    assert_eq!(imported.manifest.class_counts(), [3, 1, 1]);
    assert_eq!(imported.outcome, Outcome::Written);
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 2, "only source and result");
    let files = all_files(&out);
    assert_eq!(files.len(), 5 + 2);
    for file in files {
        let bytes = fs::read(&file).expect("read");
        let text = format!("{} {}", file.display(), String::from_utf8_lossy(&bytes));
        let tree = text.replace(&dir.path().display().to_string(), "");
        for leak in [SECRET, "Jane", "1234567", "Exif", "eXIf", "N93", "AIS", "Yrs", "21_1_0"] {
            assert!(!tree.contains(leak), "{leak} in {}", file.display());
        }
    }
}

#[test]
fn every_file_left_out_has_a_reason() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("set");
    let imported = quiet_import(&original_archive(dir.path()), &out).expect("import");
    let reason = |part: &str| {
        let found = imported.report.skipped.iter().find(|s| s.name.contains(part));
        found.map(|s| s.reason.clone())
    };
    assert!(matches!(reason("readme"), Some(SkipReason::Picture { .. })));
    assert!(matches!(reason("N9,N,F"), Some(SkipReason::Picture { .. })));
    assert!(matches!(reason("other/"), Some(SkipReason::NoClassFolder)));
    assert!(matches!(reason("Images224"), Some(SkipReason::OtherSize)));
    assert!(matches!(reason("__MACOSX"), Some(SkipReason::SystemFile)));
    assert!(matches!(reason("more.zip"), Some(SkipReason::NestedArchive)));
    assert!(matches!(reason("escape"), Some(SkipReason::UnsafePath)));
    let same = |s: &&super::report::Skipped| matches!(s.reason, SkipReason::SameFile { .. });
    assert_eq!(imported.report.skipped.iter().filter(same).count(), 1);
    assert_eq!(imported.report.skipped.len() + imported.manifest.records().len(), 13);
    assert!(!dir.path().join("../escape.png").exists());
}

#[test]
fn names_give_groups_batches_ages_and_upright_pictures() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("set");
    let manifest = quiet_import(&original_archive(dir.path()), &out).expect("import").manifest;
    let records = manifest.records();
    let normal: Vec<&Record> = records.iter().filter(|r| r.id.starts_with("normal")).collect();
    assert!(normal.iter().all(|r| r.source_batch == "export" && r.age_years == Some(21)));
    let of_sex = |sex| normal.iter().filter(move |r| r.sex == Some(sex)).map(|r| &r.group);
    let women: std::collections::BTreeSet<_> = of_sex(crate::data::manifest::Sex::F).collect();
    assert_eq!(women.len(), 1, "one class, age and sex is one group");
    assert!(of_sex(crate::data::manifest::Sex::M).all(|group| !women.contains(group)));
    let scoliosis = records.iter().find(|r| r.id.starts_with("scoliosis")).expect("one");
    assert_eq!((scoliosis.source_batch.as_str(), scoliosis.age_years), ("clinical", Some(14)));
    let written = fs::read(out.join(&scoliosis.file)).expect("picture");
    let turned = Radiograph::decode(&written).expect("decodes");
    assert_eq!((turned.width(), turned.height()), (128, 96), "turned as its EXIF says");
    assert_eq!(turned, Radiograph::decode(&jpeg_with_exif(1)).expect("original"));
}

#[test]
fn a_file_under_two_patients_joins_their_groups() {
    let dir = TempDir::new().expect("dir");
    let source = dir.path().join("source.zip");
    let files = [
        ("normal/N1,N,F,21_1_0.png", png(1)),
        ("normal/N2,N,M,40_1_0.png", png(1)),
        ("normal/N3,N,F,21_2_0.png", png(2)),
        ("normal/N4,N,M,40_2_0.png", png(3)),
        ("normal/N5,N,M,41_1_0.png", png(4)),
    ];
    zip(&source, &files);
    let manifest = quiet_import(&source, &dir.path().join("set")).expect("import").manifest;
    let sizes: Vec<usize> = manifest.groups().values().map(Vec::len).collect();
    assert!(sizes == [1, 3] || sizes == [3, 1], "{sizes:?}");
}

#[test]
fn one_picture_in_two_classes_is_reported_and_grouped() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("set");
    let imported = quiet_import(&original_archive(dir.path()), &out).expect("import");
    let conflicts = &imported.report.conflicting_classes;
    assert_eq!(conflicts.len(), 1);
    let pair = &conflicts[0];
    let record = |id: &str| imported.manifest.get(id).expect("there").clone();
    assert_eq!(record(&pair.id).duplicate_of.as_deref(), Some(pair.same_as.as_str()));
    assert_eq!(record(&pair.id).group, record(&pair.same_as).group);
    assert!(imported.report.to_text().contains("WARNING"));
}

#[test]
fn repeating_an_import_changes_nothing_and_mends_damage() {
    let dir = TempDir::new().expect("dir");
    let (source, out) = (original_archive(dir.path()), dir.path().join("set"));
    let first = quiet_import(&source, &out).expect("import");
    fs::write(out.join("folds.toml"), "kept").expect("write");
    let again = quiet_import(&source, &out).expect("again");
    assert_eq!(again.outcome, Outcome::Unchanged { repaired: 0 });
    assert_eq!(again.manifest, first.manifest);
    fs::write(out.join(&first.manifest.records()[0].file), "damage").expect("write");
    let mended = quiet_import(&source, &out).expect("mended");
    assert_eq!(mended.outcome, Outcome::Unchanged { repaired: 1 });
    assert_eq!(fs::read(out.join("folds.toml")).expect("read"), b"kept");
}

#[test]
fn other_content_in_the_output_folder_is_never_overwritten() {
    let dir = TempDir::new().expect("dir");
    let (source, out) = (original_archive(dir.path()), dir.path().join("set"));
    fs::create_dir_all(&out).expect("dir");
    fs::write(out.join("thesis.txt"), "years of work").expect("write");
    assert!(matches!(quiet_import(&source, &out), Err(ImportError::OutputInUse(_))));
    fs::remove_file(out.join("thesis.txt")).expect("remove");
    quiet_import(&source, &out).expect("an empty folder is fine");
    let other = dir.path().join("other");
    fs::create_dir_all(other.join("normal")).expect("dir");
    fs::write(other.join("normal/a.png"), png(11)).expect("write");
    assert!(matches!(quiet_import(&other, &out), Err(ImportError::DifferentDataSet(_))));
    let inside = quiet_import(&other, &other.join("set"));
    assert!(matches!(inside, Err(ImportError::OutputInsideSource)));
}

#[test]
fn a_sources_own_table_is_believed_but_its_group_names_are_not_kept() {
    let dir = TempDir::new().expect("dir");
    let source = dir.path().join("prepared");
    fs::create_dir_all(source.join("x")).expect("dir");
    for seed in 1..=4 {
        fs::write(source.join(format!("x/{seed}.png")), png(seed)).expect("write");
    }
    let hash = "ab".repeat(32);
    let table = format!(
        "file,class,group,age_years,sex,source_batch,native_width,native_height,original_sha256\n\
         x/1.png,normal,{SECRET},17,F,export,500,900,{hash}\n\
         x/2.png,scoliosis,{SECRET},,,clinical,,,\n\
         x/3.png,normal,someone else,,,clinical,,,\n\
         x/5.png,normal,,,,,,,\n"
    );
    fs::write(source.join("manifest.csv"), table).expect("write");
    let out = dir.path().join("set");
    let imported = quiet_import(&source, &out).expect("import");
    let record = imported.manifest.get("normal-abababab").expect("named by the original's hash");
    assert_eq!((record.native_width, record.native_height), (500, 900));
    assert_eq!((record.age_years, record.sha256.as_str()), (Some(17), hash.as_str()));
    assert_eq!(imported.manifest.groups().len(), 2);
    let text = fs::read_to_string(out.join("manifest.csv")).expect("read");
    assert!(!text.contains("Jane") && !text.contains("someone"));
    let reasons: Vec<String> =
        imported.report.skipped.iter().map(|s| format!("{} {}", s.name, s.reason)).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().any(|r| r.starts_with("x/4.png not listed")));
    assert!(reasons.iter().any(|r| r.starts_with("x/5.png listed")));
}

#[test]
fn sources_without_a_picture_are_refused_with_a_reason() {
    let dir = TempDir::new().expect("dir");
    let out = dir.path().join("set");
    let letter = dir.path().join("letter.zip");
    fs::write(&letter, "no archive").expect("write");
    assert!(matches!(quiet_import(&letter, &out), Err(ImportError::Archive { .. })));
    zip(&letter, &[("a.txt", b"text".to_vec())]);
    assert!(matches!(quiet_import(&letter, &out), Err(ImportError::NothingUsable(1))));
    let missing = dir.path().join("nowhere");
    assert!(matches!(quiet_import(&missing, &out), Err(ImportError::File { .. })));
    assert!(!out.exists());
}
