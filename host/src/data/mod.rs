//! A set of X-rays on disk: what is in it, how it came there, how it is split.
//!
//! - [`manifest`]: the table of the images, one row each;
//! - [`import`]: a folder or an archive as downloaded becomes such a set, without personal data;
//! - [`folds`]: the set is split for cross-validation, never a patient group.

pub mod folds;
pub mod import;
pub mod manifest;

mod files;
