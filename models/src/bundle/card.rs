//! The card: what a model is, how it was made, how well it does, how it decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BundleError, CARD_FILE};
use crate::arch::{CamShape, Kind};
use crate::label::Class;
use crate::preprocess;

/// Version of the bundle's layout.
pub const FORMAT: u32 = 1;

/// `bundle.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Version of the bundle's layout, [`FORMAT`].
    pub format: u32,
    /// Name of the model: the bundle's folder.
    pub name: String,
    /// The network.
    pub architecture: Kind,
    /// How it was trained: random, feature-extraction or fine-tune.
    pub regime: String,
    /// What it may be used for.
    pub intended_use: String,
    /// Numbers the network computes with.
    pub precision: Precision,
    /// Classes in the order of the logits.
    pub classes: Vec<Class>,
    /// What the network is fed.
    pub input: InputRule,
    /// The captured layer.
    pub cam: CamLayer,
    /// How it was quantized, for int8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// How logits become a verdict.
    pub decision: Decision,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What was measured.
    pub results: Results,
    /// Whose work it builds on.
    pub attributions: Vec<Attribution>,
    /// SHA-256 of every other file of the bundle but the card's checksum.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Numbers a network computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    Float32,
    /// 8-bit integers in every convolution, floats behind the captured layer.
    Int8,
}

/// What the network is fed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRule {
    /// Height and width.
    pub side: u32,
    /// Channels.
    pub channels: u32,
    /// [`preprocess::SCHEME`] at the time of training.
    pub scheme: String,
    /// Mean subtracted from luminance 0 to 1.
    pub mean: f32,
    /// Deviation divided by.
    pub std: f32,
}

impl Default for InputRule {
    fn default() -> Self {
        Self {
            side: preprocess::SIDE,
            channels: 1,
            scheme: preprocess::SCHEME.into(),
            mean: preprocess::MEAN,
            std: preprocess::STD,
        }
    }
}

/// The captured layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CamLayer {
    /// Its name in the architecture.
    pub layer: String,
    /// Shape of its output.
    pub shape: CamShape,
}

/// How a network was quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// Scheme, in words.
    pub scheme: String,
    /// How activation ranges were chosen.
    pub calibration: String,
    /// Images the ranges were chosen on, training folds only.
    pub calibration_images: usize,
}

/// How logits become a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Logits are divided by it before softmax (Guo et al. 2017, arXiv 1706.04599).
    pub temperature: f32,
    /// Smallest probability of all findings together that is called abnormal.
    pub abnormal_at: f32,
    /// Largest class probability below which a human is asked.
    pub refer_below: f32,
    /// Distance from the pictures the model knows above which a human is asked.
    pub outlier_above: f32,
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The data set, in words.
    pub dataset: String,
    /// Digest of its manifest.
    pub dataset_digest: String,
    /// Digest of the fold plan.
    pub folds_digest: String,
    /// The fold that training and calibration did not see.
    pub held_out_fold: usize,
    /// Images trained on.
    pub training_images: usize,
    /// SHA-256 of the weights that training started from, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained_sha256: Option<String>,
    /// Seed of initialisation, order and augmentation.
    pub seed: u64,
    /// How it was trained, in words.
    pub training: String,
    /// Source revision of this program.
    pub source_revision: String,
    /// Versions of the tools.
    pub tools: BTreeMap<String, String>,
}

/// What was measured, on images that training did not see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Which images, in words.
    pub measured_on: String,
    /// Images judged.
    pub images: usize,
    /// Images judged right.
    pub correct: usize,
    /// Share judged right.
    pub accuracy: f64,
    /// Wilson 95 % interval of it.
    pub interval: [f64; 2],
    /// Mean of the classes' recalls.
    pub balanced_accuracy: f64,
    /// Accuracy of controls that see no picture, in the same folds.
    pub controls: BTreeMap<String, f64>,
    /// Limits a user must know.
    pub limits: String,
}

/// Whose work a model builds on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    /// What was used.
    pub work: String,
    /// Its licence.
    pub licence: String,
}

impl Card {
    /// Parses and checks a card.
    ///
    /// # Errors
    /// When it does not parse or was made for another contract than this program's.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let parse_error =
            |source: toml::de::Error| BundleError::Parse { file: CARD_FILE, source: source.into() };
        let version: Version = toml::from_slice(bytes).map_err(parse_error)?;
        if version.format != FORMAT {
            return Err(BundleError::Format { found: version.format });
        }
        let card: Card = toml::from_slice(bytes).map_err(parse_error)?;
        card.check()?;
        Ok(card)
    }

    fn check(&self) -> Result<(), BundleError> {
        if self.classes != Class::ALL {
            return Err(BundleError::Contract("the classes have another order".into()));
        }
        if self.input != InputRule::default() {
            return Err(BundleError::Contract(format!(
                "the model was trained with preprocessing `{}`, this program does `{}`",
                self.input.scheme,
                preprocess::SCHEME
            )));
        }
        let Decision { temperature, abnormal_at, refer_below, outlier_above } = self.decision;
        let shares = [abnormal_at, refer_below].iter().all(|v| (0.0..=1.0).contains(v));
        if !(shares && temperature > 0.0 && temperature.is_finite() && outlier_above > 0.0) {
            return Err(BundleError::Contract("the decision thresholds are out of range".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::head::Head;

    /// A card for a head of any shape.
    pub(crate) fn card(head: &Head) -> Card {
        Card {
            format: FORMAT,
            name: "test".into(),
            architecture: Kind::ALL[0],
            regime: "random".into(),
            intended_use: "tests".into(),
            precision: Precision::Float32,
            classes: Class::ALL.to_vec(),
            input: InputRule::default(),
            cam: CamLayer { layer: "relu".into(), shape: head.shape },
            quantization: None,
            decision: Decision {
                temperature: 1.5,
                abnormal_at: 0.5,
                refer_below: 0.6,
                outlier_above: 9.0,
            },
            provenance: Provenance {
                dataset: "none".into(),
                dataset_digest: String::new(),
                folds_digest: String::new(),
                held_out_fold: 0,
                training_images: 0,
                pretrained_sha256: None,
                seed: 1,
                training: "none".into(),
                source_revision: "test".into(),
                tools: BTreeMap::new(),
            },
            results: Results {
                measured_on: "nothing".into(),
                images: 0,
                correct: 0,
                accuracy: 0.0,
                interval: [0.0, 1.0],
                balanced_accuracy: 0.0,
                controls: BTreeMap::new(),
                limits: "untrained".into(),
            },
            attributions: vec![Attribution { work: "none".into(), licence: "MIT".into() }],
            files: BTreeMap::new(),
        }
    }

    #[test]
    fn another_contract_is_refused() {
        let head = crate::head::tests::small();
        let refused = |change: fn(&mut Card)| {
            let mut card = card(&head);
            change(&mut card);
            let text = toml::to_string(&card).expect("encodes");
            Card::parse(text.as_bytes()).expect_err("must be refused").to_string()
        };
        assert!(refused(|c| c.format = 2).contains("format 2"));
        assert!(refused(|c| c.classes.reverse()).contains("order"));
        assert!(refused(|c| c.input.mean = 0.5).contains("preprocessing"));
        assert!(refused(|c| c.decision.temperature = 0.0).contains("thresholds"));
    }
}
