//! What is on the host because of an instance, for those who look whether anything is left of one.

use std::fmt;

use serde::Serialize;

use crate::kind::Kind;

/// One thing on the host that bears the mark of an instance of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    pub kind: ResourceKind,
    /// The kind of target whose engine has it; `None`: the host.
    pub engine: Option<Kind>,
    /// Its name, or its path.
    pub name: String,
    /// The instance that it belongs to, which tells the run.
    pub instance: String,
}

/// The kinds of things that an instance is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    Container,
    /// An image that was made for a trial alone.
    Image,
    Domain,
    /// What libvirt keeps of what QEMU printed.
    Log,
    Cgroup,
    /// The root of a container of libvirt's, in the host's sight.
    Mount,
    /// An instance's directory.
    Files,
    /// Stands for a run that goes on.
    Lock,
}

impl fmt::Display for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ResourceKind::Container => "container",
            ResourceKind::Image => "image",
            ResourceKind::Domain => "domain",
            ResourceKind::Mount => "mount",
            ResourceKind::Log => "log",
            ResourceKind::Cgroup => "cgroup",
            ResourceKind::Files => "files",
            ResourceKind::Lock => "lock",
        };
        // A standard kind's are what anybody calls a container or a domain.
        match self.engine.filter(|engine| !engine.is_standard()) {
            Some(engine) => write!(f, "{engine} {kind} {}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}
