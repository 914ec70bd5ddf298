//! Links the board's programs so that their log can be decoded: format strings numbered by
//! `src/log/defmt.x`, and a build id by which a log finds its program.
//!
//! Cargo hands link arguments to this package's own programs alone. Programs of other packages that
//! use the library link and run without them, and must not start its log.

use std::env;
use std::path::PathBuf;

fn main() {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let script = manifest.join("src/log/defmt.x");
    println!("cargo::rerun-if-changed={}", script.display());
    if env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|system| system == "linux") {
        for argument in
            [format!("-Wl,-T,{}", script.display()), "-no-pie".into(), "-Wl,--build-id=sha1".into()]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
            println!("cargo::rustc-link-arg-examples={argument}");
        }
    }
}
