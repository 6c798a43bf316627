//! Generated files of the repository: a test compares each committed file with the code that generates it.

use std::{env, fs, path::Path};

/// Panics where the file at `path`, relative to the repository, differs from `generated`; with `BOOTRACE_GENERATE`
/// set, writes it instead.
pub fn holds(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if env::var_os("BOOTRACE_GENERATE").is_some() {
        return fs::write(&file, generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} differs from the generated text; fix: BOOTRACE_GENERATE=1 cargo test -p bootrace-model"
    );
}
