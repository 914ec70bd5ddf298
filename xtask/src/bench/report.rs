//! What a comparison found, as Markdown for people and JSON for programs.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::contender::Contender;
use super::stats::Spread;
use crate::paths::Paths;
use crate::process;

/// Processor time, as a share of all, above which a waiting contender disturbs the others.
const DISTURBING: f64 = 0.01;
/// Load average above which something else runs.
const BUSY: f64 = 0.5;

/// One network at one number of threads.
#[derive(Debug)]
pub struct Comparison {
    /// Name of the bundle.
    pub model: String,
    /// Threads of an inference.
    pub threads: usize,
    /// All contenders.
    pub rows: Vec<Row>,
}

/// A contender and its figures, or why it has none.
#[derive(Debug)]
pub struct Row {
    /// Who.
    pub contender: Contender,
    /// What was measured, or why nothing was.
    pub outcome: Result<Figures, String>,
}

/// What was measured of a contender.
#[derive(Debug)]
pub struct Figures {
    /// The runtime with its version.
    pub runtime: String,
    /// Wall time of an inference, ms.
    pub latency: Spread,
    /// Wall time of the heat map behind an inference, ms.
    pub map: Option<Spread>,
    /// From the start of a process to its first result, s.
    pub cold_start: Spread,
    /// What package or board took for an inference, J.
    pub energy: Option<Spread>,
    /// Most resident memory, bytes.
    pub peak_memory: Option<u64>,
    /// Size of the model's files, bytes.
    pub model_bytes: u64,
    /// Processor time used while others ran, as a share of the wall time of all turns.
    pub idle_share: f64,
    /// All latencies in the order they were measured, ms.
    pub inferences: Vec<f64>,
    /// Answer for the picture.
    pub logits: Vec<f64>,
}

/// The machine, as far as it explains figures.
#[derive(Debug)]
pub struct Machine {
    processor: String,
    cores: usize,
    governor: Option<String>,
    /// Load average of the minute before the measurement.
    load: Option<f64>,
    revision: String,
}

impl Machine {
    /// This machine, now.
    pub fn describe(paths: &Paths) -> Machine {
        let read = |file: &str| fs::read_to_string(file).ok();
        let text = |file: &str| read(file).map(|t| t.trim_matches(['\0', '\n']).to_owned());
        let named = read("/proc/cpuinfo").and_then(|info| field(&info, "model name"));
        let board = text("/sys/firmware/devicetree/base/model");
        let processor = board.or(named).unwrap_or_else(|| "unknown processor".into());
        let mut git = Command::new("git");
        git.args(["describe", "--always", "--dirty", "--abbrev=12"]).current_dir(&paths.root);
        Machine {
            processor: format!("{processor}, {}", std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load: read("/proc/loadavg").and_then(|l| l.split(' ').next()?.parse().ok()),
            revision: process::output(&mut git).unwrap_or_else(|| "unknown".into()),
        }
    }
}

/// Value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = pairs.filter(|(key, _)| key.trim() == name);
    Some(values.next()?.1.trim().to_owned())
}

impl Comparison {
    /// Figures of those who ran.
    pub fn figures(&self) -> impl Iterator<Item = (Contender, &Figures)> {
        self.rows.iter().filter_map(|row| Some((row.contender, row.outcome.as_ref().ok()?)))
    }

    fn ours(&self) -> Option<&Figures> {
        self.figures().find(|(contender, _)| *contender == Contender::Ours).map(|(_, f)| f)
    }

    /// The peer with the smallest median latency.
    fn fastest_peer(&self) -> Option<(Contender, &Figures)> {
        let peers = self.figures().filter(|(contender, _)| *contender != Contender::Ours);
        peers.min_by(|a, b| a.1.latency.median.total_cmp(&b.1.latency.median))
    }

    /// Our median latency divided by the fastest peer's, which is named; below 1 we are faster.
    fn ratio(&self) -> Option<(f64, Contender)> {
        let (peer, figures) = self.fastest_peer()?;
        Some((self.ours()?.latency.median / figures.latency.median, peer))
    }

    /// Median time of a heat map as a share of the median inference.
    fn map_share(&self) -> Option<f64> {
        let ours = self.ours()?;
        Some(ours.map?.median / ours.latency.median)
    }
}

/// The machine, then a table for each comparison.
pub fn markdown(machine: &Machine, comparisons: &[Comparison]) -> String {
    let mut text = format!(
        "# Inference on this machine\n\n{}, {} cores{}; revision {}.\nOne 224x224 picture at a \
         time. Latencies are wall times in ms; `ours / it` below 1 means that Spinesight is \
         faster.\nPeak memory and cold start of the peers include their Python; cold start is \
         from process start to first result.\n",
        machine.processor,
        machine.cores,
        machine.governor.as_ref().map(|g| format!(", governor {g}")).unwrap_or_default(),
        machine.revision,
    );
    if let Some(load) = machine.load.filter(|load| *load > BUSY) {
        let _ = write!(
            text,
            "\n**The machine was busy (load average {load:.1} at the start): these latencies are \
             too long, and ratios less certain.**\n"
        );
    }
    comparisons.iter().for_each(|comparison| text += &section(comparison));
    text
}

fn section(comparison: &Comparison) -> String {
    let threads = comparison.threads;
    let plural = if threads == 1 { "" } else { "s" };
    let mut text = format!(
        "\n## {}, {threads} thread{plural}\n\n\
         | contender | median | min | p10 | p90 | ours / it | peak MB | model MB | cold start s | J |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        comparison.model
    );
    let mut notes = Vec::new();
    for row in &comparison.rows {
        text += &line(row, comparison.ours());
        match &row.outcome {
            Err(reason) => notes.push(format!("{}: {}.", row.contender.title(), one_line(reason))),
            Ok(figures) if figures.idle_share > DISTURBING => notes.push(format!(
                "{} used {:.1} % of a core while others ran.",
                row.contender.title(),
                figures.idle_share * 100.0
            )),
            Ok(_) => {}
        }
    }
    text.push('\n');
    if let Some((ratio, peer)) = comparison.ratio() {
        let _ = writeln!(text, "- Ours / fastest peer: {ratio:.2} ({}).", peer.title());
    }
    if let Some(share) = comparison.map_share() {
        let _ = writeln!(
            text,
            "- Logits and Grad-CAM behind the network: {:.2} % of our inference.",
            share * 100.0
        );
    }
    notes.iter().for_each(|note| text += &format!("- {note}\n"));
    text
}

fn line(row: &Row, ours: Option<&Figures>) -> String {
    let Ok(figures) = &row.outcome else {
        let title = row.contender.title();
        return format!("| {title} | not available | | | | | | | | |\n");
    };
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let Spread { min, p10, median, p90 } = figures.latency;
    let name = match row.contender {
        Contender::Ours => format!("**{}**", row.contender.title()),
        _ => row.contender.title().to_owned(),
    };
    let ratio =
        ours.filter(|_| row.contender != Contender::Ours).map(|o| o.latency.median / median);
    format!(
        "| {name} | {median:.1} | {min:.1} | {p10:.1} | {p90:.1} | {} | {} | {:.1} | {:.2} | {} |\n",
        decimals(ratio, 2),
        decimals(figures.peak_memory.map(megabytes), 0),
        megabytes(figures.model_bytes),
        figures.cold_start.median,
        decimals(figures.energy.map(|energy| energy.median), 2),
    )
}

fn decimals(value: Option<f64>, count: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.count$}"))
}

/// A reason without line breaks and table bars, cut where it gets long.
fn one_line(reason: &str) -> String {
    let words = reason.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
    let short: String = words.chars().take(200).collect();
    if short.len() < words.len() { format!("{short} ...") } else { short }
}

/// Everything that was measured.
pub fn json(machine: &Machine, comparisons: &[Comparison]) -> Value {
    let rows =
        |comparison: &Comparison| -> Vec<Value> { comparison.rows.iter().map(row).collect() };
    let comparison = |c: &Comparison| {
        json!({
            "model": c.model,
            "threads": c.threads,
            "ours_over_fastest_peer": c.ratio().map(|(ratio, _)| ratio),
            "fastest_peer": c.fastest_peer().map(|(peer, _)| peer.key()),
            "cam_share_of_inference": c.map_share(),
            "contenders": rows(c),
        })
    };
    json!({
        "machine": {
            "processor": machine.processor,
            "cores": machine.cores,
            "governor": machine.governor,
            "load_average": machine.load,
        },
        "revision": machine.revision,
        "comparisons": comparisons.iter().map(comparison).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    let contender = row.contender.key();
    let figures = match &row.outcome {
        Ok(figures) => figures,
        Err(reason) => return json!({"contender": contender, "not_available": reason}),
    };
    let spread = |s: Spread| json!({"median": s.median, "min": s.min, "p10": s.p10, "p90": s.p90});
    json!({
        "contender": contender,
        "runtime": figures.runtime,
        "latency_ms": spread(figures.latency),
        "cam_ms": figures.map.map(spread),
        "cold_start_s": spread(figures.cold_start),
        "energy_j": figures.energy.map(spread),
        "peak_memory_bytes": figures.peak_memory,
        "model_bytes": figures.model_bytes,
        "idle_share": figures.idle_share,
        "logits": figures.logits,
        "latencies_ms": figures.inferences,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn flat(value: f64) -> Spread {
        Spread { min: value, p10: value, median: value, p90: value }
    }

    fn measured(contender: Contender, median: f64, map: Option<f64>) -> Row {
        let figures = Figures {
            runtime: "x".into(),
            latency: flat(median),
            map: map.map(flat),
            cold_start: flat(0.5),
            energy: None,
            peak_memory: Some(2_000_000),
            model_bytes: 1_500_000,
            idle_share: 0.0,
            inferences: vec![median],
            logits: vec![],
        };
        Row { contender, outcome: Ok(figures) }
    }

    /// Ours 40 ms, the best peer 50 ms, one peer absent.
    pub fn comparison() -> Comparison {
        let rows = vec![
            measured(Contender::Ours, 40.0, Some(1.0)),
            measured(Contender::TractFloat, 100.0, None),
            measured(Contender::OpenvinoInt8, 50.0, None),
            Row { contender: Contender::NcnnFloat, outcome: Err("no\nwheel".into()) },
        ];
        Comparison { model: "m".into(), threads: 1, rows }
    }

    fn machine(load: f64) -> Machine {
        let (processor, revision) = ("p".into(), "r".into());
        Machine { processor, cores: 2, governor: None, load: Some(load), revision }
    }

    #[test]
    fn the_table_names_ratio_overhead_and_who_is_absent() {
        let text = markdown(&machine(0.0), &[comparison()]);
        assert!(text.contains("| **Spinesight int8** | 40.0 | 40.0 | 40.0 | 40.0 | - | 2 | 1.5 |"));
        assert!(text.contains("| tract float | 100.0 | 100.0 | 100.0 | 100.0 | 0.40 |"), "{text}");
        assert!(text.contains("Ours / fastest peer: 0.80 (OpenVINO int8)."));
        assert!(text.contains("2.50 % of our inference"));
        assert!(text.contains("| ncnn float | not available |"));
        assert!(text.contains("- ncnn float: no wheel."));
        assert!(!text.contains("busy"));
        assert!(markdown(&machine(3.0), &[comparison()]).contains("busy (load average 3.0"));
    }

    #[test]
    fn json_holds_every_row() {
        let value = json(&machine(0.0), &[comparison()]);
        let first = &value["comparisons"][0];
        assert_eq!(first["ours_over_fastest_peer"], 0.8);
        assert_eq!(first["fastest_peer"], "openvino-int8");
        assert_eq!(first["contenders"][3]["not_available"], "no\nwheel");
        assert_eq!(first["contenders"][0]["cam_ms"]["median"], 1.0);
    }

    #[test]
    fn without_ours_there_is_no_ratio() {
        let mut comparison = comparison();
        comparison.rows.remove(0);
        assert_eq!(comparison.ratio(), None);
        assert!(!section(&comparison).contains("Ours /"));
    }

    #[test]
    fn cpuinfo_is_understood() {
        let info = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(field(info, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(field(info, "Hardware"), None);
    }
}
