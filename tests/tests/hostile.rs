//! `device serve` among hostile peers: slow, idle, huge, broken and malformed ones. Each test
//! attacks a board while a normal sender and, where the page is attacked, a normal reader go on
//! with their work: they are always served, and the board's memory stays bounded.
//!
//! `cargo xtask test --with hostile` runs them; they print the peak of memory and how long the
//! normal ones waited.

#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/lengths.rs"]
mod lengths;
#[path = "hostile/peer.rs"]
mod peer;
#[path = "hostile/pictures.rs"]
mod pictures;
#[path = "hostile/web.rs"]
mod web;
#[path = "hostile/witness.rs"]
mod witness;
