//! What every page has: the statement, the way to the other pages, and signing out.

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use crate::page::icon;
use crate::web::assets::ADDRESSES;
use crate::web::session::SignedIn;

/// The sentence that no page goes without.
pub const STATEMENT: &str = "Decision support, not a diagnosis. A qualified human decides.";

/// Which page this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// The list of scans.
    Scans,
    /// One scan of it.
    Scan,
    /// The board's health.
    Health,
}

/// A page for whoever is signed in; it keeps itself up to date.
pub fn page(title: &str, here: Here, session: &SignedIn, content: &Markup) -> Html<String> {
    let current = |tab: Here| (here == tab).then_some("page");
    let bar = html! {
        header.topbar {
            a.brand href="/" { (brand()) }
            nav aria-label="Pages" {
                a href="/" aria-current=[current(Here::Scans)] { "Scans" }
                a href="/health" aria-current=[current(Here::Health)] { "Health" }
            }
            p #connection.needs-script data-state="lost" { span { "Connecting" } }
            form method="post" action="/sign-out" {
                (token(session))
                button.quiet type="submit" { "Sign out" }
            }
        }
        p #said.unseen role="status" aria-live="polite" {}
    };
    document(title, &bar, content)
}

/// A page for anyone, without anything that a scan could tell.
pub fn public_page(title: &str, content: &Markup) -> Html<String> {
    document(title, &html! { header.topbar { a.brand href="/" { (brand()) } } }, content)
}

/// The hidden field that shows that a form was made for this session.
pub fn token(session: &SignedIn) -> Markup {
    html! { input type="hidden" name="csrf" value=(session.csrf); }
}

fn brand() -> Markup {
    html! { img src=(ADDRESSES.icon) alt="" width="26" height="26"; "Spinesight" }
}

fn document(title: &str, bar: &Markup, content: &Markup) -> Html<String> {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Spinesight" }
                link rel="icon" href=(ADDRESSES.icon) type="image/svg+xml";
                link rel="stylesheet" href=(ADDRESSES.style);
                script src=(ADDRESSES.script) defer {}
            }
            body.service {
                a.skip href="#content" { "Skip to the content" }
                p.statement role="note" { (icon::shield()) span { (STATEMENT) } }
                (bar)
                main #content tabindex="-1" { (content) }
            }
        }
    };
    Html(document.into_string())
}
