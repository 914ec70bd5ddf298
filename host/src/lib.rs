//! The training workstation's library: from X-rays to a bundle that the board can use.
//!
//! - [`data`]: import, scrub, split;
//! - [`phantom`]: synthetic X-rays with exact vertebra masks;
//! - [`train`]: networks, regimes, cross-validation;
//! - [`evaluate`]: out-of-fold figures beside their controls;
//! - [`explain`]: reference Grad-CAM by autograd;
//! - [`quantize`], [`export`]: int8, ONNX, the bundle;
//! - [`cmd`]: the command line, one file per subcommand.
//!
//! Invariants: tract is reached only through the device library, and that only in
//! [`export::verify`]; preprocessing and the CAM arithmetic are those of `models`.

pub mod cmd;
pub mod data;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod phantom;
pub mod quantize;
pub mod train;
