//! DICOM: what the board receives, makes and sends.

pub mod association;
pub mod commitment;
pub mod identity;
pub mod results;
pub mod scp;
pub mod scu;
pub mod source;
pub mod stow;
pub mod syntaxes;
pub mod tls;
pub mod worklist;
