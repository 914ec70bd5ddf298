//! Latencies as bars, in an SVG that needs nothing else.

use std::fmt::Write;

use super::contender::Contender;
use super::report::Comparison;

const WIDTH: f64 = 760.0;
/// Where the bars start and how long the longest is.
const LEFT: f64 = 180.0;
const LONGEST: f64 = 480.0;
const ROW: f64 = 22.0;
const HEADING: f64 = 44.0;

/// A group of bars for each comparison: the median, with a line from the 10th to the 90th
/// percentile.
pub fn svg(comparisons: &[Comparison]) -> String {
    let mut body = String::new();
    let mut y = 0.0;
    for comparison in comparisons {
        y = group(&mut body, comparison, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        height = y + ROW,
    )
}

/// Draws from `y` on; returns where the next group may start.
fn group(body: &mut String, comparison: &Comparison, y: f64) -> f64 {
    let Comparison { model, threads, .. } = comparison;
    let unit = if *threads == 1 { "thread" } else { "threads" };
    let heading = y + HEADING - ROW / 2.0;
    let _ = writeln!(
        body,
        "<text x=\"16\" y=\"{heading}\" font-weight=\"bold\">{model}, {threads} {unit}, ms</text>"
    );
    let longest = comparison.figures().map(|(_, f)| f.latency.p90).fold(0.0, f64::max);
    let at = |milliseconds: f64| LEFT + LONGEST * milliseconds / longest;
    let mut top = y + HEADING;
    for (contender, figures) in comparison.figures() {
        let spread = figures.latency;
        let colour = if contender == Contender::Ours { "#0b7a75" } else { "#b8c4cc" };
        let (middle, base) = (top + ROW / 2.0 - 1.0, top + ROW / 2.0 + 4.0);
        let _ = writeln!(
            body,
            "<text x=\"{name_x}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>\
             <path d=\"M{p10:.1} {middle}H{p90:.1}\" stroke=\"#222\"/>\
             <text x=\"{value_x:.1}\" y=\"{base}\">{median:.1}</text>",
            name = contender.title(),
            name_x = LEFT - 8.0,
            width = at(spread.median) - LEFT,
            height = ROW - 5.0,
            p10 = at(spread.p10),
            p90 = at(spread.p90),
            value_x = at(spread.p90) + 8.0,
            median = spread.median,
        );
        top += ROW;
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::comparison;

    #[test]
    fn bars_are_as_long_as_medians() {
        let svg = svg(&[comparison()]);
        // Ours took 40 of the 100 ms of the slowest.
        assert!(svg.contains("width=\"192.0\" height=\"17\" fill=\"#0b7a75\""), "{svg}");
        assert!(svg.contains("width=\"480.0\""));
        assert!(svg.contains(">m, 1 thread, ms</text>"));
        assert!(!svg.contains("ncnn"), "who did not run has no bar");
    }
}
