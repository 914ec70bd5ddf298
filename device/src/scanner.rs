//! One bundle at work: from a radiograph to a judgement, and the self-test.

use std::path::Path;
use std::time::Instant;

use models::bundle::{Bundle, BundleError, Expected, Precision};
use models::cam::{self, Cam};
use models::head::HeadError;
use models::label::{COUNT, Class};
use models::logits::likeliest;
use models::preprocess::{Letterbox, input_from_radiograph};
use models::radiograph::{Radiograph, RadiographError};

use crate::record::{BundleRef, CamRecord, Latency, ScanRecord, Verdict};
use crate::runtime::engine::{Engine, EngineError, EngineOptions};
use crate::{gate, verdict};

/// A verified bundle with its network loaded.
#[derive(Debug)]
pub struct Scanner {
    bundle: Bundle,
    engine: Engine,
}

/// What a bundle says about one scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What to do with the scan.
    pub verdict: Verdict,
    /// The likeliest class.
    pub class: Class,
    /// Calibrated probabilities in class order.
    pub probabilities: [f32; COUNT],
    /// Raw outputs in class order.
    pub logits: [f32; COUNT],
    /// Why, in plain sentences.
    pub reasons: Vec<String>,
    /// The map of the likeliest class, where it may be shown.
    pub cam: Option<Cam>,
    /// Where the picture lies inside the map.
    pub frame: Letterbox,
    /// Wall time; `decode` is left to who decoded.
    pub latency: Latency,
}

/// Why a scanner cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ScannerError {
    /// The bundle is unusable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The network is unusable.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The captured layer has another shape than the bundle says.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The golden picture does not decode.
    #[error("golden/input.png: {0}")]
    Golden(#[from] RadiographError),
    /// The self-test's result is not the recorded one.
    #[error(
        "self-test failed: {what} is {found}, expected {expected}; do not use this bundle here"
    )]
    SelfTest {
        /// What differs.
        what: &'static str,
        /// What this machine computes.
        found: String,
        /// What the bundle records.
        expected: String,
    },
}

impl Scanner {
    /// Verifies a bundle and loads its network, to run as fast as this machine can.
    ///
    /// # Errors
    /// As [`Scanner::load_with`].
    pub fn load(dir: &Path) -> Result<Self, ScannerError> {
        Self::load_with(dir, EngineOptions::default())
    }

    /// Verifies a bundle and loads its network; the bundle does not keep the model's bytes, which
    /// the loaded network replaces.
    ///
    /// # Errors
    /// When a byte of the bundle differs or the network does not load.
    pub fn load_with(dir: &Path, options: EngineOptions) -> Result<Self, ScannerError> {
        let mut bundle = Bundle::load(dir)?;
        let model = std::mem::take(&mut bundle.model);
        let engine = Engine::load(model, bundle.head.hidden_layers(), options)?;
        Ok(Self { bundle, engine })
    }

    /// Loads the network of a bundle in memory.
    ///
    /// # Errors
    /// When the network does not load.
    pub fn new(bundle: Bundle, options: EngineOptions) -> Result<Self, ScannerError> {
        let engine = Engine::load(&bundle.model, bundle.head.hidden_layers(), options)?;
        Ok(Self { bundle, engine })
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The bundle alone.
    pub fn into_bundle(self) -> Bundle {
        self.bundle
    }

    /// The network.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Judges a radiograph.
    ///
    /// # Errors
    /// When the network fails; an unusable picture or map is a verdict, not an error.
    pub fn scan(&self, scan: &Radiograph) -> Result<Judgement, ScannerError> {
        let start = Instant::now();
        let input = input_from_radiograph(scan);
        let preprocess = milliseconds_since(start);
        let start = Instant::now();
        let activations = self.engine.run(&input)?;
        let inference = milliseconds_since(start);
        let start = Instant::now();
        let captured = activations.captured();
        // Logits of the plain head have the same bits everywhere; the graph's own, whose sums
        // the runtime may order otherwise, prove that map and score belong together.
        let logits = self.bundle.head.logits(captured)?;
        let class = likeliest(&logits);
        let graph_logit = activations.logits[class.index()];
        let cam = cam::grad_cam(&self.bundle.head, class, captured, graph_logit);
        let latency =
            Latency { decode: 0.0, preprocess, inference, cam: milliseconds_since(start) };
        let mut concerns = gate::concerns(&input);
        concerns.extend(self.unfamiliar(&activations.features));
        concerns.extend(cam.as_ref().err().map(|e| format!("No heat map can be shown: {e}.")));
        let decided = verdict::decide(&self.bundle.card.decision, &logits, concerns);
        Ok(Judgement {
            verdict: decided.verdict,
            class,
            probabilities: decided.probabilities,
            logits,
            reasons: decided.reasons,
            cam: cam.ok(),
            frame: input.frame,
            latency,
        })
    }

    /// The judgement of a scan as a line of results, without an overlay.
    pub fn record(&self, file: String, scan: &Radiograph, judgement: &Judgement) -> ScanRecord {
        let cam = judgement.cam.as_ref().map(|map| {
            let [x, y] = cam::peak(&map.heat);
            CamRecord {
                layer: self.bundle.card.cam.layer.clone(),
                peak_xy: judgement.frame.source_pixel(x, y, scan.width(), scan.height()),
                method: "grad-cam".into(),
                digest: cam::digest(&map.heat),
            }
        });
        ScanRecord {
            file,
            verdict: judgement.verdict,
            class: judgement.class,
            probabilities: judgement.probabilities.into(),
            logits: judgement.logits,
            reasons: judgement.reasons.clone(),
            cam,
            overlay: None,
            latency_ms: judgement.latency,
            bundle: BundleRef {
                name: self.bundle.card.name.clone(),
                digest: self.bundle.digest.clone(),
            },
        }
    }

    /// A concern when the pooled features lie far from those of the pictures the model knows.
    fn unfamiliar(&self, features: &[f32]) -> Option<String> {
        let limit = f64::from(self.bundle.card.decision.outlier_above);
        let distance = self.bundle.outliers.distance(&self.bundle.head.pooled(features));
        // A distance that is not a number is unfamiliar too.
        let familiar = distance <= limit;
        (!familiar).then(|| {
            format!(
                "The picture is unlike those the model was trained on (distance {distance:.1}, \
                 limit {limit:.1})."
            )
        })
    }

    /// Judges the golden picture and compares: int8 bundles bit for bit on every processor,
    /// float bundles within a thousandth, since their sums are ordered by the processor's kernels.
    ///
    /// # Errors
    /// [`ScannerError::SelfTest`] names what differs.
    pub fn self_test(&self) -> Result<(), ScannerError> {
        let found = self.golden_result()?;
        let expected = &self.bundle.golden.expected;
        let exact = self.bundle.card.precision == Precision::Int8;
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs().max(1.0);
        let same_logits = if exact {
            found.logits.map(f32::to_bits) == expected.logits.map(f32::to_bits)
        } else {
            found.logits.iter().zip(&expected.logits).all(near)
        };
        let differs = |what, found: String, expected: String| {
            Err(ScannerError::SelfTest { what, found, expected })
        };
        if !same_logits {
            return differs(
                "logits",
                format!("{:?}", found.logits),
                format!("{:?}", expected.logits),
            );
        }
        if found.verdict != expected.verdict {
            return differs("verdict", found.verdict, expected.verdict.clone());
        }
        if exact && found.heat_digest != expected.heat_digest {
            return differs("heat map", found.heat_digest, expected.heat_digest.clone());
        }
        Ok(())
    }

    /// What this machine says of the golden picture.
    ///
    /// # Errors
    /// When the picture does not decode or the network fails.
    pub fn golden_result(&self) -> Result<Expected, ScannerError> {
        let judgement = self.scan(&Radiograph::decode(&self.bundle.golden.input)?)?;
        Ok(Expected {
            logits: judgement.logits,
            verdict: judgement.verdict.name().to_string(),
            heat_digest: judgement.cam.map_or_else(String::new, |c| cam::digest(&c.heat)),
        })
    }
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
