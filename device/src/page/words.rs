//! Verdicts, numbers and places in plain language.

use models::label::Class;

use crate::record::{ScanRecord, Verdict};

use super::Picture;

/// The word on a verdict's badge.
pub fn badge(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Normal => "Normal",
        Verdict::Abnormal => "Abnormal",
        Verdict::Refer => "Refer",
    }
}

/// A verdict's name in style sheet and anchors.
pub fn key(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Normal => "normal",
        Verdict::Abnormal => "flagged",
        Verdict::Refer => "referred",
    }
}

/// What the scans with a verdict are, behind their number.
pub fn group(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Normal => "normal",
        Verdict::Abnormal => "flagged abnormal",
        Verdict::Refer => "referred to a human",
    }
}

/// The heading over the scans with a verdict.
pub fn group_title(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Normal => "Normal",
        Verdict::Abnormal => "Flagged abnormal",
        Verdict::Refer => "Referred to a human",
    }
}

/// What a verdict asks of the reader.
pub fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Normal => "Nothing the model knows was found. It knows two findings only.",
        Verdict::Abnormal => "The model found the class named beside it. Please read soon.",
        Verdict::Refer => "The model is not sure, or may not judge this picture. Please read.",
    }
}

/// The one thing to know about a result.
pub fn headline(record: &ScanRecord) -> &'static str {
    match record.verdict {
        Verdict::Normal => "No finding",
        Verdict::Abnormal => class(record.class),
        Verdict::Refer => "A human must read it",
    }
}

/// The line under the headline: what the class means, or which class came closest.
pub fn explanation(record: &ScanRecord) -> String {
    match (record.verdict, record.class) {
        (Verdict::Refer, closest) => format!("Closest class: {closest}"),
        (_, Class::Normal) => "Nothing among the findings the model knows".into(),
        (_, Class::Scoliosis) => "Sideways curve of the spine".into(),
        (_, Class::Spondylolisthesis) => "A vertebra slipped forward over the one below".into(),
    }
}

/// A class name with a capital.
pub fn class(class: Class) -> &'static str {
    match class {
        Class::Normal => "Normal",
        Class::Scoliosis => "Scoliosis",
        Class::Spondylolisthesis => "Spondylolisthesis",
    }
}

/// A probability in per cent with one decimal, never rounded to certainty.
pub fn percent(probability: f32) -> String {
    match probability * 100.0 {
        p if p > 99.9 => "> 99.9 %".into(),
        p if p < 0.1 => "< 0.1 %".into(),
        p => format!("{p:.1} %"),
    }
}

/// Milliseconds with as many digits as mean something; seconds from one second on.
pub fn milliseconds(time: f64) -> String {
    match time {
        t if t < 9.95 => format!("{t:.1} ms"),
        t if t < 999.5 => format!("{t:.0} ms"),
        t => format!("{:.2} s", t / 1000.0),
    }
}

/// The first twelve digits of a digest, without a scheme such as `sha256:`.
pub fn short_digest(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or_default().chars().take(12).collect()
}

/// Where a point lies in a picture, in thirds. Sides are the picture's, not the patient's.
pub fn place([x, y]: [u32; 2], picture: &Picture) -> String {
    let third = |v: u32, length: u32| (u64::from(v) * 3 / u64::from(length.max(1))).min(2);
    let row = ["upper", "middle", "lower"][third(y, picture.height) as usize];
    let column = ["left side", "centre", "right side"][third(x, picture.width) as usize];
    format!("{row} third, {column} of the picture")
}

/// The address of a file beside the page: relative, with everything but letters, digits and
/// `-._~/` percent-encoded (RFC 3986, section 2.3).
pub fn address(path: &str) -> String {
    let mut address = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_certain() {
        let said = [1.0, 0.9995, 0.99, 0.005, 0.0005, 0.0].map(percent);
        assert_eq!(said, ["> 99.9 %", "> 99.9 %", "99.0 %", "0.5 %", "< 0.1 %", "< 0.1 %"]);
    }

    #[test]
    fn times_have_a_fitting_unit() {
        let said = [0.42, 9.94, 9.96, 180.4, 999.6].map(milliseconds);
        assert_eq!(said, ["0.4 ms", "9.9 ms", "10 ms", "180 ms", "1.00 s"]);
    }

    #[test]
    fn places_are_named_by_thirds() {
        let picture = Picture { path: String::new(), width: 300, height: 900 };
        let said = |x, y| place([x, y], &picture);
        assert_eq!(said(0, 0), "upper third, left side of the picture");
        assert_eq!(said(150, 450), "middle third, centre of the picture");
        assert_eq!(said(299, 899), "lower third, right side of the picture");
        assert_eq!(said(900, 9_000), "lower third, right side of the picture");
    }

    #[test]
    fn addresses_stay_beside_the_page() {
        assert_eq!(address("heat/a b#1.png"), "./heat/a%20b%231.png");
        assert_eq!(address("javascript:alert(1)"), "./javascript%3Aalert%281%29");
        assert_eq!(address("R\u{f6}ntgen.png"), "./R%C3%B6ntgen.png");
    }

    #[test]
    fn digests_are_short() {
        assert_eq!(short_digest("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_digest("ab"), "ab");
    }
}
