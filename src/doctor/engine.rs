//! Checks Docker and libvirt: whether they answer, their versions and their limits.

use std::{path::Path, time::Duration};

use super::{Check, no_answer};
use crate::{
    cause::Cause,
    image::ContainerEngine,
    probe::kvm::closed_to_qemu,
    scenario::Kind,
    target::{
        Error,
        docker::inspect::{self as docker, Engine, OLDEST_API},
        libvirt::{
            self,
            inspect::{self as virt, Hypervisor},
        },
    },
};

/// How long libvirt may take to list its capabilities. If QEMU's user can't open `/dev/kvm`, libvirt probes QEMU each
/// time, which takes a minute; another check reports that, so this one does not wait.
fn for_details(patience: Duration) -> Duration {
    if closed_to_qemu().is_some() { patience / 3 } else { patience * 2 }
}

/// A daemon's names: for users, systemd, environment and package.
pub(super) struct Daemon {
    /// Its name in messages.
    pub name: &'static str,
    pub program: &'static str,
    pub unit: &'static str,
    /// The variable that names another engine than the local one.
    pub variable: &'static str,
    /// The group whose members may use it; `None`: only root may.
    pub group: Option<&'static str>,
}

const DOCKER: Daemon = Daemon {
    name: "Docker",
    program: "dockerd",
    unit: "docker.service",
    variable: "DOCKER_HOST",
    group: Some("docker"),
};
pub(super) const LIBVIRT: Daemon = Daemon {
    name: "libvirt",
    program: "libvirtd",
    unit: "libvirtd.service",
    variable: "LIBVIRT_DEFAULT_URI",
    group: Some("libvirt"),
};

/// The place of a daemon; its fixes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Another engine than the local one.
    Elsewhere,
    /// A unit of this host's systemd.
    Unit,
    /// On this host without a unit, or not installed: scripts/setup handles both.
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
    pub fn place(&self) -> Place {
        let elsewhere = std::env::var_os(self.variable).is_some_and(|named| !named.is_empty());
        if elsewhere { Place::Elsewhere } else { self.place_here() }
    }

    /// Of the local one, also if the variable names another.
    pub fn place_here(&self) -> Place {
        let units = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
        let installed = units.iter().any(|dir| Path::new(dir).join(self.unit).exists());
        Place::of(false, Path::new("/run/systemd/system").is_dir(), installed)
    }

    pub fn fix(&self, error: &Error, place: Place) -> String {
        match (place, error.cause, &error.hint) {
            (_, Cause::Denied, _) => {
                let alone = self.group.map(|group| {
                    format!(
                        ". To use {} alone, without bootrace: sudo usermod -aG {group} $USER, then log in again",
                        self.name
                    )
                });
                format!("sudo bootrace doctor, and sudo bootrace run{}", alone.unwrap_or_default())
            }
            (Place::Elsewhere, Cause::Unreachable, _) => {
                format!("start the daemon that {} names, or unset {0}", self.variable)
            }
            (Place::Unit, Cause::Unreachable, _) => format!("sudo systemctl start {}", self.unit),
            (_, _, Some(hint)) => hint.clone(),
            (Place::Elsewhere, _, None) => {
                format!("start the daemon that {} names, or unset {0}", self.variable)
            }
            (Place::Unit | Place::Here, _, None) => "scripts/setup".into(),
        }
    }

    /// The command that shows its log.
    pub fn fix_of_a_trial(&self, place: Place) -> String {
        let log = match place {
            Place::Elsewhere => format!("the log of the daemon that {} names", self.variable),
            Place::Unit => format!("sudo journalctl -eu {}", self.unit),
            Place::Here => format!("sudo tail /var/log/bootrace-{}.log", self.program),
        };
        format!("{log} shows more")
    }

    /// The fix for a time-out. A longer wait comes first, since a restart harms a daemon that is only busy.
    pub fn fix_of_no_answer(&self, place: Place) -> String {
        format!("bootrace doctor --patience 5m waits longer; {}", self.fix_of_a_trial(place))
    }

    /// Bounds a request to the engine in time.
    pub async fn ask<T>(
        &self,
        patience: Duration,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, (String, String)> {
        match self.ask_as_is(patience, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err((error.without_hint(), self.fix(&error, self.place()))),
            Err(found) => Err((found, self.fix_of_no_answer(self.place()))),
        }
    }

    /// The engine's answer; an error when none came in time.
    pub async fn ask_as_is<T>(
        &self,
        patience: Duration,
        asking: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, String> {
        let late = |_| no_answer(self.name, patience);
        tokio::time::timeout(patience, asking).await.map_err(late)
    }
}

/// The command that restarts this host's libvirt, so that it probes the host again. VMs keep running.
pub fn restart_libvirt() -> String {
    restart_libvirt_at(LIBVIRT.place_here())
}

fn restart_libvirt_at(place: Place) -> String {
    match place {
        Place::Unit => format!("sudo systemctl restart {}", LIBVIRT.unit),
        Place::Elsewhere | Place::Here => "sudo kill $(cat /run/libvirtd.pid); sleep 2; scripts/setup".into(),
    }
}

/// The fix for a failed trial whose error has no fix of its own.
pub fn fix_of_a_trial(kind: Kind) -> String {
    let fix = match kind {
        Kind::Native => {
            "see what the kernel refused (sudo dmesg), or name another directory in BOOTRACE_CACHE".into()
        }
        Kind::Docker => DOCKER.fix_of_a_trial(DOCKER.place()),
        Kind::Libvirt | Kind::Lxc => LIBVIRT.fix_of_a_trial(LIBVIRT.place()),
        Kind::Podman => super::others::PODMAN.fix_of_a_trial(super::others::PODMAN.place()),
    };
    format!("{fix}; sudo bootrace clean removes left-overs")
}

/// Whether Docker answers, and its versions.
pub async fn docker(patience: Duration) -> (Check, Option<Engine>) {
    let (id, title) = ("docker", "Docker");
    match DOCKER.ask(patience, docker::inspect(ContainerEngine::Docker)).await {
        Ok(engine) => (Check::ok(id, title, describe(&engine)), Some(engine)),
        Err((found, fix)) => (Check::failed(id, title, found, &[Kind::Docker]).fix(fix), None),
    }
}

fn describe(engine: &Engine) -> String {
    let (major, minor) = engine.api;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    format!(
        "Docker {}, API {major}.{minor}, storage driver {}, cgroup version {}",
        or_unknown(&engine.version),
        or_unknown(&engine.storage),
        or_unknown(&engine.cgroup_version)
    )
}

/// Whether the Engine is new enough and can limit containers.
pub fn docker_details(engine: &Engine) -> Vec<Check> {
    let (id, title) = ("docker.api", "Docker's API");
    let (major, minor) = engine.api;
    let (least_major, least_minor) = OLDEST_API;
    let api = match engine.api >= OLDEST_API {
        true => Check::ok(id, title, format!("{major}.{minor}, at least {least_major}.{least_minor}")),
        false => {
            let found =
                format!("{major}.{minor}: older than {least_major}.{least_minor}, which is the oldest tried");
            Check::warning(id, title, found).fix("install Docker 20.10 or later")
        }
    };
    let (id, title) = ("docker.limits", "Docker's limits");
    let concern = |warning: &&String| {
        let warning = warning.to_lowercase();
        ["memory limit", "swap limit", "cpuset"].iter().any(|limit| warning.contains(limit))
    };
    let warnings: Vec<&str> = engine.warnings.iter().filter(concern).map(String::as_str).collect();
    let limits = match warnings.is_empty() {
        true => Check::ok(id, title, "memory, swap and CPUs can be limited"),
        false => Check::warning(id, title, warnings.join("; ")).fix(
            "boot with cgroup_enable=memory swapaccount=1 where the kernel has them off; in a container, run it with \
             --privileged and --cgroupns=host",
        ),
    };
    vec![api, limits]
}

/// Whether libvirt answers, and its version.
pub async fn libvirt(patience: Duration) -> (Check, Option<Hypervisor>) {
    let (id, title) = ("libvirt", "libvirt");
    match LIBVIRT.ask(patience, virt::inspect()).await {
        Ok(mut hypervisor) => {
            let version = hypervisor.libvirt.as_deref().unwrap_or("of unknown version");
            let check = Check::ok(id, title, format!("libvirt {version} at {}", libvirt::uri()));
            if let Ok(Ok((qemu, offers))) = tokio::time::timeout(for_details(patience), virt::offers()).await
            {
                (hypervisor.qemu, hypervisor.offers) = (qemu, Some(offers));
            }
            (check, Some(hypervisor))
        }
        Err((found, fix)) => (Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix), None),
    }
}

/// Whether it has a QEMU for this architecture.
pub fn emulator(hypervisor: &Hypervisor) -> Check {
    let (id, title) = ("qemu", "QEMU");
    let Some(offers) = &hypervisor.offers else {
        let found = "libvirt answers, but did not list its capabilities in time: busy or hanging";
        let fix = LIBVIRT.fix_of_no_answer(LIBVIRT.place());
        return Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix);
    };
    match &offers.emulator {
        Some(emulator) if offers.tcg || offers.kvm => {
            let version = hypervisor.qemu.as_deref().unwrap_or("of unknown version");
            Check::ok(id, title, format!("QEMU {version}, {emulator}"))
        }
        _ => {
            let arch = std::env::consts::ARCH;
            let package = if arch == "x86_64" { "qemu-system-x86" } else { "qemu-system-arm" };
            let found = format!("libvirt knows no QEMU for {arch}");
            let fix = format!("sudo apt-get install {package} && {}", restart_libvirt());
            Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use crate::{scenario::Span, target::libvirt::inspect::Offers};

    #[test]
    fn an_old_api_and_a_missing_limit_are_warned_of_and_other_complaints_are_not() {
        let engine = Engine {
            api: (1, 40),
            warnings: vec![
                "WARNING: No swap limit support".into(),
                "WARNING: No blkio weight support".into(),
            ],
            ..Engine::default()
        };
        let checks = docker_details(&engine);
        assert!(checks.iter().all(|check| check.status == Status::Warning && check.fix.is_some()));
        assert!(checks[0].found.starts_with("1.40: older than 1.41"));
        assert_eq!(checks[1].found, "WARNING: No swap limit support");
        let engine = Engine { api: (1, 41), ..Engine::default() };
        assert!(docker_details(&engine).iter().all(|check| check.status == Status::Ok));
    }

    #[test]
    fn a_stopped_daemon_is_started_by_its_service_manager() {
        let stopped = Error::new("connecting", "No such file or directory").by(Cause::Unreachable);
        let confused = Error::new("connecting", "no reply");
        let fix = |error: &Error, elsewhere, systemd, installed| {
            DOCKER.fix(error, Place::of(elsewhere, systemd, installed))
        };
        for (systemd, installed) in [(false, false), (false, true), (true, false), (true, true)] {
            for error in [&stopped, &confused] {
                let there = fix(error, true, systemd, installed);
                assert_eq!(there, "start the daemon that DOCKER_HOST names, or unset DOCKER_HOST");
                let unit = systemd && installed && error.is_unreachable();
                let here = if unit { "sudo systemctl start docker.service" } else { "scripts/setup" };
                assert_eq!(fix(error, false, systemd, installed), here, "{error:?} {systemd} {installed}");
            }
        }
        assert_eq!(LIBVIRT.fix(&stopped, Place::Unit), "sudo systemctl start libvirtd.service");
        let denied = Error::new("connecting", "Permission denied").by(Cause::Denied);
        for place in [Place::Elsewhere, Place::Unit, Place::Here] {
            let fix = LIBVIRT.fix(&denied, place);
            for part in ["sudo bootrace run", "sudo usermod -aG libvirt $USER, then log in again"] {
                assert!(fix.contains(part), "{place:?}: {fix}");
            }
        }
    }

    /// A user's own containers and VMs hang on these.
    #[test]
    fn one_that_does_not_answer_is_waited_for_and_no_advice_ends_processes_by_their_name() {
        for daemon in [&DOCKER, &LIBVIRT, &super::super::others::PODMAN] {
            for place in [Place::Elsewhere, Place::Unit, Place::Here] {
                for advice in [daemon.fix_of_no_answer(place), daemon.fix_of_a_trial(place)] {
                    assert!(!advice.contains("kill") && !advice.contains("restart"), "{advice}");
                }
                assert!(daemon.fix_of_no_answer(place).contains("--patience"));
            }
        }
        assert_eq!(restart_libvirt_at(Place::Unit), "sudo systemctl restart libvirtd.service");
        assert!(!restart_libvirt_at(Place::Here).contains("pidof"));
    }

    #[tokio::test]
    async fn a_daemon_that_starts_only_when_it_is_asked_has_the_time_for_it() {
        let slowly = async || {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Error>(())
        };
        let long = super::super::PATIENCE.parse::<Span>().unwrap().0;
        assert_eq!(LIBVIRT.ask(long, slowly()).await, Ok(()));
        let (found, _) = LIBVIRT.ask(Duration::from_millis(1), slowly()).await.unwrap_err();
        assert_eq!(found, "libvirt did not answer in 1ms: busy or hanging");
    }

    #[test]
    fn an_error_that_has_its_fix_is_given_no_other() {
        let error = Error::new("measuring", "it is rootless").with_hint(Some("set DOCKER_HOST=unix:///x"));
        for place in [Place::Elsewhere, Place::Unit, Place::Here] {
            assert_eq!(DOCKER.fix(&error, place), "set DOCKER_HOST=unix:///x");
        }
    }

    #[test]
    fn a_daemon_that_fails_a_trial_is_fixed_with_the_help_of_its_log() {
        assert_eq!(DOCKER.fix_of_a_trial(Place::Unit), "sudo journalctl -eu docker.service shows more");
        let here = LIBVIRT.fix_of_a_trial(Place::Here);
        assert_eq!(here, "sudo tail /var/log/bootrace-libvirtd.log shows more");
        for kind in Kind::ALL {
            assert!(fix_of_a_trial(kind).ends_with("; sudo bootrace clean removes left-overs"), "{kind}");
        }
    }

    #[test]
    fn a_libvirt_without_qemu_names_the_package() {
        let nothing = Hypervisor { offers: Some(Offers::default()), ..Hypervisor::default() };
        let check = emulator(&nothing);
        assert_eq!((check.status, check.stops), (Status::Failed, vec![Kind::Libvirt]));
        assert!(check.fix.unwrap().contains("apt-get install qemu-system-"));
        assert_eq!(emulator(&Hypervisor::default()).status, Status::Failed, "it has not said");
    }
}
