//! Boards touched as bars, in an SVG that needs nothing else.

use std::fmt::Write;

use super::report::{Report, Row};

const WIDTH: f64 = 760.0;
/// Where the bars start and how long the whole fleet is.
const LEFT: f64 = 150.0;
const WHOLE: f64 = 420.0;
const ROW: f64 = 20.0;
const HEADING: f64 = 36.0;

/// A group of bars for each update: the median, with a line to the 90th percentile.
pub fn svg(report: &Report) -> String {
    let boards = f64::from(report.setting.fleet.boards);
    let mut body = String::new();
    let mut y = 0.0;
    for group in report.rows.chunk_by(|a, b| a.scenario == b.scenario) {
        y += HEADING;
        let base = y - ROW / 2.0;
        let name = group[0].scenario;
        let _ = writeln!(body, "<text x=\"16\" y=\"{base}\" font-weight=\"bold\">{name}</text>");
        for row in group {
            bar(&mut body, row, boards, y);
            y += ROW;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        height = y + ROW,
    )
}

fn bar(body: &mut String, row: &Row, boards: f64, top: f64) {
    let length = |touched: f64| WHOLE * touched / boards;
    let colour = if row.rule == "ours" { "#0b7a75" } else { "#b8c4cc" };
    let (middle, base) = (top + ROW / 2.0 - 2.0, top + ROW / 2.0 + 3.0);
    let _ = writeln!(
        body,
        "<text x=\"{name_x}\" y=\"{base}\" text-anchor=\"end\">{rule}</text>\
         <rect x=\"{LEFT}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>\
         <path d=\"M{LEFT} {middle}h{p90:.1}\" stroke=\"#222\"/>\
         <text x=\"{value_x:.1}\" y=\"{base}\">{median:.0} touched, {stopped:.0} % stopped</text>",
        name_x = LEFT - 8.0,
        rule = row.rule,
        width = length(row.touched.median),
        height = ROW - 4.0,
        p90 = length(row.touched.p90),
        value_x = LEFT + length(row.touched.p90) + 8.0,
        median = row.touched.median,
        stopped = 100.0 * f64::from(row.stopped) / f64::from(row.runs),
    );
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_share_of_boards_touched() {
        let svg = svg(&report(true, 98));
        // 149.5 of 2000 boards, and 189 with nine in ten roll-outs.
        assert!(svg.contains("width=\"31.4\" height=\"16\" fill=\"#0b7a75\""), "{svg}");
        assert!(svg.contains("h39.7\""), "{svg}");
        assert!(svg.contains("150 touched, 98 % stopped"), "{svg}");
    }
}
