//! The daemons of the engines: how a user starts each on this host and finds its log, and the fix of a failure by its
//! cause.

use std::path::Path;

use crate::{
    cause::{Cause, NEEDS_ROOT},
    kind::Kind,
};

/// How users call, start and address a daemon.
#[derive(Debug, PartialEq, Eq)]
pub struct Daemon {
    pub name: &'static str,
    pub program: &'static str,
    /// Its systemd unit.
    pub unit: &'static str,
    /// The group whose members may use it; `None`: only root may.
    pub group: Option<&'static str>,
}

pub static DOCKER: Daemon =
    Daemon { name: "Docker", program: "dockerd", unit: "docker.service", group: Some("docker") };

pub static PODMAN: Daemon = Daemon { name: "podman", program: "podman", unit: "podman.socket", group: None };

pub static LIBVIRT: Daemon =
    Daemon { name: "libvirt", program: "libvirtd", unit: "libvirtd.service", group: Some("libvirt") };

/// The daemon of a kind's engine; `None`: the kind has none.
pub fn of(kind: Kind) -> Option<&'static Daemon> {
    match kind {
        Kind::Native => None,
        Kind::Docker => Some(&DOCKER),
        Kind::Podman => Some(&PODMAN),
        Kind::Libvirt | Kind::Lxc => Some(&LIBVIRT),
    }
}

/// The setting that names a daemon. A process reads each once, so their texts may live as long as it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Naming {
    /// A noun for users.
    pub by: &'static str,
    /// How a user takes it back, in the imperative.
    pub undo: &'static str,
}

impl Naming {
    pub fn variable(name: &'static str) -> Self {
        Naming { by: name, undo: format!("unset {name}").leak() }
    }
}

/// Where a daemon is; its fixes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The user named another one than this host's.
    Elsewhere(Naming),
    /// A unit of this host's systemd.
    Unit,
    /// On this host without systemd, or not installed: `scripts/setup` starts or installs it.
    Here,
}

impl Place {
    fn of(elsewhere: Option<Naming>, systemd: bool, installed: bool) -> Self {
        match (elsewhere, systemd && installed) {
            (Some(naming), _) => Place::Elsewhere(naming),
            (None, true) => Place::Unit,
            (None, false) => Place::Here,
        }
    }
}

impl Daemon {
    /// Its place, where `elsewhere` names another one than this host's.
    pub fn place(&self, elsewhere: Option<Naming>) -> Place {
        let units = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
        let installed = units.iter().any(|dir| Path::new(dir).join(self.unit).exists());
        Place::of(elsewhere, Path::new("/run/systemd/system").is_dir(), installed)
    }

    /// The command that starts it, or what to change.
    pub fn start(&self, place: Place) -> String {
        match place {
            Place::Elsewhere(Naming { by, undo }) => format!("start what {by} names, or {undo}"),
            Place::Unit => format!("sudo systemctl start {}", self.unit),
            Place::Here => "scripts/setup".into(),
        }
    }

    /// The fix of a failure of this cause, if a single one is right.
    pub fn hint(&self, cause: Cause, place: Place) -> Option<String> {
        match cause {
            Cause::Denied => Some(NEEDS_ROOT.into()),
            Cause::Unreachable => Some(match place {
                Place::Here => format!("scripts/setup installs and starts {}", self.name),
                Place::Elsewhere(_) | Place::Unit => self.start(place),
            }),
            Cause::NotFound | Cause::TimedOut | Cause::Unsupported | Cause::Other => None,
        }
    }

    /// The command that shows its log.
    pub fn log(&self, place: Place) -> String {
        let log = match place {
            Place::Elsewhere(Naming { by, .. }) => format!("the log of what {by} names"),
            Place::Unit => format!("sudo journalctl -eu {}", self.unit),
            Place::Here => format!("sudo tail /var/log/bootrace-{}.log", self.program),
        };
        format!("{log} shows more")
    }

    /// The command that restarts it, or what to restart. libvirtd's VMs keep running meanwhile.
    pub fn restart(&self, place: Place) -> String {
        match place {
            Place::Elsewhere(Naming { by, .. }) => format!("restart what {by} names"),
            Place::Unit => format!("sudo systemctl restart {}", self.unit),
            // It ends the process of the pid file only if this is the daemon, and waits for its end.
            Place::Here => format!(
                "sudo start-stop-daemon --stop --retry 10 --pidfile /run/{0}.pid --name {0}; scripts/setup",
                self.program
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: Naming = Naming { by: "DOCKER_HOST", undo: "unset DOCKER_HOST" };

    #[test]
    fn the_fix_of_a_stopped_daemon_depends_on_its_place() {
        let hint = |place| DOCKER.hint(Cause::Unreachable, place).unwrap();
        assert_eq!(hint(Place::Elsewhere(ELSEWHERE)), "start what DOCKER_HOST names, or unset DOCKER_HOST");
        assert_eq!(hint(Place::Unit), "sudo systemctl start docker.service");
        assert_eq!(hint(Place::Here), "scripts/setup installs and starts Docker");
        for (systemd, installed) in [(false, false), (false, true), (true, false)] {
            assert_eq!(Place::of(None, systemd, installed), Place::Here);
        }
        assert_eq!(Place::of(None, true, true), Place::Unit);
        assert_eq!(Place::of(Some(ELSEWHERE), true, true), Place::Elsewhere(ELSEWHERE));
    }

    /// A user's own containers and VMs depend on these daemons.
    #[test]
    fn only_a_restart_ends_a_daemon_and_by_its_own_pid_or_unit() {
        for daemon in Kind::ALL.into_iter().filter_map(of) {
            for place in [Place::Elsewhere(ELSEWHERE), Place::Unit, Place::Here] {
                let advice = [daemon.start(place), daemon.log(place)];
                assert!(advice.iter().all(|text| !text.contains("kill") && !text.contains("restart")));
            }
        }
        assert_eq!(LIBVIRT.restart(Place::Unit), "sudo systemctl restart libvirtd.service");
        let here = LIBVIRT.restart(Place::Here);
        assert!(here.contains("--pidfile /run/libvirtd.pid --name libvirtd; scripts/setup"), "{here}");
        let elsewhere = LIBVIRT.restart(Place::Elsewhere(Naming::variable("LIBVIRT_DEFAULT_URI")));
        assert_eq!(elsewhere, "restart what LIBVIRT_DEFAULT_URI names");
    }
}
