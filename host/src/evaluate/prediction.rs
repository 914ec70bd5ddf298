//! What a network said of the images that its training did not see, `predictions.csv`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use models::label::{COUNT, Class};
use models::logits::likeliest;
use serde::{Deserialize, Serialize};

/// The table's name in a fold's folder.
pub const FILE_NAME: &str = "predictions.csv";

/// The columns, in their order in the file.
pub const COLUMNS: [&str; 6] =
    ["id", "class", "fold", "logit_normal", "logit_scoliosis", "logit_spondylolisthesis"];

/// One held-out image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The image.
    pub id: String,
    /// Its true class.
    pub class: Class,
    /// The fold, from 0, that held it out.
    pub fold: usize,
    /// The network's raw outputs in the order of [`Class::ALL`], before softmax.
    pub logits: [f32; COUNT],
}

/// All predictions of a run directory.
#[derive(Clone, Debug, PartialEq)]
pub struct RunPredictions {
    /// Of all folds, in the order of folds and of their files.
    pub predictions: Vec<Prediction>,
    /// Folds that should be there and are not.
    pub missing_folds: Vec<usize>,
}

/// Why there are no usable predictions.
#[derive(Debug, thiserror::Error)]
pub enum PredictionError {
    /// The file or folder cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// Where.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// A row is not a prediction.
    #[error("{path}, line {line}: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Line of the file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The table cannot be formed.
    #[error("predictions cannot be written")]
    Write(#[from] csv::Error),
    /// No fold has predictions.
    #[error("{0} has no fold-0/{FILE_NAME} or later: nothing has been trained there yet")]
    NoFolds(PathBuf),
    /// A folder of a fold that the plan does not have.
    #[error("the run has a fold {fold}, but the data set's plan has only {k}")]
    ExtraFold {
        /// The fold, from 0.
        fold: usize,
        /// Folds planned.
        k: usize,
    },
    /// Two folds judge the same image.
    #[error("`{0}` is predicted twice")]
    Twice(String),
}

/// A row of the file.
#[derive(Serialize, Deserialize)]
struct Row {
    id: String,
    class: Class,
    fold: usize,
    logit_normal: f32,
    logit_scoliosis: f32,
    logit_spondylolisthesis: f32,
}

impl Prediction {
    /// The class that the logits make likeliest.
    pub fn predicted(&self) -> Class {
        likeliest(&self.logits)
    }
}

/// Writes a fold's table; logits keep every bit.
///
/// # Errors
/// [`PredictionError::File`] or [`PredictionError::Write`].
pub fn write(path: &Path, predictions: &[Prediction]) -> Result<(), PredictionError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for prediction in predictions {
        writer.serialize(Row::from(prediction))?;
    }
    let bytes = writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))?;
    fs::write(path, bytes).map_err(file_error(path))
}

/// Reads a table.
///
/// # Errors
/// [`PredictionError::File`], or [`PredictionError::Row`] with the line: wrong columns, values
/// that do not parse, logits that are not finite.
pub fn read(path: &Path) -> Result<Vec<Prediction>, PredictionError> {
    let text = fs::read(path).map_err(file_error(path))?;
    let fault = |line, reason| PredictionError::Row { path: path.to_path_buf(), line, reason };
    let csv_fault =
        |e: csv::Error| fault(e.position().map_or(1, csv::Position::line), e.to_string());
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let header = reader.headers().map_err(csv_fault)?.clone();
    if header.iter().ne(COLUMNS) {
        return Err(fault(1, format!("the columns must be `{}`", COLUMNS.join(","))));
    }
    let mut predictions = Vec::new();
    for row in reader.records() {
        let row = row.map_err(csv_fault)?;
        let line = row.position().map_or(0, csv::Position::line);
        let row: Row = row.deserialize(Some(&header)).map_err(csv_fault)?;
        let prediction = Prediction::from(row);
        if prediction.logits.iter().any(|logit| !logit.is_finite()) {
            return Err(fault(line, "a logit is not a finite number".to_string()));
        }
        predictions.push(prediction);
    }
    Ok(predictions)
}

/// Reads `fold-<n>/predictions.csv` of a run directory. `k` is the number of folds where it is
/// known; else folds up to the last one found are expected.
///
/// # Errors
/// Any [`PredictionError`] of reading.
pub fn read_run(run: &Path, k: Option<usize>) -> Result<RunPredictions, PredictionError> {
    let found = folds_found(run)?;
    let Some(&last) = found.last() else {
        return Err(PredictionError::NoFolds(run.to_path_buf()));
    };
    let expected = k.unwrap_or(last + 1);
    if last >= expected {
        return Err(PredictionError::ExtraFold { fold: last, k: expected });
    }
    let (mut predictions, mut missing_folds) = (Vec::new(), Vec::new());
    for fold in 0..expected {
        let path = run.join(format!("fold-{fold}")).join(FILE_NAME);
        if !path.is_file() {
            missing_folds.push(fold);
            continue;
        }
        let of_fold = read(&path)?;
        if let Some(at) = of_fold.iter().position(|p| p.fold != fold) {
            let reason = format!("fold {} in the folder of fold {fold}", of_fold[at].fold);
            return Err(PredictionError::Row { path, line: at as u64 + 2, reason });
        }
        predictions.extend(of_fold);
    }
    if missing_folds.len() == expected {
        return Err(PredictionError::NoFolds(run.to_path_buf()));
    }
    let mut ids = BTreeSet::new();
    match predictions.iter().find(|p| !ids.insert(p.id.as_str())) {
        Some(twice) => Err(PredictionError::Twice(twice.id.clone())),
        None => Ok(RunPredictions { predictions, missing_folds }),
    }
}

/// Numbers of the folders `fold-<n>`, sorted.
fn folds_found(run: &Path) -> Result<BTreeSet<usize>, PredictionError> {
    let mut folds = BTreeSet::new();
    for item in fs::read_dir(run).map_err(file_error(run))? {
        let name = item.map_err(file_error(run))?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("fold-"));
        folds.extend(number.and_then(|n| n.parse::<u16>().ok()).map(usize::from));
    }
    Ok(folds)
}

impl From<&Prediction> for Row {
    fn from(prediction: &Prediction) -> Self {
        let [logit_normal, logit_scoliosis, logit_spondylolisthesis] = prediction.logits;
        Self {
            id: prediction.id.clone(),
            class: prediction.class,
            fold: prediction.fold,
            logit_normal,
            logit_scoliosis,
            logit_spondylolisthesis,
        }
    }
}

impl From<Row> for Prediction {
    fn from(row: Row) -> Self {
        let logits = [row.logit_normal, row.logit_scoliosis, row.logit_spondylolisthesis];
        Self { id: row.id, class: row.class, fold: row.fold, logits }
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> PredictionError {
    let path = path.to_path_buf();
    move |source| PredictionError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn prediction(id: &str, fold: usize) -> Prediction {
        let logits = [0.1, -3.4e-12, f32::MAX];
        Prediction { id: id.into(), class: Class::Scoliosis, fold, logits }
    }

    fn run(folds: &[usize]) -> TempDir {
        let dir = TempDir::new().expect("dir");
        for &fold in folds {
            let folder = dir.path().join(format!("fold-{fold}"));
            fs::create_dir(&folder).expect("folder");
            let rows =
                [prediction(&format!("a{fold}"), fold), prediction(&format!("b{fold}"), fold)];
            write(&folder.join(FILE_NAME), &rows).expect("write");
        }
        dir
    }

    #[test]
    fn a_run_is_read_back_bit_for_bit() {
        let dir = run(&[0, 1]);
        let read = read_run(dir.path(), None).expect("reads");
        assert!(read.missing_folds.is_empty());
        assert_eq!(read.predictions.len(), 4);
        assert_eq!(read.predictions[2], prediction("a1", 1));
        let text = fs::read_to_string(dir.path().join("fold-0/predictions.csv")).expect("text");
        assert_eq!(text.lines().next(), Some(COLUMNS.join(",").as_str()));
    }

    #[test]
    fn missing_folds_are_said() {
        let dir = run(&[0, 2]);
        assert_eq!(read_run(dir.path(), None).expect("reads").missing_folds, [1]);
        assert_eq!(read_run(dir.path(), Some(5)).expect("reads").missing_folds, [1, 3, 4]);
        assert!(matches!(
            read_run(dir.path(), Some(2)),
            Err(PredictionError::ExtraFold { fold: 2, k: 2 })
        ));
        fs::create_dir(dir.path().join("fold-3")).expect("an interrupted fold");
        assert_eq!(read_run(dir.path(), None).expect("reads").missing_folds, [1, 3]);
        let empty = TempDir::new().expect("dir");
        assert!(matches!(read_run(empty.path(), Some(5)), Err(PredictionError::NoFolds(_))));
    }

    #[test]
    fn faulty_rows_are_named() {
        let dir = run(&[0]);
        let path = dir.path().join("fold-0/predictions.csv");
        let header = COLUMNS.join(",");
        for (row, expected) in [
            ("b,scoliosis,0,1,2,NaN", 3),
            ("b,scoliosis,0,1,inf,2", 3),
            ("b,healthy,0,1,2,3", 3),
            ("b,scoliosis,0,1,2", 3),
            ("b,scoliosis,1,1,2,3", 3),
        ] {
            fs::write(&path, format!("{header}\na,normal,0,1,2,3\n{row}\n")).expect("write");
            match read_run(dir.path(), None) {
                Err(PredictionError::Row { line, .. }) => assert_eq!(line, expected, "{row}"),
                other => panic!("{row}: {other:?}"),
            }
        }
        fs::write(&path, format!("{header}\na,normal,0,1,2,3\na,normal,0,1,2,3\n")).expect("write");
        assert!(matches!(read_run(dir.path(), None), Err(PredictionError::Twice(_))));
    }
}
