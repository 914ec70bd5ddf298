//! host
pub mod cmd;
pub mod data;
pub mod evaluate;
pub mod train;
