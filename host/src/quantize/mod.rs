//! Post-training int8: from a trained network and calibration images to the numbers that the board
//! computes with.
//!
//! - [`quantizer`]: the whole way, with its [`quantizer::Settings`];
//! - [`scheme`]: what comes out: steps of tensors, integer and float convolutions;
//! - [`forward`]: a folded network, run in float or with int8's roundings;
//! - [`observe`], [`range`], [`equalize`], [`rounding`]: the parts;
//! - [`sensitivity`]: which layers lose most, and which of them stay in float;
//! - [`report`]: how close the result is to the float network.
//!
//! Activations are `i8` per tensor, asymmetric. Weights are `i8` per output channel, symmetric.
//! Biases are `i32` at the product of both scales. A convolution whose output is summed or captured
//! hands on its exact integer sums, scaled in float, and residual streams stay in float: each of
//! these roundings would reach the logits undamped. What lies behind the captured layer is float.

pub mod affine;
pub mod equalize;
pub mod forward;
pub mod observe;
pub mod quantizer;
pub mod range;
pub mod report;
pub mod rounding;
pub mod scheme;
pub mod sensitivity;
