//! libvirt, QEMU and KVM: whether they answer, what they offer, and a VM.

use std::time::Duration;

use async_trait::async_trait;

use super::{Check, Diagnosis, Status, Trials, accelerator, account::Account, asking};
use crate::{
    daemon::{LIBVIRT, Naming},
    kind::Kind,
    probe::kvm::{KvmVerdict, closed_to_qemu},
    sample::Accelerator,
    scenario::uri,
    sys::load::Load,
    target::{
        libvirt::Driver,
        vm::inspect::{self, Hypervisor},
    },
};

pub struct Vms {
    check: Check,
    /// `None` if libvirt does not answer.
    hypervisor: Option<Hypervisor>,
    verdict: KvmVerdict,
}

/// Asks libvirt, and runs the probe guest on KVM.
pub async fn ask(patience: Duration) -> Vms {
    let ((check, hypervisor), verdict) = tokio::join!(ask_libvirt(patience), accelerator::verdict());
    Vms { check, hypervisor, verdict }
}

/// How long libvirt may take to try out what it offers. Where QEMU's user can't open `/dev/kvm` that takes a minute each
/// time: the doctor reports the cause and does not wait.
fn for_details(patience: Duration) -> Duration {
    if closed_to_qemu().is_some() { patience / 3 } else { patience * 2 }
}

async fn ask_libvirt(patience: Duration) -> (Check, Option<Hypervisor>) {
    let (id, title) = ("libvirt", "libvirt");
    let uri = Driver::Qemu.uri();
    if let Err(why) = uri::fits(Kind::Libvirt, &uri) {
        let Naming { by, undo } = Driver::Qemu.naming().expect("bootrace's default fits");
        let found = format!("VMs can't be measured at {uri:?}, which {by} names: {why}");
        return (Check::failed(id, title, found, &[Kind::Libvirt]).fix(undo), None);
    }
    match asking::ask(patience, inspect::inspect()).await {
        Ok(mut hypervisor) => {
            let version = hypervisor.libvirt.as_deref().unwrap_or("of unknown version");
            let check =
                Check::ok(id, title, format!("libvirt {version} at {}", Driver::Qemu.shown_address()));
            let details = tokio::time::timeout(for_details(patience), inspect::offers()).await;
            if let Ok(Ok((qemu, offers))) = details {
                (hypervisor.qemu, hypervisor.offers) = (qemu, Some(offers));
            }
            (check, Some(hypervisor))
        }
        Err(error) => {
            let (found, fix) = error.explain(&LIBVIRT, Driver::Qemu.place(), patience);
            (Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix), None)
        }
    }
}

/// Whether libvirt has a QEMU for this architecture.
fn emulator(hypervisor: &Hypervisor) -> Check {
    let (id, title) = ("qemu", "QEMU");
    let Some(offers) = &hypervisor.offers else {
        let found =
            format!("libvirt answers, but did not report in time what it offers: {}", Load::now().explain());
        let fix = asking::fix_of_no_answer(&LIBVIRT, Driver::Qemu.place());
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
            let found = format!("libvirt has no QEMU for {arch}");
            let install = format!("sudo apt-get install {package}");
            // libvirt remembers which programs it found.
            let fix = match Driver::Qemu.is_usual() {
                true => format!("{install} && {}", LIBVIRT.restart(Driver::Qemu.place())),
                false => install,
            };
            Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix)
        }
    }
}

impl Vms {
    /// The account that libvirt runs QEMU as: as libvirt reports it, else as it is configured.
    fn account(&self) -> Account {
        match self.hypervisor.as_ref().and_then(|hypervisor| hypervisor.offers.as_ref()) {
            Some(offers) => offers.account.map_or_else(Account::own, |(uid, gid)| Account::new(uid, gid)),
            None => Account::configured_for_qemu(),
        }
    }

    /// QEMU, its user's access, and a VM; each needs those before it.
    async fn examine_hypervisor(&self, hypervisor: &Hypervisor, trials: &Trials<'_>) -> Vec<Check> {
        let (id, title) = ("libvirt.trial", "a VM");
        let account = self.account();
        let access = accelerator::access(&account);
        // Comes first: without access libvirt is slow to report anything on QEMU.
        let mut checks: Vec<Check> = access.clone().into_iter().collect();
        checks.push(emulator(hypervisor));
        checks.extend(accelerator::remembered(hypervisor, access.as_ref(), &self.verdict));
        let (Ok(bench), Ok(cache)) = (trials.bench, trials.cache) else {
            let why = trials.bench.as_ref().err().or(trials.cache.as_ref().err()).cloned();
            checks.push(Check::not_checked(id, title, why.unwrap_or_default()));
            return checks;
        };
        checks.push(bench.readable(&account, cache));
        match checks.iter().find(|check| check.status == Status::Failed) {
            Some(cause) => {
                let why = format!("it would fail or take a minute: see {}", cause.title);
                checks.push(Check::not_checked(id, title, why));
            }
            None => {
                let accelerator = if self.verdict.runs_linux() { Accelerator::Kvm } else { Accelerator::Tcg };
                checks.extend(bench.libvirt(accelerator).await);
            }
        }
        checks
    }
}

#[async_trait(?Send)]
impl Diagnosis for Vms {
    fn found(&self) -> String {
        let hypervisor = self.hypervisor.as_ref();
        let named = [
            ("libvirt", hypervisor.and_then(|it| it.libvirt.as_ref())),
            ("QEMU", hypervisor.and_then(|it| it.qemu.as_ref())),
        ];
        let versions = named.into_iter().filter_map(|(name, version)| Some(format!("{name} {}", version?)));
        let versions = versions.collect::<Vec<_>>().join(", ");
        let accelerator = match &self.verdict {
            KvmVerdict::Runs { .. } => "KVM",
            KvmVerdict::Unknown { .. } => "unknown",
            KvmVerdict::Missing { .. } | KvmVerdict::Broken { .. } | KvmVerdict::Emulated { .. } => {
                "TCG (emulated)"
            }
        };
        format!("{versions}; accelerator {accelerator}: {}", self.verdict)
    }

    fn how(&self, _: Kind) -> &'static str {
        accelerator::how(&self.verdict)
    }

    fn quick_check(&self) -> Vec<Check> {
        let access = accelerator::access(&self.account());
        [self.check.clone()].into_iter().chain(access).collect()
    }

    async fn examine(&self, trials: &Trials<'_>) -> Vec<Check> {
        let mut checks = vec![self.check.clone(), accelerator::kvm(&self.verdict)];
        match &self.hypervisor {
            Some(hypervisor) => checks.extend(self.examine_hypervisor(hypervisor, trials).await),
            None => checks.extend(accelerator::access(&self.account())),
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::vm::inspect::Offers;

    #[test]
    fn a_libvirt_without_qemu_names_the_package() {
        let nothing = Hypervisor { offers: Some(Offers::default()), ..Hypervisor::default() };
        let check = emulator(&nothing);
        assert_eq!((check.status, check.stops), (Status::Failed, vec![Kind::Libvirt]));
        assert!(check.fix.unwrap().contains("apt-get install qemu-system-"));
        assert_eq!(emulator(&Hypervisor::default()).status, Status::Failed, "it has not reported");
    }
}
