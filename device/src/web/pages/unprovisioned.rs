//! What a board shows before it has a secret: how to give it one.

use axum::response::Html;
use maud::html;

use super::layout::public_page;

/// The instructions.
pub fn page() -> Html<String> {
    public_page(
        "Not provisioned",
        &html! {
            section.notice {
                h1 { "This board is not provisioned" }
                p {
                    "It has no secret yet, so it shows no scans, and its pages can be reached from "
                    "this machine only. Scans that arrive are stored and judged all the same."
                }
                ol {
                    li { "Run " code { "device provision" } " on the board." }
                    li { "Keep the secret that it shows; it is shown once." }
                    li { "Restart the service, and sign in with the secret." }
                }
            }
        },
    )
}
