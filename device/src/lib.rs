//! The board's library: from an X-ray file to a verdict with its heat map, and the service that
//! does so beside an X-ray unit.
//!
//! Judging:
//!
//! - [`decode`]: PNG, JPEG, TIFF and DICOM bytes become a radiograph;
//! - [`gate`]: is this something the model may judge?
//! - [`runtime`]: the network, run by tract, its int8 convolutions by kernels of our own;
//! - [`verdict`]: logits become normal, abnormal or refer, with reasons;
//! - [`scanner`]: the whole line for one bundle, and its self-test;
//! - [`record`]: the JSON contract;
//! - [`overlay`], [`page`]: pictures and the HTML page.
//!
//! Serving:
//!
//! - [`serve`]: everything at work together, by a [`config`];
//! - [`dicom`]: scans in, result objects out;
//! - [`spool`]: every scan from its arrival to its last delivery, on disk;
//! - [`event`]: what happens, told to [`log`], [`audit`] trail, [`metrics`], [`panel`] and [`web`];
//! - [`failpoint`]: where tests let the service die.
//!
//! On a board:
//!
//! - [`first_boot`]: from an image's defaults and a provisioning file to a configuration;
//! - [`health`]: is the board well? Decides whether an update stays;
//! - [`install`]: signed model bundles, one at work and the one before it.
//!
//! [`cmd`] is the command line, one file per subcommand.
//!
//! Invariants: never links libtorch; judging needs no network; a library function never prints;
//! nothing that comes from outside can make it panic; nothing but the scans' own folders holds
//! patient data.

pub mod audit;
pub mod cmd;
pub mod config;
pub mod decode;
pub mod dicom;
mod durable;
pub mod event;
pub mod failpoint;
pub mod first_boot;
pub mod gate;
pub mod health;
pub mod install;
pub mod log;
pub mod metrics;
pub mod overlay;
pub mod page;
pub mod panel;
pub mod record;
pub mod runtime;
pub mod scanner;
pub mod serve;
pub mod spool;
pub mod verdict;
pub mod web;
