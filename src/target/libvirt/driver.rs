//! libvirt's drivers: one for VMs, one for containers.

use std::{fs, path::PathBuf, sync::OnceLock};

use crate::{
    cause::Cause,
    daemon::{LIBVIRT, Naming, Place},
    kind::Kind,
    sys::{self, users},
};

const VARIABLE: &str = "LIBVIRT_DEFAULT_URI";

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

    /// libvirt's own default and the setting that names it, if any; else the host's own. For containers it counts only
    /// if it is of this driver.
    fn address(self) -> (&'static str, Option<Naming>) {
        static DEFAULT: OnceLock<Option<(String, Naming)>> = OnceLock::new();
        let default = DEFAULT.get_or_init(default_uri).as_ref();
        let fits = |(uri, _): &&(String, Naming)| self == Driver::Qemu || self.has(uri);
        default.filter(fits).map_or((self.usual_uri(), None), |(uri, naming)| (uri, Some(*naming)))
    }

    /// The libvirt of targets that name none.
    pub fn uri(self) -> String {
        self.address().0.into()
    }

    /// The setting that names [`Driver::uri`]; `None`: bootrace's default.
    pub fn naming(self) -> Option<Naming> {
        self.address().1
    }

    /// The URI with the setting that names it.
    pub fn shown_address(self) -> String {
        let (uri, naming) = self.address();
        naming.map_or(uri.into(), |naming| format!("{uri} ({})", naming.by))
    }

    /// Whether [`Driver::uri`] is this host's own libvirt.
    pub fn is_usual(self) -> bool {
        self.address().0 == self.usual_uri()
    }

    /// The place of the libvirt at [`Driver::uri`].
    pub fn place(self) -> Place {
        self.place_of(self.address().0)
    }

    /// The place of the libvirt at a URI: of [`Driver::uri`], or of a target.
    pub fn place_of(self, uri: &str) -> Place {
        let target = Naming { by: "the target's uri", undo: "leave it out" };
        let (default, naming) = self.address();
        let naming = if uri == default { naming } else { Some(target) };
        LIBVIRT.place(naming.filter(|_| uri != self.usual_uri()))
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

/// The URI that libvirt connects to by default, where a setting names one: the variable, else the user's `libvirt.conf`.
fn default_uri() -> Option<(String, Naming)> {
    if let Some(uri) = sys::variable(VARIABLE) {
        return Some((uri.to_string_lossy().into_owned(), Naming::variable(VARIABLE)));
    }
    let settings = || sys::variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let file = match sys::is_root() {
        true => "/etc/libvirt/libvirt.conf".into(),
        false => settings().or_else(|| Some(users::home()?.join(".config")))?.join("libvirt/libvirt.conf"),
    };
    let uri = uri_default(&fs::read_to_string(&file).ok()?)?;
    let by = format!("uri_default in {}", file.display()).leak();
    Some((uri, Naming { by, undo: "comment it out" }))
}

/// `uri_default` of a `libvirt.conf`. One that can't be parsed stops every connection, and libvirt's error names it.
pub(crate) fn uri_default(text: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("uri_default")?.trim_start().strip_prefix('='))?;
    let value = value.trim_start();
    let quote = value.chars().next().filter(|quote| ['"', '\''].contains(quote))?;
    let uri = value.trim_start_matches(quote).split(quote).next()?;
    (!uri.is_empty()).then(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_own_settings_name_its_default() {
        let shipped =
            "# The default URI\n#uri_default = \"qemu:///system\"\nuri_aliases = [ \"a=qemu:///b\" ]\n";
        assert_eq!(uri_default(shipped), None);
        for text in ["uri_default = \"qemu:///session\"\n", "a = 1\n uri_default='qemu:///session' # x"] {
            assert_eq!(uri_default(text).as_deref(), Some("qemu:///session"), "{text}");
        }
        assert_eq!(uri_default("uri_default = \"\"\n"), None);
    }
}
