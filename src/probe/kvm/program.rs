//! The program that runs as the sandboxed child.

use std::{path::PathBuf, sync::OnceLock};

/// The program that [`probe`](super::probe) starts as its sandboxed child.
pub(super) static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The first argument of such a child. The second is its parent's pid.
pub(super) const CHILD: &str = "kvm-probe";

/// Names the program that [`probe`](super::probe) starts as its sandboxed child, by absolute path: one whose `main` calls [`child`](super::child).
/// For programs with no `main` of their own, such as tests. The first call counts.
pub fn use_program(program: impl Into<PathBuf>) {
    PROGRAM.get_or_init(|| program.into());
}
