//! Stops sharing what threads share. Safe for these two alone: with shared descriptors, values would own descriptors of
//! another table.
#![expect(unsafe_code, reason = "unshare could also part threads from their descriptors")]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives this thread, and those that it makes, a mount namespace of their own, and a root, working directory and umask.
///
/// # Errors
/// When this process is not root.
pub fn own_mounts() -> io::Result<()> {
    // SAFETY: descriptors stay shared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Gives this thread a root, working directory and umask of its own.
///
/// # Errors
/// When the kernel refuses.
pub fn own_root() -> io::Result<()> {
    // SAFETY: descriptors stay shared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}
