//! From a run's held-out predictions to numbers with their uncertainty, beside controls that
//! see no picture.
//!
//! - [`prediction`]: what a network said of images it was not trained on;
//! - [`metrics`]: accuracy, per-class rates, confusion, calibration;
//! - [`interval`]: Wilson's interval of a proportion;
//! - [`calibration`]: log loss, calibration error, temperature;
//! - [`baseline`]: how far the majority class and the picture's size alone get;
//! - [`text`]: the numbers as tables for a person.

pub mod baseline;
pub mod calibration;
pub mod interval;
pub mod metrics;
pub mod prediction;
pub mod text;

use std::collections::BTreeMap;

use models::label::Class;
use serde::{Deserialize, Serialize};

use self::baseline::Baselines;
use self::interval::Proportion;
use self::metrics::{Metrics, MetricsError};
use self::prediction::{Prediction, RunPredictions};
use crate::data::folds::Folds;
use crate::data::manifest::Manifest;

/// What every evaluation ends with.
pub const STATEMENT: &str = "Accuracy alone is no reason to trust a model: compare it with the \
    controls and look at what it looks at. This is decision support, not a diagnosis.";

/// A run in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Over all held-out predictions, pooled.
    pub metrics: Metrics,
    /// Accuracy of each fold that has predictions.
    pub folds: Vec<FoldResult>,
    /// Folds that should have predictions and have none.
    pub missing_folds: Vec<usize>,
    /// Images of the data set that no fold has judged; none where no data set was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_images: Option<usize>,
    /// Accuracy by source batch; empty where no data set was given.
    pub batches: Vec<BatchResult>,
    /// Controls that see no picture; none where no data set was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baselines: Option<Baselines>,
    /// [`STATEMENT`].
    pub statement: String,
}

/// One fold's accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldResult {
    /// The fold, from 0.
    pub fold: usize,
    /// Share of its images judged right.
    pub accuracy: Proportion,
}

/// One source batch's accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchResult {
    /// The batch.
    pub batch: String,
    /// Share of its images judged right.
    pub accuracy: Proportion,
    /// Share judged right of each class that the batch has.
    pub recall: BTreeMap<Class, Proportion>,
}

/// Why predictions cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The predictions have no metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A prediction is of an image that the data set does not have.
    #[error("the data set has no image `{0}`: the run belongs to another data set")]
    UnknownImage(String),
    /// Run and data set disagree on an image's class.
    #[error("the run and the data set give `{0}` different classes")]
    OtherClass(String),
    /// Run and fold plan disagree on the fold that holds an image out.
    #[error("the run and the fold plan hold `{0}` out in different folds")]
    OtherFold(String),
}

/// Evaluates a run's pooled predictions; with its data set, also by batch and beside controls.
///
/// # Errors
/// [`EvaluateError`] when there is no prediction, or run and data set do not belong together.
pub fn evaluate(
    run: &RunPredictions,
    data: Option<(&Manifest, &Folds)>,
) -> Result<Evaluation, EvaluateError> {
    if let Some((manifest, folds)) = data {
        check(&run.predictions, manifest, folds)?;
    }
    Ok(Evaluation {
        metrics: Metrics::from_predictions(&run.predictions)?,
        folds: by_fold(&run.predictions),
        missing_folds: run.missing_folds.clone(),
        missing_images: data.map(|(m, _)| m.records().len().saturating_sub(run.predictions.len())),
        batches: data.map(|(m, _)| by_batch(&run.predictions, m)).unwrap_or_default(),
        baselines: data.map(|(m, f)| Baselines::measure(m, f)),
        statement: STATEMENT.to_string(),
    })
}

/// Every prediction must be of an image of the data set, as the plan holds it out.
fn check(
    predictions: &[Prediction],
    manifest: &Manifest,
    folds: &Folds,
) -> Result<(), EvaluateError> {
    for prediction in predictions {
        let id = || prediction.id.clone();
        let record =
            manifest.get(&prediction.id).ok_or_else(|| EvaluateError::UnknownImage(id()))?;
        if record.class != prediction.class {
            return Err(EvaluateError::OtherClass(id()));
        }
        if folds.fold_of(&prediction.id) != Some(prediction.fold) {
            return Err(EvaluateError::OtherFold(id()));
        }
    }
    Ok(())
}

fn by_fold(predictions: &[Prediction]) -> Vec<FoldResult> {
    let mut folds: BTreeMap<usize, Vec<&Prediction>> = BTreeMap::new();
    for prediction in predictions {
        folds.entry(prediction.fold).or_default().push(prediction);
    }
    folds.into_iter().map(|(fold, of)| FoldResult { fold, accuracy: share_right(&of) }).collect()
}

fn by_batch(predictions: &[Prediction], manifest: &Manifest) -> Vec<BatchResult> {
    let mut batches: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
    for prediction in predictions {
        if let Some(record) = manifest.get(&prediction.id) {
            batches.entry(&record.source_batch).or_default().push(prediction);
        }
    }
    batches
        .into_iter()
        .map(|(batch, of)| BatchResult {
            batch: batch.to_string(),
            accuracy: share_right(&of),
            recall: recall(&of),
        })
        .collect()
}

fn recall(predictions: &[&Prediction]) -> BTreeMap<Class, Proportion> {
    let mut classes: BTreeMap<Class, Vec<&Prediction>> = BTreeMap::new();
    for prediction in predictions {
        classes.entry(prediction.class).or_default().push(prediction);
    }
    classes.into_iter().map(|(class, of)| (class, share_right(&of))).collect()
}

fn share_right(predictions: &[&Prediction]) -> Proportion {
    let right = predictions.iter().filter(|p| p.predicted() == p.class).count();
    Proportion::new(right, predictions.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::manifest::Record;

    /// Thirty images of as many patients, all judged right but the two first.
    fn run_of_a_data_set() -> (Manifest, Folds, RunPredictions) {
        let record = |n: usize| {
            let class = Class::ALL[n % 3];
            Record {
                id: format!("image-{n:02}"),
                file: format!("images/{n}.png"),
                class,
                group: n.to_string(),
                age_years: None,
                sex: None,
                source_batch: ["clinical", "export"][n / 15].into(),
                native_width: 100 + 100 * class.index() as u32,
                native_height: 500,
                sha256: "0".repeat(64),
                phash: "0".repeat(64),
                duplicate_of: None,
            }
        };
        let manifest = Manifest::new((0..30).map(record).collect()).expect("manifest");
        let folds = Folds::plan(&manifest, 3, 1).expect("folds");
        let judge = |(n, record): (usize, &Record)| {
            let mut logits = [0.0; 3];
            logits[(record.class.index() + usize::from(n < 2)) % 3] = 4.0;
            let fold = folds.fold_of(&record.id).expect("planned");
            Prediction { id: record.id.clone(), class: record.class, fold, logits }
        };
        let predictions = manifest.records().iter().enumerate().map(judge).collect();
        (manifest, folds, RunPredictions { predictions, missing_folds: Vec::new() })
    }

    #[test]
    fn batches_and_controls_come_with_the_data_set() {
        let (manifest, folds, run) = run_of_a_data_set();
        let evaluation = evaluate(&run, Some((&manifest, &folds))).expect("evaluates");
        let batches: Vec<(&str, usize, usize)> = evaluation
            .batches
            .iter()
            .map(|b| (b.batch.as_str(), b.accuracy.hits, b.accuracy.of))
            .collect();
        assert_eq!(batches, [("clinical", 13, 15), ("export", 15, 15)]);
        assert_eq!(evaluation.batches[0].recall[&Class::Normal].hits, 4);
        let baselines = evaluation.baselines.expect("measured");
        assert_eq!((baselines.majority_class.hits, baselines.picture_size.hits), (10, 30));
        let text = text::text_from_evaluation(&evaluation);
        assert!(text.trim_end().ends_with(STATEMENT));
        assert!(!text.contains("INCOMPLETE"));
        assert_eq!(evaluate(&run, None).expect("evaluates").baselines, None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let (manifest, folds, mut run) = run_of_a_data_set();
        run.predictions.retain(|p| p.fold != 1);
        run.missing_folds.push(1);
        let evaluation = evaluate(&run, Some((&manifest, &folds))).expect("evaluates");
        assert_eq!(evaluation.missing_images, Some(folds.held_out(1).count()));
        let text = text::text_from_evaluation(&evaluation);
        assert!(text.contains("no predictions of fold 1"));
        assert!(text.contains("images of the data set are not judged"));
    }

    #[test]
    fn a_run_of_another_data_set_is_refused() {
        let (manifest, folds, run) = run_of_a_data_set();
        let outcome = |change: fn(&mut Prediction)| {
            let mut changed = run.clone();
            change(&mut changed.predictions[4]);
            evaluate(&changed, Some((&manifest, &folds))).expect_err("must be refused")
        };
        let unknown = outcome(|p| p.id = "image-99".into());
        assert!(matches!(unknown, EvaluateError::UnknownImage(_)));
        let class = outcome(|p| p.class = Class::Spondylolisthesis);
        assert!(matches!(class, EvaluateError::OtherClass(_)));
        let fold = outcome(|p| p.fold = (p.fold + 1) % 3);
        assert!(matches!(fold, EvaluateError::OtherFold(_)));
    }
}
