//! The network at work: tract loads, plans and runs what is float; the integer part, where nearly
//! all of the work is, runs in fused convolutions of our own.
//!
//! - [`engine`]: from the network's input to logits and the captured layer;
//! - [`fuse`]: from an int8 ONNX graph to a [`program`] and a [`tail`];
//! - [`qdq`]: an int8 graph in float arithmetic, for tract alone;
//! - [`qconv`]: the convolutions and their kernels;
//! - [`pool`]: the threads that share their work;
//! - [`onnx`]: reading nodes and constants.

pub mod engine;
pub mod fuse;
pub mod onnx;
pub mod pool;
pub mod program;
pub mod qconv;
pub mod qdq;
pub mod tail;
