//! A key for compiler and flags: the same commit built by another compiler is another bootrace.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    cli::sudo_user::{self, SudoUser, as_sudo_user, output_of},
    digest::hex,
    scenario::Build,
};

/// The variables from which cargo takes flags.
const FLAGS: [&str; 2] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"];

/// 12 hex digits that change with the compiler, its flags and the `[build]`. The absence of a compiler has a key too.
pub fn key(build: &Build, sudo_user: Option<&SudoUser>, folder: &Path) -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = as_sudo_user(&rustc, sudo_user);
    command.env("PATH", sudo_user::path(sudo_user)).arg("-vV").current_dir(folder);
    let flags = FLAGS.map(std::env::var_os);
    digest(output_of(command).ok().as_deref(), flags.each_ref().map(Option::as_deref), build)
}

fn digest(version: Option<&str>, flags: [Option<&OsStr>; 2], build: &Build) -> String {
    let mut all = Sha256::new();
    let words = build.command.iter().chain(&build.program).map(OsStr::new);
    for part in [version.map(OsStr::new)].into_iter().chain(flags).chain(words.map(Some)) {
        // Unset flags count as empty ones; a zero byte separates, since no field contains one.
        all.update(part.unwrap_or_default().as_bytes());
        all.update([0]);
    }
    hex(&all.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_other_flags_or_another_build_have_another_key() {
        let build = |command: &str| Build {
            command: vec![command.into()],
            program: Some("bootrace".into()),
            keep: None,
        };
        let flags = |plain, encoded| {
            digest(
                Some("rustc 1.0"),
                [plain, encoded].map(|f: Option<&str>| f.map(OsStr::new)),
                &build("make"),
            )
        };
        let keys = [
            flags(None, None),
            flags(Some("-g"), None),
            flags(None, Some("-g")),
            digest(Some("rustc 1.1"), [None, None], &build("make")),
            digest(None, [None, None], &build("make")),
            digest(Some("rustc 1.0"), [None, None], &build("ninja")),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), 12);
            assert!(!keys[..i].contains(key), "{keys:?}");
        }
        assert_eq!(flags(Some(""), None), keys[0]);
    }
}
