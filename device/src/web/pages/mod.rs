//! The pages, each a function from what the board says to HTML. Every text is escaped by maud.

pub mod health;
pub mod layout;
pub mod list;
pub mod message;
pub mod scan;
pub mod sign_in;
pub mod unprovisioned;
mod words;
