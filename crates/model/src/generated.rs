//! Files of the repository that are generated: a test of each holds the committed one to the code that it comes from.

use std::{env, fs, path::Path};

/// Panics where the file, relative to the repository, differs from what the code says; writes it where
/// `BOOTRACE_GENERATE` is set.
pub fn holds(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if env::var_os("BOOTRACE_GENERATE").is_some() {
        return fs::write(&file, generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} is not what the code says; fix: BOOTRACE_GENERATE=1 cargo test -p bootrace-model"
    );
}
