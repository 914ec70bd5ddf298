//! The page that the board serves: scans as they come, their verdicts and heat maps, its health.
//!
//! Rendered on the server, for a phone as for a small touch screen; a script of a few lines keeps
//! a page up to date and moves the heat map's slider, and everything else works without it. No
//! page asks another host for anything.
//!
//! - [`board`]: what the pages see of the service;
//! - [`server`]: the listener with its bounds, and who may reach it;
//! - [`provision`], [`secret`]: what a board needs before it may be reached from elsewhere;
//! - `guard`: what every request must pass and every answer carries;
//! - `session`, `limit`, `sign_in`: who is signed in, and how fast one may try;
//! - `routes`, `live`, `pages`: the answers.

pub mod board;
pub mod provision;
pub mod secret;
pub mod server;

mod app;
mod assets;
mod connection;
mod failure;
mod gauges;
mod guard;
mod limit;
mod live;
mod pages;
mod person;
pub(crate) mod random;
mod routes;
mod session;
mod sign_in;
mod tls;
mod token;

#[cfg(test)]
mod tests;

pub use board::{Board, BoardError};
pub use server::{Options, Running, Server, TlsFiles, WebError};
