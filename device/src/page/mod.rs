//! The page that shows a run of `device scan` to a person.
//!
//! One HTML file that needs nothing but the pictures beside it: no script, no font, no network.
//! Every text from outside is escaped by maud; every picture's address is percent-encoded.
//!
//! - `card`: one scan with everything the models say about it;
//! - `words`: numbers and verdicts in plain language;
//! - `icon`: the verdicts' symbols.

pub(crate) mod card;
pub(crate) mod icon;
pub(crate) mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::overlay;
use crate::record::{FailedRecord, Record, ScanRecord, Verdict};

/// The sentence that no page goes without.
pub const STATEMENT: &str = "Decision support that flags and explains. Not a diagnosis.";

/// The look that every page of results shares.
pub(crate) const STYLE: &str = include_str!("style.css");

/// No script, frame or request can come from a page, whatever a file is called.
const POLICY: &str = "script-src 'none'; object-src 'none'; frame-src 'none'; \
                      connect-src 'none'; font-src 'none'; base-uri 'none'; form-action 'none'";

/// One line of the results and the picture that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct PageEntry {
    /// The line.
    pub record: Record,
    /// The scan in plain grey; none for a file that failed.
    pub picture: Option<Picture>,
}

/// A scan's own picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Path relative to the page, with `/` between folders.
    pub path: String,
    /// Pixels across of the scan itself, in which [`CamRecord::peak_xy`] counts.
    ///
    /// [`CamRecord::peak_xy`]: crate::record::CamRecord::peak_xy
    pub width: u32,
    /// Pixels down of the scan itself.
    pub height: u32,
}

/// What the page's footer says about a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// The bundle's name.
    pub name: String,
    /// The network, such as `ResNet50, int8`.
    pub architecture: String,
    /// Accuracy on patients the model has not seen, such as `95.8 %`.
    pub accuracy: String,
    /// Interval of the accuracy, such as `95 % interval 92.8 to 97.7 %`.
    pub interval: String,
    /// How far one gets without looking at the spine, such as `image size alone 64.5 %`; empty
    /// when that was not measured.
    pub controls: String,
    /// SHA-256 of the bundle in hexadecimal digits.
    pub digest: String,
}

/// Who made the page, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Program and version.
    pub program: String,
    /// Date and time with its zone, as a person reads it.
    pub time: String,
}

/// The whole page as HTML.
///
/// Entries of the same file are shown together in the order given, so that models can be
/// compared; the scans stand by urgency (flagged, referred, normal) and within that in the order
/// of their first entry.
pub fn render(entries: &[PageEntry], models: &[ModelCard], origin: &Origin) -> String {
    let scans = scans_from_entries(entries);
    let failed = failures(entries);
    let summary = Summary::new(&scans, failed.len());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Spine X-ray results" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#results" { "Skip to the results" }
                p.statement role="note" { (icon::shield()) span { (STATEMENT) } }
                header.top {
                    h1 { "Spine X-ray results" }
                    p.muted { (origin.time) " · " (origin.program) }
                    (summary.markup())
                }
                main {
                    (guide())
                    div #results {
                        @if scans.is_empty() && failed.is_empty() {
                            p.empty { "There was nothing to scan." }
                        }
                        @for verdict in URGENCY { (section(verdict, &scans)) }
                        (failed_section(&failed))
                    }
                }
                (footer(models, origin))
            }
        }
    }
    .into_string()
}

/// Verdicts from the most to the least urgent.
const URGENCY: [Verdict; 3] = [Verdict::Abnormal, Verdict::Refer, Verdict::Normal];

/// One scan and all that was said about it.
struct Scan<'a> {
    file: &'a str,
    picture: Option<&'a Picture>,
    /// At least one.
    results: Vec<&'a ScanRecord>,
}

impl Scan<'_> {
    /// The most urgent verdict of any model.
    fn verdict(&self) -> Verdict {
        let given = |verdict: &Verdict| self.results.iter().any(|r| r.verdict == *verdict);
        URGENCY.into_iter().find(given).unwrap_or(Verdict::Refer)
    }

    /// Whether two models differ in the verdict or, where both flag, in the class.
    fn is_disputed(&self) -> bool {
        let said =
            |r: &ScanRecord| (r.verdict, (r.verdict == Verdict::Abnormal).then_some(r.class));
        self.results.windows(2).any(|pair| said(pair[0]) != said(pair[1]))
    }
}

fn scans_from_entries(entries: &[PageEntry]) -> Vec<Scan<'_>> {
    let mut scans: Vec<Scan<'_>> = Vec::new();
    let mut place_of_file = std::collections::HashMap::new();
    for entry in entries {
        let Record::Scan(record) = &entry.record else { continue };
        let place = *place_of_file.entry(record.file.as_str()).or_insert(scans.len());
        if place == scans.len() {
            scans.push(Scan { file: &record.file, picture: None, results: Vec::new() });
        }
        let scan = &mut scans[place];
        scan.picture = scan.picture.or(entry.picture.as_ref());
        scan.results.push(record);
    }
    scans
}

fn failures(entries: &[PageEntry]) -> Vec<&FailedRecord> {
    entries
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Failed(failed) => Some(failed),
            Record::Scan(_) => None,
        })
        .collect()
}

/// How many scans came out how; every scan counts once, by its most urgent verdict.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    scans: usize,
    flagged: usize,
    referred: usize,
    normal: usize,
    failed: usize,
}

impl Summary {
    fn new(scans: &[Scan<'_>], failed: usize) -> Self {
        let count = |verdict| scans.iter().filter(|scan| scan.verdict() == verdict).count();
        Self {
            scans: scans.len(),
            flagged: count(Verdict::Abnormal),
            referred: count(Verdict::Refer),
            normal: count(Verdict::Normal),
            failed,
        }
    }

    fn markup(&self) -> Markup {
        let scans = if self.scans == 1 { "scan judged" } else { "scans judged" };
        let files = if self.failed == 1 { "file failed" } else { "files failed" };
        html! {
            nav aria-label="Summary" {
                ul.tiles {
                    (tile(self.scans, scans, "all", "results", icon::scans()))
                    @for (count, verdict) in
                        URGENCY.into_iter().map(|v| (self.count(v), v))
                    {
                        (tile(count, words::group(verdict), words::key(verdict),
                            words::key(verdict), icon::verdict(verdict)))
                    }
                    (tile(self.failed, files, "failed", "failed", icon::failed()))
                }
            }
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        match verdict {
            Verdict::Abnormal => self.flagged,
            Verdict::Refer => self.referred,
            Verdict::Normal => self.normal,
        }
    }
}

/// A number of the summary, linked to its section where there is one.
fn tile(count: usize, label: &str, key: &str, section: &str, icon: Markup) -> Markup {
    let inside = html! { span.count { (icon) b { (count) } } span.label { (label) } };
    html! {
        li.tile.(key) {
            @if count > 0 { a href={ "#" (section) } { (inside) } }
            @else { span.none { (inside) } }
        }
    }
}

fn guide() -> Markup {
    html! {
        section.guide aria-labelledby="guide" {
            h2 #guide { "How to read this" }
            div.columns {
                dl.legend {
                    @for verdict in URGENCY {
                        div {
                            dt { (card::badge(verdict)) }
                            dd { (words::meaning(verdict)) }
                        }
                    }
                }
                div {
                    p {
                        b { "Heat" } " shows where the evidence for the named class came from. "
                        "It is not the outline of a finding, and where there is no colour the "
                        "scan is shown untouched."
                    }
                    (colour_scale())
                    p {
                        span.peak.inline aria-hidden="true" {}
                        " The ring marks the strongest evidence; the thin line surrounds "
                        "everything at least half as strong. Each map has its own scale, so "
                        "heat tells " em { "where" } ", and the percentages tell "
                        em { "how sure" } "."
                    }
                }
            }
        }
    }
}

/// The overlay's own colours over mid grey, from no to the strongest evidence.
pub(crate) fn colour_scale() -> Markup {
    const STEPS: u16 = 63;
    let share = |i: u16| f32::from(i) / f32::from(STEPS);
    let colour = |i| {
        let [red, green, blue] = overlay::shown_colour(share(i), 128);
        format!("#{red:02x}{green:02x}{blue:02x}")
    };
    html! {
        figure.scale {
            // Attributes, not styles: a page from a server allows no inline style. Each field
            // reaches beyond its end, so that no gap shows between two.
            svg.strip viewBox={ "0 0 " (STEPS + 1) " 1" } preserveAspectRatio="none" role="img"
                shape-rendering="crispEdges"
                aria-label="Colour scale: grey for no evidence, then purple, red, orange and \
                            yellow for the strongest"
            {
                @for i in 0..=STEPS { rect x=(i) width="1.5" height="1" fill=(colour(i)) {} }
            }
            figcaption { span { "none" } span { "half" } span { "strongest" } }
        }
    }
}

fn section(verdict: Verdict, scans: &[Scan<'_>]) -> Markup {
    let own: Vec<_> = scans.iter().filter(|scan| scan.verdict() == verdict).collect();
    let key = words::key(verdict);
    html! {
        @if !own.is_empty() {
            section.group #(key) aria-labelledby={ (key) "-title" } {
                h2 id={ (key) "-title" } {
                    (words::group_title(verdict)) " " span.muted { (own.len()) }
                }
                @for scan in own { (card::card(scan)) }
            }
        }
    }
}

fn failed_section(failed: &[&FailedRecord]) -> Markup {
    html! {
        @if !failed.is_empty() {
            section.group #failed aria-labelledby="failed-title" {
                h2 #failed-title { "Could not be read " span.muted { (failed.len()) } }
                p.muted { "No model has judged these files. A human must look at them." }
                ul.failures {
                    @for record in failed {
                        li {
                            (icon::failed())
                            div { h3 { (record.file) } p { (record.error) } }
                        }
                    }
                }
            }
        }
    }
}

fn footer(models: &[ModelCard], origin: &Origin) -> Markup {
    html! {
        footer {
            @if !models.is_empty() {
                h2 { "The models" }
                p.muted {
                    "Accuracy was measured out of fold: on patients that the judging model had "
                    "not seen in training. The control tells how far one gets without looking "
                    "at the spine."
                }
                div.models {
                    @for model in models { (model_card(model)) }
                }
            }
            p.closing { b { (STATEMENT) } " Made by " (origin.program) ", " (origin.time) "." }
        }
    }
}

fn model_card(model: &ModelCard) -> Markup {
    let controls = if model.controls.is_empty() { "not measured" } else { model.controls.as_str() };
    html! {
        section.model {
            h3 { (model.name) }
            dl {
                div { dt { "Network" } dd { (model.architecture) } }
                div {
                    dt { "Accuracy" }
                    dd { b { (model.accuracy) } span.muted.line { (model.interval) } }
                }
                div { dt { "Control" } dd { (controls) } }
                div {
                    dt { "Digest" }
                    dd { code title=(model.digest) { (words::short_digest(&model.digest)) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BundleRef, CamRecord, Latency};
    use models::label::Class;

    fn result(file: &str, bundle: &str, verdict: Verdict, class: Class) -> PageEntry {
        let record = ScanRecord {
            file: file.into(),
            verdict,
            class,
            probabilities: [0.02, 0.905, 0.075].into(),
            logits: [-1.0, 3.0, 0.5],
            reasons: vec![format!("reason of {bundle}")],
            cam: Some(CamRecord {
                layer: "relu5_3".into(),
                peak_xy: [250, 100],
                method: "grad-cam".into(),
                digest: "feed".into(),
            }),
            overlay: Some(format!("{bundle}.png")),
            latency_ms: Latency { decode: 10.0, preprocess: 5.0, inference: 80.0, cam: 5.0 },
            bundle: BundleRef { name: bundle.into(), digest: "0123456789abcdef".into() },
        };
        let picture = Picture { path: format!("{file}.grey.png"), width: 500, height: 1000 };
        PageEntry { record: Record::Scan(Box::new(record)), picture: Some(picture) }
    }

    fn failed(file: &str, error: &str) -> PageEntry {
        let record = FailedRecord { file: file.into(), error: error.into() };
        PageEntry { record: Record::Failed(record), picture: None }
    }

    fn page(entries: &[PageEntry]) -> String {
        let model = ModelCard {
            name: "tiny <model>".into(),
            architecture: "ResNet50".into(),
            accuracy: "95.8 %".into(),
            interval: "92.8 to 97.7 %".into(),
            controls: String::new(),
            digest: "fedcba9876543210".into(),
        };
        let origin = Origin { program: "Spinesight 0.1.0".into(), time: "today".into() };
        render(entries, &[model], &origin)
    }

    /// The part of a page between two marks.
    fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
        let rest = page.split_once(start).expect("the start").1;
        rest.split_once(end).expect("the end").0
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let evil = r#"a"><script>alert(1)</script>&.png"#;
        let page = page(&[
            result(evil, "<b>net</b>", Verdict::Abnormal, Class::Scoliosis),
            failed("<i>x</i>", "<img src=x onerror=y>"),
        ]);
        for raw in ["<script", "<b>net", "<i>x", "<img src=x", "tiny <model>"] {
            assert!(!page.contains(raw), "{raw} came through");
        }
        assert!(page.contains("a&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;.png"));
        assert!(page.contains(r#"src="./a%22%3E%3Cscript%3Ealert%281%29%3C/script%3E%26.png"#));
    }

    #[test]
    fn a_page_asks_for_nothing_but_its_pictures() {
        let page = page(&[result("a.png", "net", Verdict::Normal, Class::Normal)]);
        for address in ["http:", "https:", "@import", "url(", "<link", "<script"] {
            assert!(!page.contains(address), "{address}");
        }
        assert!(page.contains(r#"src="./net.png""#));
        assert!(page.contains(r#"src="./a.png.grey.png""#));
    }

    #[test]
    fn every_verdict_has_its_words_and_symbol() {
        let mut symbols = std::collections::HashSet::new();
        for (verdict, class, word, headline) in [
            (Verdict::Normal, Class::Normal, "Normal", "No finding"),
            (Verdict::Abnormal, Class::Scoliosis, "Abnormal", "Scoliosis"),
            (Verdict::Refer, Class::Scoliosis, "Refer", "A human must read it"),
        ] {
            let page = page(&[result("a.png", "net", verdict, class)]);
            let finding = between(&page, "class=\"finding\"", "</table>");
            let badge = between(finding, &format!("badge {}", words::key(verdict)), "</p>");
            assert!(badge.contains(word), "{badge}");
            assert!(finding.contains(headline), "{finding}");
            assert!(symbols.insert(between(badge, "<svg", "</svg>").to_owned()));
        }
    }

    #[test]
    fn the_statement_heads_every_page() {
        for entries in [vec![], vec![failed("a.png", "damaged")]] {
            assert!(between(&page(&entries), "class=\"statement\"", "</p>").contains(STATEMENT));
        }
        assert!(page(&[]).contains("There was nothing to scan."));
    }

    #[test]
    fn the_summary_counts_each_scan_once_by_its_most_urgent_verdict() {
        let entries = [
            result("a.png", "one", Verdict::Normal, Class::Normal),
            result("b.png", "one", Verdict::Refer, Class::Normal),
            result("c.png", "one", Verdict::Normal, Class::Normal),
            result("a.png", "two", Verdict::Abnormal, Class::Scoliosis),
            result("b.png", "two", Verdict::Normal, Class::Normal),
            failed("d.png", "damaged"),
            failed("e.png", "empty"),
        ];
        let scans = scans_from_entries(&entries);
        let summary = Summary::new(&scans, failures(&entries).len());
        let expected = Summary { scans: 3, flagged: 1, referred: 1, normal: 1, failed: 2 };
        assert_eq!(summary, expected);
        let tiles = between(&page(&entries), "class=\"tiles\"", "</ul>").to_owned();
        assert!(between(&tiles, "tile all", "</li>").contains("<b>3</b>"));
        assert!(between(&tiles, "tile failed", "</li>").contains("<b>2</b>"));
    }

    #[test]
    fn results_of_one_scan_stand_in_one_card() {
        let page = page(&[
            result("a.png", "one", Verdict::Normal, Class::Normal),
            result("b.png", "one", Verdict::Normal, Class::Normal),
            result("a.png", "two", Verdict::Refer, Class::Normal),
        ]);
        let first = between(&page, "<article", "</article>");
        assert!(first.contains("reason of one") && first.contains("reason of two"));
        assert!(first.contains("The models disagree"));
        assert_eq!(page.matches("<article").count(), 2);
        assert_eq!(page.matches("The models disagree").count(), 1);
    }

    #[test]
    fn a_result_tells_how_sure_where_and_how_fast() {
        let page = page(&[result("a.png", "net", Verdict::Abnormal, Class::Scoliosis)]);
        let card = between(&page, "<article", "</article>");
        for text in ["90.5 %", "upper third, centre of the picture", "100 ms", "0123456789ab"] {
            assert!(card.contains(text), "{text} is missing from {card}");
        }
        assert!(card.contains("left:50.1%;top:10.05%"));
    }

    #[test]
    fn failed_files_have_their_own_section() {
        let page = page(&[failed("broken.png", "the image is truncated")]);
        let section = between(&page, "id=\"failed\"", "</section>");
        assert!(section.contains("broken.png") && section.contains("the image is truncated"));
        assert!(!page.contains("<article"));
    }
}
