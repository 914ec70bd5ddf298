//! CPU or CUDA, decided at run time by one binary.
//!
//! The binary links `libtorch_cpu` alone. CUDA kernels register themselves when
//! `libtorch_cuda.so` of the same PyTorch is opened before the first tensor is made.
#![allow(unsafe_code, reason = "opening a shared library runs its initialisers")]

use std::str::FromStr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::Device;

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// CUDA where it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or an error.
    Cuda,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            "cuda" => Ok(Choice::Cuda),
            other => Err(format!("`{other}` is no device: expected auto, cpu or cuda")),
        }
    }
}

/// Why CUDA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AcceleratorError {
    /// The library is absent or does not load.
    #[error(
        "CUDA was asked for, but libtorch_cuda.so does not load: {0}. Install PyTorch 2.11 with \
         CUDA and put its lib folder first in LD_LIBRARY_PATH, or use --device cpu"
    )]
    NotLoaded(String),
    /// The library is there and finds no GPU.
    #[error("CUDA was asked for, but no GPU answers: check nvidia-smi, or use --device cpu")]
    NoGpu,
}

/// Opens CUDA where wanted and says which device to use.
///
/// # Errors
/// When CUDA was demanded and is not to be had.
pub fn device_from_choice(choice: Choice) -> Result<Device, AcceleratorError> {
    match choice {
        Choice::Cpu => Ok(Device::Cpu),
        Choice::Cuda => cuda(),
        Choice::Auto => Ok(cuda().unwrap_or(Device::Cpu)),
    }
}

fn cuda() -> Result<Device, AcceleratorError> {
    static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
    let opened = OPENED.get_or_init(|| {
        // SAFETY: the library belongs to the PyTorch whose libtorch_cpu this process has already
        // loaded; its initialisers register kernels and are made to run at any time. The handle
        // is kept for the life of the process, so nothing it registers is ever unmapped.
        unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) }
            .map_err(|e| e.to_string())
    });
    if let Err(reason) = opened {
        return Err(AcceleratorError::NotLoaded(reason.clone()));
    }
    if tch::Cuda::is_available() { Ok(Device::Cuda(0)) } else { Err(AcceleratorError::NoGpu) }
}
