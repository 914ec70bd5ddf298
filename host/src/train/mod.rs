//! Training: from pictures and folds to weights and out-of-fold predictions.
//!
//! - [`network`]: an architecture (data) becomes tensors and a forward pass;
//! - [`pretrained`]: published weights become a network's starting point;
//! - [`pth`]: reading a PyTorch state dictionary;
//! - [`samples`]: the data set as preprocessed tensors;
//! - [`augment`]: seeded variations of the training pictures;
//! - [`optimizer`]: AdamW with a state that can be saved;
//! - [`probe`]: the linear classifier of feature extraction;
//! - [`fit`]: the epochs of one fold, resumable after each;
//! - [`run`]: a cross-validation run on disk;
//! - [`accelerator`]: CPU or CUDA;
//! - [`libtorch`]: the library's version.
//!
//! No choice is made by looking at a held-out image: the number of epochs is fixed in advance and
//! the last weights are kept.

pub mod accelerator;
pub mod augment;
pub mod fit;
pub mod libtorch;
pub mod network;
pub mod optimizer;
pub mod pretrained;
pub mod probe;
pub mod pth;
pub mod run;
pub mod samples;
