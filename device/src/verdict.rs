//! From logits to a verdict with its reasons, in plain sentences.

use models::bundle::Decision;
use models::label::{COUNT, Class};
use models::logits;

use crate::record::Verdict;

/// What to do with a scan, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What to do.
    pub verdict: Verdict,
    /// The likeliest class.
    pub class: Class,
    /// Calibrated probabilities in class order.
    pub probabilities: [f32; COUNT],
    /// Why, most important first.
    pub reasons: Vec<String>,
}

/// Decides. `concerns` are reasons found elsewhere why the model's opinion must not count; any of
/// them refers the scan to a human.
pub fn decide(decision: &Decision, logits: &[f32; COUNT], concerns: Vec<String>) -> Decided {
    let class = logits::likeliest(logits);
    let probabilities =
        logits::probabilities(logits, decision.temperature.into()).map(|share| share as f32);
    let certain = probabilities[class.index()];
    let abnormal = 1.0 - probabilities[Class::Normal.index()];
    let mut reasons = concerns;
    if !logits.iter().all(|l| l.is_finite()) {
        reasons.push("The network's scores are not numbers.".into());
    } else if certain < decision.refer_below {
        reasons.push(format!(
            "The likeliest class, {class}, has only {}; below {} a human decides.",
            percent(certain),
            percent(decision.refer_below)
        ));
    }
    if !reasons.is_empty() {
        return Decided { verdict: Verdict::Refer, class, probabilities, reasons };
    }
    let threshold = percent(decision.abnormal_at);
    let flagged = abnormal >= decision.abnormal_at;
    reasons.push(if flagged {
        format!(
            "Findings together have {}, at or above the {threshold} that flags.",
            percent(abnormal)
        )
    } else {
        format!("Findings together have {}, below the {threshold} that flags.", percent(abnormal))
    });
    let verdict = if flagged { Verdict::Abnormal } else { Verdict::Normal };
    Decided { verdict, class, probabilities, reasons }
}

fn percent(share: f32) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECISION: Decision =
        Decision { temperature: 1.0, abnormal_at: 0.5, refer_below: 0.6, outlier_above: 4.0 };

    #[test]
    fn sure_logits_decide() {
        let normal = decide(&DECISION, &[5.0, 0.0, 0.0], vec![]);
        assert_eq!((normal.verdict, normal.class), (Verdict::Normal, Class::Normal));
        let flagged = decide(&DECISION, &[0.0, 0.0, 5.0], vec![]);
        assert_eq!((flagged.verdict, flagged.class), (Verdict::Abnormal, Class::Spondylolisthesis));
        assert!(flagged.reasons[0].contains("flags"));
    }

    #[test]
    fn doubt_and_concerns_refer() {
        assert_eq!(decide(&DECISION, &[1.0, 1.0, 0.9], vec![]).verdict, Verdict::Refer);
        assert_eq!(decide(&DECISION, &[f32::NAN, 1.0, 0.9], vec![]).verdict, Verdict::Refer);
        let concerned = decide(&DECISION, &[9.0, 0.0, 0.0], vec!["The cat sat on it.".into()]);
        assert_eq!(concerned.verdict, Verdict::Refer);
        assert_eq!(concerned.reasons, ["The cat sat on it."]);
    }
}
