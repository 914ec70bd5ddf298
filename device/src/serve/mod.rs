//! The service: everything at work together.
