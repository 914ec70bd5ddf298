//! The network at work: tract loads, plans and runs the ONNX graph; quantized convolutions go to
//! kernels of our own.
//!
//! - [`engine`]: from the network's input to logits and the captured layer;
//! - [`operator`]: `QLinearConv` as a tract operator;
//! - [`qconv`]: the kernels.

pub mod engine;
pub mod operator;
pub mod qconv;
