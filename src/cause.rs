//! The causes of failures that the program acts on, and their fixes.

use std::io;

use crate::kind::Kind;

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

/// Fixes by kind of target and cause.
const HINTS: [(Kind, Cause, &str); 9] = [
    (Kind::Docker, Cause::Denied, NEEDS_ROOT),
    (Kind::Docker, Cause::Unreachable, "scripts/setup installs and starts Docker"),
    (Kind::Podman, Cause::Denied, NEEDS_ROOT),
    (Kind::Podman, Cause::Unreachable, "scripts/setup installs podman and starts its service"),
    (Kind::Libvirt, Cause::Denied, NEEDS_ROOT),
    (Kind::Libvirt, Cause::Unreachable, "scripts/setup installs and starts libvirtd"),
    (Kind::Lxc, Cause::Denied, NEEDS_ROOT),
    (Kind::Lxc, Cause::Unreachable, "scripts/setup installs and starts libvirtd"),
    (
        Kind::Lxc,
        Cause::Unsupported,
        "scripts/setup installs libvirt's LXC driver (libvirt-daemon-driver-lxc) and restarts libvirtd",
    ),
];

/// The fix for this cause and the engine of this kind of target, if there is a single one.
pub fn hint(kind: Kind, cause: Cause) -> Option<&'static str> {
    HINTS.iter().find(|(of, by, _)| (*of, *by) == (kind, cause)).map(|(_, _, hint)| *hint)
}
