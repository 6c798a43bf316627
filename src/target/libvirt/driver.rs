//! libvirt's drivers: one for VMs, one for containers.

use std::env;

use crate::{
    cause::Cause,
    daemon::{LIBVIRT, Place},
    kind::Kind,
};

/// A driver of libvirt that bootrace uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Qemu,
    Lxc,
}

impl Driver {
    /// The kind of its targets.
    pub fn kind(self) -> Kind {
        match self {
            Driver::Qemu => Kind::Libvirt,
            Driver::Lxc => Kind::Lxc,
        }
    }

    /// The scheme of its URIs.
    fn scheme(self) -> &'static str {
        match self {
            Driver::Qemu => "qemu",
            Driver::Lxc => "lxc",
        }
    }

    /// The address of this host's own libvirt.
    pub fn usual_uri(self) -> &'static str {
        match self {
            Driver::Qemu => "qemu:///system",
            Driver::Lxc => "lxc:///",
        }
    }

    /// The libvirt that LIBVIRT_DEFAULT_URI names, as for virsh; by default the host's own. For containers it counts only
    /// if it is of this driver.
    pub fn uri(self) -> String {
        let named = env::var("LIBVIRT_DEFAULT_URI").ok();
        let fits = |uri: &String| !uri.is_empty() && (self == Driver::Qemu || self.has(uri));
        named.filter(fits).unwrap_or_else(|| self.usual_uri().into())
    }

    /// Whether [`Driver::uri`] is this host's own libvirt.
    pub fn is_usual(self) -> bool {
        self.uri() == self.usual_uri()
    }

    /// The place of the libvirt at [`Driver::uri`].
    pub fn place(self) -> Place {
        LIBVIRT.place(&self.uri(), self.usual_uri())
    }

    /// Whether a URI is of this driver.
    pub fn has(self, uri: &str) -> bool {
        uri.split([':', '+']).next() == Some(self.scheme())
    }

    /// The fix of a failure that this driver alone has.
    pub fn hint(self, cause: Cause) -> Option<&'static str> {
        match (self, cause) {
            (Driver::Lxc, Cause::Unsupported) => Some(
                "scripts/setup installs libvirt's LXC driver (libvirt-daemon-driver-lxc) and restarts libvirtd",
            ),
            (Driver::Qemu, Cause::Unsupported) => {
                Some("scripts/setup installs libvirt's QEMU driver (libvirt-daemon-driver-qemu) and QEMU")
            }
            (_, Cause::Denied | Cause::NotFound | Cause::Other | Cause::TimedOut | Cause::Unreachable) => {
                None
            }
        }
    }

    /// The directory of its domains' logs.
    pub fn logs(self) -> &'static str {
        match self {
            Driver::Qemu => "/var/log/libvirt/qemu",
            Driver::Lxc => "/var/log/libvirt/lxc",
        }
    }
}
