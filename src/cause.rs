//! The causes of failures that the program acts on.

use std::io;

/// The cause of a failure. The program decides by it, never by a message's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing answers: there is no socket or device, or no process listens at it.
    Unreachable,
    /// This process lacks the permission.
    Denied,
    /// The object does not exist.
    NotFound,
    /// It did not answer in time.
    TimedOut,
    /// It does not support the request.
    Unsupported,
    Other,
}

impl Cause {
    /// The cause of an error from opening a socket or a device.
    pub fn of_reaching(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Cause::Unreachable,
            io::ErrorKind::PermissionDenied => Cause::Denied,
            io::ErrorKind::TimedOut => Cause::TimedOut,
            io::ErrorKind::Unsupported => Cause::Unsupported,
            _ => Cause::Other,
        }
    }
}

/// The fix for a missing permission.
pub const NEEDS_ROOT: &str = "sudo bootrace run: a run needs root, whatever its targets";
