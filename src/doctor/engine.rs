//! Docker and libvirt: do they answer, and in which version.

use std::{path::Path, time::Duration};

use super::{Check, PATIENCE};
use crate::{
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

/// How long libvirt may take to try out what it offers. Where QEMU's user can't open `/dev/kvm` it does so anew each
/// time.
const DETAILS: Duration = Duration::from_secs(10);

/// How a daemon is started, restarted and named here.
struct Daemon {
    /// As users call it.
    name: &'static str,
    program: &'static str,
    unit: &'static str,
    /// Names another engine than the local one, if it is set.
    variable: &'static str,
}

const DOCKER: Daemon =
    Daemon { name: "Docker", program: "dockerd", unit: "docker.service", variable: "DOCKER_HOST" };
const LIBVIRT: Daemon = Daemon {
    name: "libvirt",
    program: "libvirtd",
    unit: "libvirtd.service",
    variable: "LIBVIRT_DEFAULT_URI",
};

pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

impl Daemon {
    fn restart(&self) -> String {
        match has_systemd() {
            true => format!("sudo systemctl restart {}", self.unit),
            false => format!("sudo kill $(pidof {}); sleep 2; scripts/setup", self.program),
        }
    }

    /// Whether another engine than the local one is asked.
    fn is_elsewhere(&self) -> bool {
        std::env::var_os(self.variable).is_some_and(|named| !named.is_empty())
    }

    fn mend(&self, error: &Error) -> String {
        let denied = ["ermission denied", "authentication"].iter().any(|sign| error.why.contains(sign));
        let installed = || Path::new("/usr/lib/systemd/system").join(self.unit).exists();
        if denied {
            return format!("sudo bootrace doctor, or: sudo usermod -aG {} $USER", self.name.to_lowercase());
        }
        if self.is_elsewhere() {
            return format!("start what {} names, or unset {0}", self.variable);
        }
        match has_systemd() && error.absent && installed() {
            true => format!("sudo systemctl start {}", self.unit),
            false => "scripts/setup".into(),
        }
    }

    fn mend_of_a_hang(&self) -> String {
        match self.is_elsewhere() {
            true => format!("restart what {} names, or unset {0}", self.variable),
            false => self.restart(),
        }
    }

    /// An engine that hangs must not hang us.
    async fn ask<T>(&self, asking: impl Future<Output = Result<T, Error>>) -> Result<T, (String, String)> {
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err((error.to_string(), self.mend(&error))),
            Err(_) => Err((
                format!("{} has not answered for {} s: does it hang?", self.name, PATIENCE.as_secs()),
                self.mend_of_a_hang(),
            )),
        }
    }
}

/// What restarts libvirt.
pub fn restart_libvirt() -> String {
    LIBVIRT.restart()
}

/// Whether Docker answers, and what it says.
pub async fn docker() -> (Check, Option<Engine>) {
    let (id, title) = ("docker", "Docker");
    match DOCKER.ask(docker::inspect()).await {
        Ok(engine) => (Check::ok(id, title, describe(&engine)), Some(engine)),
        Err((found, mend)) => (Check::failed(id, title, found, &[Kind::Docker]).mend(mend), None),
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

/// What an Engine that answers has to be, and whether it can limit what it runs.
pub fn docker_details(engine: &Engine) -> Vec<Check> {
    let (id, title) = ("docker.api", "Docker's API");
    let (major, minor) = engine.api;
    let (least_major, least_minor) = OLDEST_API;
    let api = match engine.api >= OLDEST_API {
        true => {
            Check::ok(id, title, format!("{major}.{minor}, {least_major}.{least_minor} or later is wanted"))
        }
        false => {
            let found =
                format!("{major}.{minor}: older than {least_major}.{least_minor}, which is the oldest tried");
            Check::warning(id, title, found).mend("install Docker 20.10 or later")
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
        false => Check::warning(id, title, warnings.join("; ")).mend(
            "boot with cgroup_enable=memory swapaccount=1 where the kernel has them off; else see the control groups",
        ),
    };
    vec![api, limits]
}

/// Whether libvirt answers, and what it says.
pub async fn libvirt() -> (Check, Option<Hypervisor>) {
    let (id, title) = ("libvirt", "libvirt");
    match LIBVIRT.ask(virt::inspect()).await {
        Ok(mut hypervisor) => {
            let version = hypervisor.libvirt.as_deref().unwrap_or("of unknown version");
            let check = Check::ok(id, title, format!("libvirt {version} at {}", libvirt::uri()));
            if let Ok(Ok((qemu, offers))) = tokio::time::timeout(DETAILS, virt::offers()).await {
                (hypervisor.qemu, hypervisor.offers) = (qemu, Some(offers));
            }
            (check, Some(hypervisor))
        }
        Err((found, mend)) => (Check::failed(id, title, found, &[Kind::Libvirt]).mend(mend), None),
    }
}

/// Whether it has a QEMU for this architecture.
pub fn emulator(hypervisor: &Hypervisor) -> Check {
    let (id, title) = ("qemu", "QEMU");
    let Some(offers) = &hypervisor.offers else {
        let found = format!("libvirt has not said within {} s what it offers", DETAILS.as_secs());
        return Check::failed(id, title, found, &[Kind::Libvirt]).mend(restart_libvirt());
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
            let mend = format!("sudo apt-get install {package} && {}", restart_libvirt());
            Check::failed(id, title, found, &[Kind::Libvirt]).mend(mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use crate::target::libvirt::inspect::Offers;

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
        assert!(checks.iter().all(|check| check.status == Status::Warning && check.mend.is_some()));
        assert!(checks[0].found.starts_with("1.40: older than 1.41"));
        assert_eq!(checks[1].found, "WARNING: No swap limit support");
        let engine = Engine { api: (1, 41), ..Engine::default() };
        assert!(docker_details(&engine).iter().all(|check| check.status == Status::Ok));
    }

    #[test]
    fn a_libvirt_without_qemu_names_the_package() {
        let nothing = Hypervisor { offers: Some(Offers::default()), ..Hypervisor::default() };
        let check = emulator(&nothing);
        assert_eq!((check.status, check.stops), (Status::Failed, vec![Kind::Libvirt]));
        assert!(check.mend.unwrap().contains("apt-get install qemu-system-"));
        assert_eq!(emulator(&Hypervisor::default()).status, Status::Failed, "it has not said");
    }
}
