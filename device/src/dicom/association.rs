//! An association between two application entities: what both of its ends share.
//!
//! - [`socket`]: a connection, with or without TLS, on which nothing waits beyond a deadline;
//! - [`wire`]: protocol data units and messages over it (PS3.8 section 9.3);
//! - [`command`]: command sets (PS3.7 section 6.3);
//! - [`data_set`]: small data sets from a peer;
//! - [`requestor`]: the end that asks for an association.

pub mod command;
pub mod data_set;
pub mod requestor;
pub mod socket;
pub mod wire;
