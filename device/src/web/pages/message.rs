//! A page with one sentence, when there is nothing else to show.

use axum::response::Html;
use maud::html;

use super::layout::public_page;

/// A title and what to do.
pub fn page(title: &str, advice: &str) -> Html<String> {
    public_page(
        title,
        &html! {
            section.notice {
                h1 { (title) }
                p { (advice) }
                p { a.button href="/" { "To the scans" } }
            }
        },
    )
}
