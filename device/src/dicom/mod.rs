//! DICOM: what the board receives, makes and sends.

pub mod results;
pub mod source;
