//! Which compiler builds, and with what flags: the same commit that is built otherwise is another bootrace.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::sudo_user::{SudoUser, as_sudo_user, said};

/// What cargo takes flags from.
const FLAGS: [&str; 2] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"];

/// PATH, with the folder of this cargo first: its compiler is beside it.
///
/// # Errors
/// When that folder can't be in a PATH.
pub fn path_with(cargo: &Path) -> anyhow::Result<OsString> {
    let mut paths = vec![cargo.parent().unwrap_or(Path::new("/")).to_owned()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    std::env::join_paths(paths).context("making a PATH with cargo in it")
}

/// 12 hex digits that are others for another compiler or other flags. Where there is no compiler to ask, that is a
/// state of its own.
pub fn key(cargo: Option<&Path>, sudo_user: Option<&SudoUser>, clone: &Path) -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = as_sudo_user(&rustc, sudo_user);
    if let Some(path) = cargo.and_then(|cargo| path_with(cargo).ok()) {
        command.env("PATH", path);
    }
    command.arg("-vV").current_dir(clone);
    digest(said(command).ok().as_deref(), FLAGS.map(std::env::var_os).each_ref().map(Option::as_deref))
}

fn digest(version: Option<&str>, flags: [Option<&OsStr>; 2]) -> String {
    let mut all = Sha256::new();
    for part in [version.map(OsStr::new)].into_iter().chain(flags) {
        // Unset flags are as empty ones; no part has a zero byte in it.
        all.update(part.unwrap_or_default().as_bytes());
        all.update([0]);
    }
    all.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_or_other_flags_have_another_key() {
        let flags = |plain, encoded| {
            digest(Some("rustc 1.0"), [plain, encoded].map(|f: Option<&str>| f.map(OsStr::new)))
        };
        let keys = [
            flags(None, None),
            flags(Some("-g"), None),
            flags(None, Some("-g")),
            digest(Some("rustc 1.1"), [None, None]),
            digest(None, [None, None]),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), 12);
            assert!(!keys[..i].contains(key), "{keys:?}");
        }
        assert_eq!(flags(Some(""), None), keys[0]);
    }
}
