//! Cross-validation folds that never split a patient group, `folds.toml`, and their digest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use models::label::{COUNT, Class};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::write_whole;
use super::manifest::{Manifest, Record};

/// The plan's name inside a data set's folder.
pub const FILE_NAME: &str = "folds.toml";

const FORMAT: u32 = 1;

/// Two evaluations closer than this count as equal, so that rounding decides nothing.
const TIE: f64 = 1e-9;

/// Which image is held out in which fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    k: usize,
    seed: u64,
    manifest_digest: String,
    by_id: BTreeMap<String, usize>,
}

/// Why there is no usable plan.
#[derive(Debug, thiserror::Error)]
pub enum FoldsError {
    /// Fewer than two folds.
    #[error("{0} folds are no cross-validation: at least 2 are needed")]
    TooFewFolds(usize),
    /// A class cannot be in every fold.
    #[error("{class} has {groups} patient groups, too few for {k} folds")]
    TooFewGroups {
        /// The class.
        class: Class,
        /// Its patient groups.
        groups: usize,
        /// The folds wanted.
        k: usize,
    },
    /// The file cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The file is not a fold plan.
    #[error("not a fold plan")]
    Parse(#[from] toml::de::Error),
    /// The plan cannot be written as TOML.
    #[error("the fold plan cannot be written")]
    Write(#[from] toml::ser::Error),
    /// A later format.
    #[error("fold plan format {0} is unknown, expected {FORMAT}")]
    Format(u32),
    /// The file was changed by hand or damaged.
    #[error("the fold plan's digest does not match its content: it was changed or damaged")]
    Changed,
    /// The plan belongs to another data set.
    #[error("the fold plan was made for another manifest: plan the folds anew")]
    OtherManifest,
    /// The plan's ids are not the manifest's, or a fold number is too large.
    #[error("the fold plan does not assign `{0}` to a fold")]
    Unassigned(String),
    /// A patient group is in two folds.
    #[error("the fold plan splits the patient group `{0}`")]
    SplitGroup(String),
}

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoldsFile {
    format: u32,
    k: usize,
    seed: u64,
    manifest_digest: String,
    digest: String,
    fold: BTreeMap<String, usize>,
}

impl Folds {
    /// Plans `k` folds: greedy, stratified by class, patient groups whole, as scikit-learn's
    /// `StratifiedGroupKFold` does. Groups come in an order drawn from `seed`, those with the
    /// most uneven classes first; each goes to the fold that leaves the classes spread most
    /// evenly, among equals to the smallest fold.
    ///
    /// # Errors
    /// [`FoldsError::TooFewFolds`] or [`FoldsError::TooFewGroups`].
    pub fn plan(manifest: &Manifest, k: usize, seed: u64) -> Result<Self, FoldsError> {
        if k < 2 {
            return Err(FoldsError::TooFewFolds(k));
        }
        let groups = manifest.groups();
        check_groups(manifest, k)?;
        let mut order: Vec<&str> = groups.keys().copied().collect();
        order.sort_by_cached_key(|group| draw(seed, group));
        let counts: Vec<[usize; COUNT]> = order
            .iter()
            .map(|group| {
                let mut count = [0; COUNT];
                groups[group].iter().for_each(|record| count[record.class.index()] += 1);
                count
            })
            .collect();
        let mut by_id = BTreeMap::new();
        for (group, fold) in order.iter().zip(assign(&counts, k)) {
            by_id.extend(groups[group].iter().map(|record| (record.id.clone(), fold)));
        }
        Ok(Self { k, seed, manifest_digest: manifest.digest(), by_id })
    }

    /// Reads `folds.toml` of a data set's folder and checks it against the data set.
    ///
    /// # Errors
    /// Any [`FoldsError`] but those of planning.
    pub fn load(dir: &Path, manifest: &Manifest) -> Result<Self, FoldsError> {
        let path = dir.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|source| FoldsError::File { path, source })?;
        Self::parse(&text, manifest)
    }

    /// Reads a plan's text and checks it against its digest and the data set.
    ///
    /// # Errors
    /// As [`Folds::load`].
    pub fn parse(text: &str, manifest: &Manifest) -> Result<Self, FoldsError> {
        let file: FoldsFile = toml::from_str(text)?;
        if file.format != FORMAT {
            return Err(FoldsError::Format(file.format));
        }
        let FoldsFile { k, seed, manifest_digest, digest, fold: by_id, .. } = file;
        let folds = Self { k, seed, manifest_digest, by_id };
        if folds.digest() != digest {
            return Err(FoldsError::Changed);
        }
        folds.check(manifest)?;
        Ok(folds)
    }

    /// The plan as TOML text.
    ///
    /// # Errors
    /// [`FoldsError::Write`].
    pub fn to_toml(&self) -> Result<String, FoldsError> {
        let file = FoldsFile {
            format: FORMAT,
            k: self.k,
            seed: self.seed,
            manifest_digest: self.manifest_digest.clone(),
            digest: self.digest(),
            fold: self.by_id.clone(),
        };
        Ok(toml::to_string(&file)?)
    }

    /// Writes `folds.toml` into a data set's folder.
    ///
    /// # Errors
    /// [`FoldsError::File`] or [`FoldsError::Write`].
    pub fn save(&self, dir: &Path) -> Result<(), FoldsError> {
        let path = dir.join(FILE_NAME);
        write_whole(&path, self.to_toml()?.as_bytes())
            .map_err(|source| FoldsError::File { path, source })
    }

    /// Number of folds.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The seed that the order of the groups was drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Digest of the manifest that the plan was made for.
    pub fn manifest_digest(&self) -> &str {
        &self.manifest_digest
    }

    /// The fold, from 0, that holds an image out.
    pub fn fold_of(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Ids of the images a fold holds out, sorted.
    pub fn held_out(&self, fold: usize) -> impl Iterator<Item = &str> {
        self.by_id.iter().filter(move |(_, f)| **f == fold).map(|(id, _)| id.as_str())
    }

    /// Ids of the images that a fold trains on, sorted.
    pub fn trained_on(&self, fold: usize) -> impl Iterator<Item = &str> {
        self.by_id.iter().filter(move |(_, f)| **f != fold).map(|(id, _)| id.as_str())
    }

    /// Images by fold and class: `table[fold][class]`.
    pub fn table(&self, manifest: &Manifest) -> Vec<[usize; COUNT]> {
        let mut table = vec![[0; COUNT]; self.k];
        for record in manifest.records() {
            if let Some(fold) = self.fold_of(&record.id) {
                table[fold][record.class.index()] += 1;
            }
        }
        table
    }

    /// Names the plan: SHA-256, in hex, of its numbers, the manifest's digest and every id with
    /// its fold, one a line.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let head = format!(
            "spinesight folds {FORMAT}\n{}\n{}\n{}\n",
            self.k, self.seed, self.manifest_digest
        );
        hash.update(head);
        for (id, fold) in &self.by_id {
            hash.update(format!("{id} {fold}\n"));
        }
        hex::encode(hash.finalize())
    }

    fn check(&self, manifest: &Manifest) -> Result<(), FoldsError> {
        if self.manifest_digest != manifest.digest() {
            return Err(FoldsError::OtherManifest);
        }
        for record in manifest.records() {
            if self.fold_of(&record.id).is_none_or(|fold| fold >= self.k) {
                return Err(FoldsError::Unassigned(record.id.clone()));
            }
        }
        if self.by_id.len() != manifest.records().len() {
            return Err(FoldsError::OtherManifest);
        }
        for (group, records) in manifest.groups() {
            let fold = self.fold_of(&records[0].id);
            if records.iter().any(|record| self.fold_of(&record.id) != fold) {
                return Err(FoldsError::SplitGroup(group.to_string()));
            }
        }
        Ok(())
    }
}

/// Every class needs a group for every fold, or a fold could not judge it.
fn check_groups(manifest: &Manifest, k: usize) -> Result<(), FoldsError> {
    let groups = manifest.groups();
    for class in Class::ALL.into_iter().filter(|c| manifest.class_counts()[c.index()] > 0) {
        let has = |records: &&Vec<&Record>| records.iter().any(|r| r.class == class);
        let groups = groups.values().filter(has).count();
        if groups < k {
            return Err(FoldsError::TooFewGroups { class, groups, k });
        }
    }
    Ok(())
}

/// A group's place in the order of a seed: a hash, so that it is the same on every platform and
/// with every version of a random number generator.
fn draw(seed: u64, group: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(group);
    hash.finalize().into()
}

/// The fold of each group, given its images by class, in the order of the groups.
fn assign(counts: &[[usize; COUNT]], k: usize) -> Vec<usize> {
    let mut totals = [0; COUNT];
    counts.iter().for_each(|count| add(&mut totals, count));
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(spread(&counts[at])));
    let mut folds = vec![[0; COUNT]; k];
    let mut assigned = vec![0; counts.len()];
    for group in order {
        let best = best_fold(&folds, &totals, &counts[group]);
        add(&mut folds[best], &counts[group]);
        assigned[group] = best;
    }
    assigned
}

/// Unevenness of a group's classes: their variance times [`COUNT`] squared, which is whole.
fn spread(count: &[usize; COUNT]) -> usize {
    let sum: usize = count.iter().sum();
    COUNT * count.iter().map(|n| n * n).sum::<usize>() - sum * sum
}

fn best_fold(folds: &[[usize; COUNT]], totals: &[usize; COUNT], count: &[usize; COUNT]) -> usize {
    let mut best = (0, f64::INFINITY, usize::MAX);
    for fold in 0..folds.len() {
        let mut tried = folds.to_vec();
        add(&mut tried[fold], count);
        let unevenness = unevenness(&tried, totals);
        let size = folds[fold].iter().sum();
        let equal = (unevenness - best.1).abs() <= TIE;
        if (equal && size < best.2) || (!equal && unevenness < best.1) {
            best = (fold, unevenness, size);
        }
    }
    best.0
}

/// Mean over the classes of the standard deviation, over the folds, of a class's share.
fn unevenness(folds: &[[usize; COUNT]], totals: &[usize; COUNT]) -> f64 {
    let present: Vec<usize> = (0..COUNT).filter(|&c| totals[c] > 0).collect();
    let sum: f64 = present
        .iter()
        .map(|&c| deviation(folds.iter().map(|f| f[c] as f64 / totals[c] as f64)))
        .sum();
    sum / present.len() as f64
}

/// Standard deviation of a whole population.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt()
}

fn add(to: &mut [usize; COUNT], count: &[usize; COUNT]) {
    to.iter_mut().zip(count).for_each(|(t, c)| *t += c);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty patients with one to three images each, classes in uneven shares.
    fn manifest() -> Manifest {
        let mut records = Vec::new();
        for patient in 0..60u32 {
            let class = Class::ALL[[0, 1, 1, 1, 2][patient as usize % 5]];
            for image in 0..1 + patient % 3 {
                let id = format!("{class}-{patient}-{image}");
                records.push(Record {
                    file: format!("images/{class}/{id}.png"),
                    id,
                    class,
                    group: format!("patient {patient}"),
                    age_years: None,
                    sex: None,
                    source_batch: "unknown".into(),
                    native_width: 60,
                    native_height: 90,
                    sha256: "0".repeat(64),
                    phash: "0".repeat(64),
                    duplicate_of: None,
                });
            }
        }
        Manifest::new(records).expect("valid")
    }

    #[test]
    fn groups_stay_whole_and_classes_are_balanced() {
        let manifest = manifest();
        for seed in 0..5 {
            let folds = Folds::plan(&manifest, 5, seed).expect("plan");
            for records in manifest.groups().values() {
                let fold = folds.fold_of(&records[0].id);
                assert!(fold.is_some());
                assert!(records.iter().all(|r| folds.fold_of(&r.id) == fold));
            }
            let totals = manifest.class_counts();
            for counts in folds.table(&manifest) {
                for (count, total) in counts.iter().zip(totals) {
                    assert!(count.abs_diff(total / 5) <= 2, "{count} of {total}");
                }
            }
            assert_eq!(folds.held_out(0).count() + folds.trained_on(0).count(), 120);
        }
    }

    #[test]
    fn the_seed_decides_the_digest() {
        let manifest = manifest();
        let digest = |seed| Folds::plan(&manifest, 5, seed).expect("plan").digest();
        assert_eq!(digest(7), digest(7));
        assert_ne!(digest(7), digest(8));
    }

    #[test]
    fn a_plan_is_read_back_only_whole_and_for_its_data_set() {
        let manifest = manifest();
        let folds = Folds::plan(&manifest, 4, 3).expect("plan");
        let text = folds.to_toml().expect("toml");
        assert_eq!(Folds::parse(&text, &manifest).expect("reads"), folds);
        let moved = text.replace("normal-0-0 = ", "normal-0-0 = 1");
        assert!(matches!(Folds::parse(&moved, &manifest), Err(FoldsError::Changed)));
        let mut records = manifest.records().to_vec();
        records.pop();
        let other = Manifest::new(records).expect("valid");
        assert!(matches!(Folds::parse(&text, &other), Err(FoldsError::OtherManifest)));
    }

    #[test]
    fn a_split_group_is_refused_even_with_a_right_digest() {
        let manifest = manifest();
        let mut folds = Folds::plan(&manifest, 4, 3).expect("plan");
        let fold = folds.by_id.get_mut("scoliosis-1-0").expect("there");
        *fold = (*fold + 1) % 4;
        let text = folds.to_toml().expect("toml");
        assert!(matches!(Folds::parse(&text, &manifest), Err(FoldsError::SplitGroup(_))));
    }

    #[test]
    fn impossible_plans_have_a_reason() {
        let manifest = manifest();
        assert!(matches!(Folds::plan(&manifest, 1, 0), Err(FoldsError::TooFewFolds(1))));
        assert!(matches!(
            Folds::plan(&manifest, 13, 0),
            Err(FoldsError::TooFewGroups { class: Class::Normal, groups: 12, k: 13 })
        ));
    }

    /// Counts drawn at random; folds by `StratifiedGroupKFold` of scikit-learn 1.9.1, whose
    /// group order without shuffling is the order of the list. With two folds every group must
    /// agree; with four, scikit-learn's choice among equal folds hangs on rounding, so only the
    /// resulting table must.
    #[test]
    fn assignment_is_scikit_learns() {
        #[rustfmt::skip]
        let counts = [
            [1, 0, 1], [0, 4, 0], [0, 4, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 1], [3, 0, 0],
            [0, 2, 0], [0, 0, 4], [0, 0, 1], [0, 2, 0], [0, 3, 1], [0, 1, 0], [0, 2, 0], [4, 0, 0],
            [0, 1, 0], [4, 0, 0], [1, 0, 4], [4, 0, 0], [0, 4, 0], [0, 1, 0], [0, 4, 0], [0, 1, 0],
        ];
        let two = [1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0];
        assert_eq!(assign(&counts, 2), two);
        let mut table = vec![[0; COUNT]; 4];
        for (count, fold) in counts.iter().zip(assign(&counts, 4)) {
            add(&mut table[fold], count);
        }
        table.sort();
        assert_eq!(table, [[4, 8, 4], [5, 7, 4], [5, 8, 2], [5, 8, 2]]);
    }
}
