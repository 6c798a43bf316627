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
    /// What can name another one than this host's: an environment variable, and a scenario's option.
    pub named_by: &'static str,
    /// The group whose members may use it; `None`: only root may.
    pub group: Option<&'static str>,
}

pub static DOCKER: Daemon = Daemon {
    name: "Docker",
    program: "dockerd",
    unit: "docker.service",
    named_by: "DOCKER_HOST",
    group: Some("docker"),
};

pub static PODMAN: Daemon = Daemon {
    name: "podman",
    program: "podman",
    unit: "podman.socket",
    named_by: "CONTAINER_HOST",
    group: None,
};

pub static LIBVIRT: Daemon = Daemon {
    name: "libvirt",
    program: "libvirtd",
    unit: "libvirtd.service",
    named_by: "LIBVIRT_DEFAULT_URI or the target's uri",
    group: Some("libvirt"),
};

/// The daemon of a kind's engine; `None`: the kind has none.
pub fn of(kind: Kind) -> Option<&'static Daemon> {
    match kind {
        Kind::Native => None,
        Kind::Docker => Some(&DOCKER),
        Kind::Podman => Some(&PODMAN),
        Kind::Libvirt | Kind::Lxc => Some(&LIBVIRT),
    }
}

/// Where a daemon is; its fixes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The user named another one than this host's.
    Elsewhere,
    /// A unit of this host's systemd.
    Unit,
    /// On this host without systemd, or not installed: `scripts/setup` starts or installs it.
    Here,
}

impl Place {
    fn of(elsewhere: bool, systemd: bool, installed: bool) -> Self {
        match (elsewhere, systemd && installed) {
            (true, _) => Place::Elsewhere,
            (_, true) => Place::Unit,
            (_, false) => Place::Here,
        }
    }
}

impl Daemon {
    /// The place of the daemon at an address, where `usual` is the address of this host's own.
    pub fn place(&self, address: &str, usual: &str) -> Place {
        let units = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
        let installed = units.iter().any(|dir| Path::new(dir).join(self.unit).exists());
        Place::of(address != usual, Path::new("/run/systemd/system").is_dir(), installed)
    }

    /// The command that starts it, or what to change.
    pub fn start(&self, place: Place) -> String {
        match place {
            Place::Elsewhere => format!("start what {} names, or unset it", self.named_by),
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
                Place::Elsewhere | Place::Unit => self.start(place),
            }),
            Cause::NotFound | Cause::TimedOut | Cause::Unsupported | Cause::Other => None,
        }
    }

    /// The command that shows its log.
    pub fn log(&self, place: Place) -> String {
        let log = match place {
            Place::Elsewhere => format!("the log of what {} names", self.named_by),
            Place::Unit => format!("sudo journalctl -eu {}", self.unit),
            Place::Here => format!("sudo tail /var/log/bootrace-{}.log", self.program),
        };
        format!("{log} shows more")
    }

    /// The command that restarts it, or what to restart. libvirtd's VMs keep running meanwhile.
    pub fn restart(&self, place: Place) -> String {
        match place {
            Place::Elsewhere => format!("restart what {} names", self.named_by),
            Place::Unit => format!("sudo systemctl restart {}", self.unit),
            Place::Here => format!("sudo kill $(cat /run/{}.pid); sleep 2; scripts/setup", self.program),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_of_a_stopped_daemon_depends_on_its_place() {
        let hint = |place| DOCKER.hint(Cause::Unreachable, place).unwrap();
        assert_eq!(hint(Place::Elsewhere), "start what DOCKER_HOST names, or unset it");
        assert_eq!(hint(Place::Unit), "sudo systemctl start docker.service");
        assert_eq!(hint(Place::Here), "scripts/setup installs and starts Docker");
        for (systemd, installed) in [(false, false), (false, true), (true, false)] {
            assert_eq!(Place::of(false, systemd, installed), Place::Here);
        }
        assert_eq!(Place::of(false, true, true), Place::Unit);
        assert_eq!(Place::of(true, true, true), Place::Elsewhere);
    }

    /// A user's own containers and VMs depend on these daemons.
    #[test]
    fn only_a_restart_ends_a_daemon_and_by_its_own_pid_or_unit() {
        for daemon in Kind::ALL.into_iter().filter_map(of) {
            for place in [Place::Elsewhere, Place::Unit, Place::Here] {
                let advice = [daemon.start(place), daemon.log(place)];
                assert!(advice.iter().all(|text| !text.contains("kill") && !text.contains("restart")));
            }
        }
        assert_eq!(LIBVIRT.restart(Place::Unit), "sudo systemctl restart libvirtd.service");
        let here = LIBVIRT.restart(Place::Here);
        assert_eq!(here, "sudo kill $(cat /run/libvirtd.pid); sleep 2; scripts/setup");
        let elsewhere = LIBVIRT.restart(Place::Elsewhere);
        assert_eq!(elsewhere, "restart what LIBVIRT_DEFAULT_URI or the target's uri names");
    }

    #[test]
    fn a_variable_with_the_usual_address_names_this_hosts_daemon() {
        assert_ne!(LIBVIRT.place("qemu:///system", "qemu:///system"), Place::Elsewhere);
        assert_eq!(LIBVIRT.place("qemu+tcp://other/system", "qemu:///system"), Place::Elsewhere);
    }
}
