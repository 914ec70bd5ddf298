//! What the spool cannot do, and why.

use std::io;

use rusqlite::ErrorCode;

/// Why the spool refuses or fails. After any of these nothing promised is lost, and the same call
/// may succeed later.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Less space is left than must stay free, or the disk has none at all.
    #[error("the disk is full")]
    DiskFull,
    /// The disk cannot be written.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Another process has this spool open.
    #[error("another program has this spool open")]
    InUse,
    /// A scan has more bytes than allowed.
    #[error("a scan may have {0} bytes at most")]
    TooLarge(u64),
    /// Other bytes were received earlier under the same SOP Instance UID; those stay.
    #[error("another object was received before under the same SOP Instance UID")]
    Conflict,
    /// No scan has this name.
    #[error("there is no such scan")]
    UnknownScan,
    /// The scan goes nowhere by this destination's name, or has no file by this name.
    #[error("the scan has no such delivery or file")]
    Unknown,
    /// The scan is in another stage than this call is for.
    #[error("the scan is in another stage")]
    WrongStage,
    /// The caller gave something that cannot be stored.
    #[error("cannot be stored: {0}")]
    Invalid(&'static str),
    /// The database is damaged; the next start rebuilds it from the scans' folders.
    #[error("the spool's database is damaged; the next start rebuilds it")]
    Damaged,
    /// Any other failure of the file system.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Any other failure of the database.
    #[error("the spool's database failed: {0}")]
    Database(rusqlite::Error),
}

impl SpoolError {
    /// Whether the same scan may be taken later, when the disk is well again.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::TooLarge(_) | Self::Conflict | Self::Invalid(_))
    }

    /// For `map_err`: a failure of the file system while doing `what`.
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io { what, source },
        }
    }
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Database(error),
        }
    }
}

/// For writers that can only say [`io::Error`]: the kind tells what happened.
impl From<SpoolError> for io::Error {
    fn from(error: SpoolError) -> Self {
        let kind = match &error {
            SpoolError::DiskFull => io::ErrorKind::StorageFull,
            SpoolError::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            SpoolError::TooLarge(_) => io::ErrorKind::FileTooLarge,
            SpoolError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
