//! The form that asks for the secret.

use axum::response::Html;
use maud::{Markup, html};

use super::layout::public_page;
use super::words::{self, Mark, alert};

/// Why the form is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The secret was wrong.
    Wrong,
    /// It is too early for another attempt.
    TooEarly {
        /// How long to wait.
        seconds: u64,
    },
}

/// The form; whoever signs in is led to `next`.
pub fn page(problem: Option<Problem>, next: &str) -> Html<String> {
    public_page(
        "Sign in",
        &html! {
            section.notice.sign-in {
                h1 { "Sign in" }
                @if let Some(problem) = problem { (complaint(problem)) }
                form method="post" action="/sign-in" {
                    input type="hidden" name="next" value=(next);
                    // Password managers keep a secret under a name.
                    input type="text" name="board" value="Spinesight" autocomplete="username"
                        hidden readonly;
                    label for="secret" { "Secret of this board" }
                    input #secret type="password" name="secret" required autofocus
                        autocomplete="current-password" autocapitalize="none" spellcheck="false"
                        maxlength="128" aria-describedby="hint"
                        aria-invalid=[(problem == Some(Problem::Wrong)).then_some("true")];
                    p #hint.muted { "Hyphens, spaces and capitals do not matter." }
                    button type="submit" { "Sign in" }
                }
            }
        },
    )
}

fn complaint(problem: Problem) -> Markup {
    html! {
        div role="alert" {
            (alert(Mark::Bad, &match problem {
                Problem::Wrong => html! { "That is not the secret of this board." },
                Problem::TooEarly { seconds } => html! {
                    "Too many attempts. Try again in "
                    (words::count(seconds, "second", "seconds")) "."
                },
            }))
        }
    }
}
