//! The contract between the training workstation (`host`) and the board (`device`).
//!
//! One module per concept:
//! - [`label`]: the three classes, in their one fixed order;
//! - [`logits`]: what a vector of logits says, as a class and as probabilities;
//! - [`radiograph`]: an image file's bytes become a 16-bit luminance picture;
//! - [`preprocess`]: a radiograph becomes the network's input, bit for bit the same everywhere;
//! - [`arch`]: the network architectures, as data;
//! - [`head`]: the part of a network behind the captured layer, as plain matrices;
//! - [`cam`]: Grad-CAM from a captured layer and a head, without autograd;
//! - [`bundle`]: a model on disk, verified as a whole before use.
//!
//! Invariants: no neural-network runtime, no network access, no threads. Reading and writing a
//! bundle is the only file access. Every number computed here is the same on every platform:
//! plain IEEE arithmetic in a fixed order, no fused multiply-add, no SIMD-dependent sums. The one
//! exception are probabilities, to which the platform's `exp` gives the last bits.

pub mod arch;
pub mod bundle;
pub mod cam;
pub mod head;
pub mod label;
pub mod logits;
pub mod preprocess;
pub mod radiograph;
