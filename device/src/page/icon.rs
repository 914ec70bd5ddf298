//! Small line drawings, inline so that the page stays one file.
//!
//! The verdicts differ in outline (round, triangle, diamond), so that they are told apart
//! without colour. All are hidden from screen readers: a word always stands beside them.

use maud::{Markup, PreEscaped, html};

use crate::record::Verdict;

/// A verdict's symbol: a tick in a circle, a mark in a triangle, a question in a diamond.
pub fn verdict(verdict: Verdict) -> Markup {
    drawing(match verdict {
        Verdict::Normal => "<circle cx='12' cy='12' r='9'/><path d='m8 12.3 2.8 2.8L16.2 9.5'/>",
        Verdict::Abnormal => "<path d='M12 3.5 21.5 20h-19Z'/><path d='M12 10v4.6M12 17.2v.1'/>",
        Verdict::Refer => {
            "<path d='m12 2 10 10-10 10L2 12Z'/>\
             <path d='M9.8 9.8a2.3 2.3 0 1 1 3.5 2c-.9.6-1.3 1-1.3 1.9M12 16.4v.1'/>"
        }
    })
}

/// A page with a cross: a file that could not be read.
pub fn failed() -> Markup {
    drawing("<path d='M6 3h8l4 4v14H6Z'/><path d='m9.5 11.5 5 5m0-5-5 5'/>")
}

/// Stacked pictures: all scans.
pub fn scans() -> Markup {
    drawing("<path d='M7 3h13v14'/><path d='M4 7h12v14H4Z'/>")
}

/// A shield: the page's statement.
pub fn shield() -> Markup {
    drawing(
        "<path d='M12 3l8 3v6c0 4.6-3.3 7.8-8 9-4.7-1.2-8-4.4-8-9V6Z'/><path d='M12 8v5M12 16v.1'/>",
    )
}

fn drawing(strokes: &'static str) -> Markup {
    html! {
        svg.icon viewBox="0 0 24 24" aria-hidden="true" focusable="false" {
            (PreEscaped(strokes))
        }
    }
}
