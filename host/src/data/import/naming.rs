//! What the file names of the original archive tell: class, batch, age and sex.
//!
//! Two naming patterns occur. The hospital's export writes `N1,N,F,21_1_0.jpg`: number, code,
//! sex, then age and two counters. The clinical collection writes
//! `N93, Rt TL AIS, F, 14 Yrs.jpg`: number, description, sex, age.

use models::label::Class;

use crate::data::manifest::{MAX_AGE_YEARS, Sex};

/// Batch of a file whose name fits no pattern.
pub(super) const UNKNOWN_BATCH: &str = "unknown";
const EXPORT_BATCH: &str = "export";
const CLINICAL_BATCH: &str = "clinical";

/// What is known of an image's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Age in whole years.
    pub age_years: Option<u16>,
    /// Sex.
    pub sex: Option<Sex>,
    /// Batch, by naming pattern.
    pub batch: String,
}

impl Facts {
    /// Key of the patients this may be: those of one class, age and sex in the export.
    ///
    /// The export's names hold several pictures of a patient without saying which; taking all
    /// of one class, age and sex for one patient merges too many, never too few. Elsewhere, and
    /// where age or sex is unknown, there is no key.
    pub(super) fn patient(&self, class: Class) -> Option<String> {
        let (age, sex) = self.age_years.zip(self.sex)?;
        (self.batch == EXPORT_BATCH).then(|| format!("{class} {age} {}", sex.name()))
    }
}

/// Reads a file's name; folders before it are ignored.
pub(super) fn facts_from_name(path: &str) -> Facts {
    let stem = stem_from_path(path);
    let parts: Vec<&str> = stem.split(',').map(str::trim).collect();
    let exported = parts.last().filter(|_| parts.len() > 2);
    if let Some(age) = exported.and_then(|last| export_age(last)) {
        return Facts { age_years: age, sex: sex_from(&parts), batch: EXPORT_BATCH.into() };
    }
    let words: Vec<&str> = stem.split([',', ' ', '_']).filter(|w| !w.is_empty()).collect();
    let numbered = parts.len() > 1 && is_case_number(parts[0]);
    let batch = if numbered { CLINICAL_BATCH } else { UNKNOWN_BATCH };
    if !numbered {
        return Facts { age_years: None, sex: None, batch: batch.into() };
    }
    Facts { age_years: age_in_words(&words), sex: sex_from(&words), batch: batch.into() }
}

/// The class that the innermost folder with a class's name gives.
pub(super) fn class_from_path(path: &str) -> Option<Class> {
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    folders.iter().rev().find_map(|folder| match folder.trim().to_ascii_lowercase().as_str() {
        "normalfinal" | "normal" => Some(Class::Normal),
        "scolfinal" | "scol" | "scoliosis" => Some(Class::Scoliosis),
        "spondfinal" | "spond" | "spondylolisthesis" => Some(Class::Spondylolisthesis),
        _ => None,
    })
}

/// Whether a file lies in the original archive's folder of full-size pictures.
pub(super) fn is_original_size(path: &str) -> bool {
    path.split('/').rev().skip(1).any(|folder| folder.eq_ignore_ascii_case("ImagesOriginalSize"))
}

/// Whether an operating system left the file behind.
pub(super) fn is_system_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.split('/').any(|part| part == "__MACOSX")
        || name.starts_with("._")
        || [".ds_store", "thumbs.db", "desktop.ini"].contains(&name.to_ascii_lowercase().as_str())
}

/// Whether the name is that of an archive.
pub(super) fn is_archive(path: &str) -> bool {
    let name = path.to_ascii_lowercase();
    [".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

/// The name without folders, ending, and the marks that copying adds.
fn stem_from_path(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem).trim();
    let stem = stem.strip_suffix("- Copy").unwrap_or(stem).trim_end();
    let counted = stem.strip_suffix(')').and_then(|s| s.rsplit_once('('));
    match counted {
        Some((before, count)) if is_number(count) => before.trim_end(),
        _ => stem,
    }
}

/// The age in `21_1_0`; `Some(None)` where the pattern fits but the age is not a number.
fn export_age(last: &str) -> Option<Option<u16>> {
    let mut fields = last.rsplit('_').map(str::trim);
    let counters = [fields.next()?, fields.next()?];
    let age = fields.next()?;
    counters.into_iter().all(is_number).then(|| age_from(age))
}

/// The last `14 Yrs`, `14Yrs` or `14 Y` among the words; months and days are age 0.
fn age_in_words(words: &[&str]) -> Option<u16> {
    words.iter().enumerate().rev().find_map(|(at, word)| {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, attached) = word.split_at(digits);
        let unit = if attached.is_empty() { words.get(at + 1)? } else { &attached };
        match unit.to_ascii_lowercase().trim_end_matches('.') {
            "y" | "yr" | "yrs" | "year" | "years" => age_from(number),
            "m" | "mo" | "month" | "months" | "d" | "day" | "days" => age_from(number).map(|_| 0),
            _ => None,
        }
    })
}

fn age_from(text: &str) -> Option<u16> {
    text.parse().ok().filter(|&age| age <= MAX_AGE_YEARS)
}

fn sex_from(words: &[&str]) -> Option<Sex> {
    words.iter().rev().find_map(|word| match word.to_ascii_lowercase().as_str() {
        "f" | "female" => Some(Sex::F),
        "m" | "male" => Some(Sex::M),
        _ => None,
    })
}

/// `N93`: a letter or two, then a number.
fn is_case_number(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    (1..=2).contains(&(text.len() - number.len())) && is_number(number.trim_start())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(path: &str) -> (String, Option<u16>, Option<Sex>) {
        let facts = facts_from_name(path);
        (facts.batch, facts.age_years, facts.sex)
    }

    #[test]
    fn both_patterns_are_read() {
        let cases = [
            ("N1,N,F,21_1_0.jpg", "export", Some(21), Some(Sex::F)),
            ("a/b,c/N12, N ,M, 6_2_0 (1).JPG", "export", Some(6), Some(Sex::M)),
            ("S3,S,F,_1_0.png", "export", None, Some(Sex::F)),
            ("N93, Rt TL AIS, F, 14 Yrs.jpg", "clinical", Some(14), Some(Sex::F)),
            ("N7, L4-L5 Gr. 1, M, 61Yrs - Copy.jpg", "clinical", Some(61), Some(Sex::M)),
            ("N8, Lt T, f, 8 Months.jpg", "clinical", Some(0), Some(Sex::F)),
            ("N9, L5S1.jpg", "clinical", None, None),
            ("IMG_2024_1.jpg", "unknown", None, None),
            ("", "unknown", None, None),
        ];
        for (path, batch, age, sex) in cases {
            assert_eq!(facts(path), (batch.to_string(), age, sex), "{path}");
        }
    }

    #[test]
    fn only_the_export_with_age_and_sex_has_a_patient_key() {
        let key = |name: &str| facts_from_name(name).patient(Class::Normal);
        assert!(key("N1,N,F,21_1_0.jpg").is_some());
        assert_eq!(key("N1,N,F,21_1_0.jpg"), key("N5,N,F,21_2_3.jpg"));
        assert_ne!(key("N1,N,F,21_1_0.jpg"), key("N1,N,M,21_1_0.jpg"));
        assert_eq!(key("N1,N,F,_1_0.jpg"), None);
        assert_eq!(key("N93, Rt TL AIS, F, 14 Yrs.jpg"), None);
    }

    #[test]
    fn the_innermost_class_folder_counts() {
        assert_eq!(class_from_path("x/ScolFinal/a.jpg"), Some(Class::Scoliosis));
        assert_eq!(class_from_path("normal/SpondFinal/v/a.jpg"), Some(Class::Spondylolisthesis));
        assert_eq!(class_from_path("x/normal.jpg"), None);
        assert!(is_original_size("d/ImagesOriginalSize/NormalFinal/a.jpg"));
        assert!(!is_original_size("d/Images224/NormalFinal/a.jpg"));
        assert!(is_system_file("__MACOSX/NormalFinal/a.jpg"));
        assert!(is_system_file("NormalFinal/._a.jpg"));
    }
}
