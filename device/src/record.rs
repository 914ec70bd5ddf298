//! The lines of `results.jsonl`: one JSON object per file and bundle.
//!
//! Other programs read these lines, so names, order and units of the fields are a contract: a
//! field is added at the end of its object, never renamed.

use serde::{Deserialize, Serialize};

use models::label::Class;

/// One line of `results.jsonl`: a judged scan, or a file that could not be judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// The file was judged.
    Scan(Box<ScanRecord>),
    /// The file could not be judged.
    Failed(FailedRecord),
}

/// What one bundle says about one scan, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanRecord {
    /// The file as named on the command line or found in its folder.
    pub file: String,
    /// What to do with the scan.
    pub verdict: Verdict,
    /// The likeliest class, also when the verdict is [`Verdict::Refer`].
    pub class: Class,
    /// Calibrated probability of each class.
    pub probabilities: Probabilities,
    /// The network's raw outputs, in the order of [`Class::ALL`].
    pub logits: [f32; 3],
    /// Plain sentences that led to the verdict; may be empty.
    pub reasons: Vec<String>,
    /// Where the evidence for `class` lies; none when the network gave no usable map.
    pub cam: Option<CamRecord>,
    /// Picture of the scan under its heat map, relative to `results.jsonl`.
    pub overlay: Option<String>,
    /// Wall time spent on this scan.
    pub latency_ms: Latency,
    /// The model that judged.
    pub bundle: BundleRef,
}

/// A file that could not be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRecord {
    /// The file as named on the command line or found in its folder.
    pub file: String,
    /// Why, in one sentence.
    pub error: String,
}

/// What to do with a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No finding, and the model is sure enough to say so.
    Normal,
    /// A finding, and the model is sure enough to say so.
    Abnormal,
    /// The model may not or cannot judge this scan: a human must.
    Refer,
}

impl Verdict {
    /// The word used in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Normal => "normal",
            Verdict::Abnormal => "abnormal",
            Verdict::Refer => "refer",
        }
    }
}

/// A probability for each class, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probabilities {
    /// Of [`Class::Normal`].
    pub normal: f32,
    /// Of [`Class::Scoliosis`].
    pub scoliosis: f32,
    /// Of [`Class::Spondylolisthesis`].
    pub spondylolisthesis: f32,
}

impl Probabilities {
    /// The probability of one class.
    pub fn of(&self, class: Class) -> f32 {
        match class {
            Class::Normal => self.normal,
            Class::Scoliosis => self.scoliosis,
            Class::Spondylolisthesis => self.spondylolisthesis,
        }
    }
}

/// From values in the order of [`Class::ALL`].
impl From<[f32; 3]> for Probabilities {
    fn from([normal, scoliosis, spondylolisthesis]: [f32; 3]) -> Self {
        Self { normal, scoliosis, spondylolisthesis }
    }
}

/// A class activation map, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CamRecord {
    /// The layer whose activations were weighed.
    pub layer: String,
    /// The hottest point as `[x, y]` in pixels of the scan, counted from its upper left corner.
    pub peak_xy: [u32; 2],
    /// How the map was made: `grad-cam`.
    pub method: String,
    /// SHA-256 of the map in hexadecimal digits, so that two machines can compare theirs.
    pub digest: String,
}

/// Wall time of each step in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// From the file's bytes to luminance.
    pub decode: f64,
    /// From luminance to the network's input.
    pub preprocess: f64,
    /// From the input to logits.
    pub inference: f64,
    /// From the captured layer to the map.
    pub cam: f64,
}

impl Latency {
    /// All steps together, in milliseconds.
    pub fn total(&self) -> f64 {
        self.decode + self.preprocess + self.inference + self.cam
    }
}

/// Which model judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BundleRef {
    /// The bundle's name.
    pub name: String,
    /// SHA-256 of the bundle's manifest in hexadecimal digits.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan() -> ScanRecord {
        ScanRecord {
            file: "inbox/a.png".into(),
            verdict: Verdict::Abnormal,
            class: Class::Scoliosis,
            probabilities: [0.0625, 0.875, 0.0625].into(),
            logits: [-1.5, 2.25, -1.5],
            reasons: vec!["sure".into()],
            cam: Some(CamRecord {
                layer: "layer4".into(),
                peak_xy: [12, 34],
                method: "grad-cam".into(),
                digest: "ab".into(),
            }),
            overlay: Some("a.overlay.png".into()),
            latency_ms: Latency { decode: 1.5, preprocess: 2.0, inference: 30.0, cam: 0.5 },
            bundle: BundleRef { name: "resnet50".into(), digest: "cd".into() },
        }
    }

    #[test]
    fn a_scan_line_is_the_contract() {
        let line = serde_json::to_string(&Record::Scan(Box::new(scan()))).expect("serialise");
        assert_eq!(
            line,
            concat!(
                r#"{"file":"inbox/a.png","verdict":"abnormal","class":"scoliosis","#,
                r#""probabilities":{"normal":0.0625,"scoliosis":0.875,"#,
                r#""spondylolisthesis":0.0625},"#,
                r#""logits":[-1.5,2.25,-1.5],"reasons":["sure"],"#,
                r#""cam":{"layer":"layer4","peak_xy":[12,34],"method":"grad-cam","digest":"ab"},"#,
                r#""overlay":"a.overlay.png","#,
                r#""latency_ms":{"decode":1.5,"preprocess":2.0,"inference":30.0,"cam":0.5},"#,
                r#""bundle":{"name":"resnet50","digest":"cd"}}"#,
            )
        );
    }

    #[test]
    fn a_failed_line_is_the_contract() {
        let failed = FailedRecord { file: "b.png".into(), error: "the file is empty".into() };
        let line = serde_json::to_string(&Record::Failed(failed)).expect("serialise");
        assert_eq!(line, r#"{"file":"b.png","error":"the file is empty"}"#);
    }

    #[test]
    fn both_kinds_of_line_are_read_back_as_what_they_are() {
        let without_map = ScanRecord { cam: None, overlay: None, ..scan() };
        let failed = FailedRecord { file: "b.png".into(), error: "damaged".into() };
        for record in [
            Record::Scan(Box::new(scan())),
            Record::Scan(Box::new(without_map)),
            Record::Failed(failed),
        ] {
            let line = serde_json::to_string(&record).expect("serialise");
            assert_eq!(serde_json::from_str::<Record>(&line).expect("read"), record);
        }
        assert!(serde_json::from_str::<Record>(r#"{"file":"c.png"}"#).is_err());
    }

    #[test]
    fn verdicts_are_written_in_lower_case() {
        let names = [Verdict::Normal, Verdict::Abnormal, Verdict::Refer]
            .map(|verdict| serde_json::to_string(&verdict).expect("serialise"));
        assert_eq!(names, ["\"normal\"", "\"abnormal\"", "\"refer\""]);
    }

    #[test]
    fn probabilities_follow_the_order_of_the_classes() {
        let probabilities = Probabilities::from([0.1, 0.2, 0.7]);
        assert_eq!(Class::ALL.map(|class| probabilities.of(class)), [0.1, 0.2, 0.7]);
    }
}
