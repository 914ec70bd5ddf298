//! Which libtorch this process runs on.
#![allow(unsafe_code, reason = "the version is a function of a foreign library")]

// SAFETY: declared as in libtorch's `torch/csrc/inductor/aoti_torch/c/shim.h`; it takes nothing
// and returns a constant.
unsafe extern "C" {
    safe fn aoti_torch_abi_version() -> u64;
}

/// The version of the loaded library, such as `2.11.0`.
pub fn version() -> String {
    // From the highest byte down: major, minor, patch (`torch/headeronly/version.h`).
    let [major, minor, patch, ..] = aoti_torch_abi_version().to_be_bytes();
    format!("{major}.{minor}.{patch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tch` 0.24 builds against no other series.
    #[test]
    fn the_version_is_of_the_series_that_the_bindings_need() {
        assert!(version().starts_with("2.11."), "{}", version());
    }
}
