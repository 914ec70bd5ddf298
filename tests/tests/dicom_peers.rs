//! `device serve` among independent programs: DCMTK's and Orthanc's senders, archives and queries,
//! pynetdicom's malformed negotiations, and the readers of dicom3tools and DCMTK over every object
//! that comes out.
//!
//! `cargo xtask test --with dicom-peers` installs what they need and runs them.

#[path = "dicom_peers/dcmtk.rs"]
mod dcmtk;
#[path = "dicom_peers/negotiation.rs"]
mod negotiation;
#[path = "dicom_peers/objects.rs"]
mod objects;
#[path = "dicom_peers/orthanc.rs"]
mod orthanc;
#[path = "dicom_peers/readers.rs"]
mod readers;
#[path = "dicom_peers/tls.rs"]
mod tls;
#[path = "dicom_peers/tools.rs"]
mod tools;
