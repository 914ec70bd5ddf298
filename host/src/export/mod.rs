//! From a trained fold to a bundle that the board can use.
//!
//! - [`fold`]: batch normalisations vanish into their convolutions;
//! - [`graph`], [`onnx`]: the network as an ONNX file, in float or int8;
//! - [`head`]: the weight path behind the captured layer, and outlier statistics;
//! - [`assemble`]: card, golden case, files;
//! - [`verify`]: the device's own library judges the result.

pub mod assemble;
pub mod fold;
pub mod graph;
pub mod head;
pub mod onnx;
pub mod verify;
