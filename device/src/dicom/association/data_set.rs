//! Small data sets from a peer, such as a commitment report or a worklist entry.

use dicom_encoding::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::decode::lengths;

/// Most bytes of such a data set.
pub const MAX_SMALL: usize = 1024 * 1024;

/// The data set does not parse. Says nothing about what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Reads a data set in a transfer syntax that was negotiated. Lengths are checked before anything
/// is allocated for them.
///
/// # Errors
/// [`Unreadable`] when it does not parse.
pub fn read(bytes: &[u8], transfer_syntax: &str) -> Result<InMemDicomObject, Unreadable> {
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or(Unreadable)?;
    lengths::check_data_set(bytes, bytes.len() as u64, syntax).map_err(|_| Unreadable)?;
    InMemDicomObject::read_dataset_with_ts(bytes, syntax).map_err(|_| Unreadable)
}

/// Writes a data set.
///
/// # Errors
/// [`Unreadable`] when the transfer syntax is unknown or a value does not fit into it.
pub fn write(object: &InMemDicomObject, transfer_syntax: &str) -> Result<Vec<u8>, Unreadable> {
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or(Unreadable)?;
    let mut bytes = Vec::new();
    object.write_dataset_with_ts(&mut bytes, syntax).map_err(|_| Unreadable)?;
    Ok(bytes)
}
