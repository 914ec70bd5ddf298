//! An evaluation as tables for a person.

use models::label::Class;

use super::Evaluation;
use super::baseline::NEIGHBOURS;
use super::interval::Proportion;
use super::metrics::Metrics;

/// The whole evaluation, ending with its statement.
pub fn text_from_evaluation(evaluation: &Evaluation) -> String {
    let mut text = warnings(evaluation);
    text += &summary(&evaluation.metrics);
    text += &confusion(&evaluation.metrics);
    text += &classes(&evaluation.metrics);
    text += "\nby fold\n";
    for result in &evaluation.folds {
        text += &format!("  {:<18}{}\n", result.fold, share(&result.accuracy));
    }
    text += &batches(evaluation);
    text += &controls(evaluation);
    text + &format!("\n{}\n", evaluation.statement)
}

/// What is missing comes first: it changes the meaning of everything after it.
fn warnings(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    if !evaluation.missing_folds.is_empty() {
        let folds: Vec<String> = evaluation.missing_folds.iter().map(usize::to_string).collect();
        text += &format!("INCOMPLETE: no predictions of fold {}\n", folds.join(", "));
    }
    if let Some(missing) = evaluation.missing_images.filter(|&n| n > 0) {
        text += &format!("INCOMPLETE: {missing} images of the data set are not judged\n");
    }
    text
}

fn summary(metrics: &Metrics) -> String {
    let fitted = &metrics.temperature;
    let bound = if fitted.at_bound { " (at the search's bound: no best value)" } else { "" };
    format!(
        "{} held-out images, pooled\n\
         accuracy            {}\n\
         balanced accuracy   {:>5.1} %\n\
         log loss            {:>7.3}    at the fitted temperature {:.3}\n\
         calibration error   {:>7.3}    at the fitted temperature {:.3}\n\
         temperature         {:>7.3}{bound}\n",
        metrics.accuracy.of,
        share(&metrics.accuracy),
        100.0 * metrics.balanced_accuracy,
        metrics.log_loss,
        fitted.log_loss,
        metrics.expected_calibration_error,
        fitted.expected_calibration_error,
        fitted.value,
    )
}

fn confusion(metrics: &Metrics) -> String {
    let heads: String = Class::ALL.iter().map(|class| format!("{class:>19}")).collect();
    let mut text = format!("\ntrue \\ judged      {heads}\n");
    for class in Class::ALL {
        let row = metrics.confusion[class.index()];
        let cells: String = row.iter().map(|n| format!("{n:>19}")).collect();
        text += &format!("{class:<19}{cells}\n");
    }
    text
}

fn classes(metrics: &Metrics) -> String {
    let rate = |value: Option<f64>| match value {
        Some(value) => format!("{:>11.1} %", 100.0 * value),
        None => format!("{:>13}", "-"),
    };
    let mut text = format!("\n{:<19}{:>13}{:>13}{:>13}\n", "class", "precision", "recall", "F1");
    for of in &metrics.classes {
        let rates = [of.precision, of.recall, of.f1].map(rate).concat();
        text += &format!("{:<19}{rates}\n", of.class);
    }
    text
}

fn batches(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    if !evaluation.batches.is_empty() {
        text += "\nby source batch, and by class within it\n";
    }
    for result in &evaluation.batches {
        text += &format!("  {:<18}{}\n", result.batch, share(&result.accuracy));
        for (class, recall) in &result.recall {
            text += &format!("    {class:<18}{}\n", share(recall));
        }
    }
    text
}

fn controls(evaluation: &Evaluation) -> String {
    let Some(baselines) = &evaluation.baselines else {
        return "\ncontrols: not measured, for want of the data set (--data)\n".to_string();
    };
    format!(
        "\ncontrols that see no picture, {} images\n\
         \x20 majority class    {}\n\
         \x20 picture size      {}   {NEIGHBOURS} nearest neighbours in width, height, aspect\n",
        baselines.majority_class.of,
        share(&baselines.majority_class),
        share(&baselines.picture_size),
    )
}

/// `93.0 %  (89.5 to 95.4)  267/287`.
fn share(share: &Proportion) -> String {
    let [value, low, high] = [share.value, share.low, share.high].map(|v| 100.0 * v);
    format!("{value:>5.1} %  ({low:.1} to {high:.1})  {}/{}", share.hits, share.of)
}
