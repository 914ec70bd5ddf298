//! `cargo xtask test --on qemu-virt`: the whole board, from source to update, in an emulator.

mod parity;
mod power;
mod write_log;
