//! Checks what a run needs on this host by using it, and names fixes.
//!
//! A [`Check`] records one attempt. All checks together decide for each target whether and how it can run
//! ([`Ability`]). The doctor changes no setting, removes what it makes, and bounds every check in time: an engine that
//! hangs becomes a finding.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    image::Cache,
    kind::Family,
    probe::kvm::KvmVerdict,
    sample::Accelerator,
    scenario::Kind,
    sys,
    target::{docker::inspect::Engine, libvirt::inspect::Hypervisor},
};

mod accelerator;
mod account;
mod engine;
mod host;
mod image;
mod left_over;
mod others;
mod storage;
mod trial;

use account::Account;

/// How long an engine or an archive may take to answer. A request may have to start the engine: idle libvirtd ends
/// after two minutes, podman's service after seconds, and a start takes long on a busy host.
pub const PATIENCE: &str = "30s";

/// How long a trial of an engine may take in all. The first domain after libvirt's own start takes longest.
fn for_a_trial(patience: Duration) -> Duration {
    patience * 4
}

/// The finding for a time-out. A busy engine is as likely as one that hangs.
fn no_answer(engine: &str, patience: Duration) -> String {
    format!("{engine} did not answer in {patience:?}: busy or hanging")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// Runs are possible, with a drawback.
    Warning,
    /// The targets that depend on it can't run.
    Failed,
    /// The check was not possible; `found` has the reason.
    NotChecked,
}

/// The check of one requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable id for programs.
    pub id: &'static str,
    pub title: &'static str,
    pub status: Status,
    /// The finding as text.
    pub found: String,
    /// A command or an edit.
    pub fix: Option<String>,
    /// The targets that can't run because of it; also for an absent engine that is optional (`not_checked`).
    pub stops: Vec<Kind>,
}

impl Check {
    fn new(id: &'static str, title: &'static str, status: Status, found: impl Into<String>) -> Self {
        Check { id, title, status, found: found.into(), fix: None, stops: Vec::new() }
    }

    fn ok(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Check::new(id, title, Status::Ok, found)
    }

    fn warning(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Check::new(id, title, Status::Warning, found)
    }

    fn failed(id: &'static str, title: &'static str, found: impl Into<String>, stops: &[Kind]) -> Self {
        Check { stops: stops.into(), ..Check::new(id, title, Status::Failed, found) }
    }

    /// A check that was not possible, with the reason.
    fn not_checked(id: &'static str, title: &'static str, why: impl Into<String>) -> Self {
        Check::new(id, title, Status::NotChecked, why)
    }

    /// An optional engine that is absent.
    fn absent(id: &'static str, title: &'static str, found: impl Into<String>, stops: &[Kind]) -> Self {
        Check { stops: stops.into(), ..Check::new(id, title, Status::NotChecked, found) }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Check { fix: Some(fix.into()), ..self }
    }
}

/// Whether a kind of target can run on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ability {
    pub kind: Kind,
    pub can_run: bool,
    /// How it runs: `as a bare process`, `in a container`, `on KVM`, `on KVM (nested)` and other degrees, `emulated
    /// (TCG)`; null if it can't run.
    pub how: Option<&'static str>,
    /// The finding; if it can't run, the reason and the fix.
    pub reason: String,
    /// The checks that stop it, by id.
    pub stopped_by: Vec<&'static str>,
}

/// The report of the doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
    pub targets: Vec<Ability>,
}

impl Report {
    /// Whether all standard targets can run.
    pub fn all_can_run(&self) -> bool {
        self.targets.iter().filter(|target| target.kind.is_standard()).all(|target| target.can_run)
    }

    /// Decides from the checks whether each target can run.
    fn of(checks: Vec<Check>, seen: &Seen) -> Self {
        let targets = Kind::ALL.map(|kind| {
            let stopping: Vec<&Check> = checks.iter().filter(|check| check.stops.contains(&kind)).collect();
            let can_run = stopping.is_empty();
            let how = match kind.family() {
                Family::Process => "as a bare process",
                Family::Container => "in a container",
                Family::Vm => seen.on,
            };
            let good = seen.found.get(&kind).map_or("it answers", String::as_str);
            // Checks are ordered by cause: the first failure explains the others.
            let reason = stopping.first().map_or(good.to_owned(), |check| match &check.fix {
                Some(fix) if !check.found.contains(fix) => format!("{}; fix: {fix}", check.found),
                _ => check.found.clone(),
            });
            let stopped_by = stopping.iter().map(|check| check.id).collect();
            Ability { kind, can_run, how: can_run.then_some(how), reason, stopped_by }
        });
        Report { checks, targets: targets.into() }
    }
}

/// The facts about targets that can run.
#[derive(Debug, Default)]
struct Seen {
    /// Versions for each kind whose engine answered.
    found: BTreeMap<Kind, String>,
    /// What VMs run on, as a phrase.
    on: &'static str,
}

/// Engines that answered, or did not, and the verdict on KVM.
struct Engines {
    docker: (Check, Option<Engine>),
    libvirt: (Check, Option<Hypervisor>),
    /// `None` if it doesn't answer.
    podman: (Check, Option<Engine>),
    /// Whether it answers.
    lxc: (Check, bool),
    verdict: KvmVerdict,
}

impl Engines {
    async fn ask(patience: Duration) -> Self {
        let (docker, libvirt, podman, lxc, verdict) = tokio::join!(
            engine::docker(patience),
            engine::libvirt(patience),
            others::podman(patience),
            others::lxc(patience),
            accelerator::verdict()
        );
        Engines { docker, libvirt, podman, lxc, verdict }
    }

    fn seen(&self) -> Seen {
        let docker = self.docker.1.as_ref().and_then(|engine| engine.version.as_ref());
        let hypervisor = self.libvirt.1.as_ref();
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
        let found = |kind| match kind {
            Kind::Native => "root, with cgroups".to_owned(),
            Kind::Docker => docker.map_or("it answers".into(), |version| format!("Docker {version}")),
            Kind::Libvirt => format!("{versions}; accelerator {accelerator}: {}", self.verdict),
            Kind::Podman => self.podman.0.found.clone(),
            Kind::Lxc => self.lxc.0.found.clone(),
        };
        let found = Kind::ALL.into_iter().map(|kind| (kind, found(kind))).collect();
        Seen { found, on: accelerator::how(&self.verdict) }
    }
}

/// Which engines answer, without a trial. Usually fast; takes at most `patience` for each engine.
pub async fn quick_check(patience: Duration) -> Report {
    let engines = Engines::ask(patience).await;
    let seen = engines.seen();
    let access = accelerator::access(&qemus_account(engines.libvirt.1.as_ref()));
    let mut checks = vec![host::privileges(), host::cgroups(), engines.docker.0, engines.libvirt.0];
    checks.extend(access);
    checks.extend([engines.podman.0, engines.lxc.0]);
    Report::of(checks, &seen)
}

/// All checks and trials. `isolated` is the result of [`crate::target::native::isolate_mounts`].
pub async fn examine(isolated: Result<(), String>, patience: Duration) -> Report {
    let cache = Cache::open(None).map_err(|error| error.to_string());
    // A slow archive or engine delays no trial, and trials hold a run's lock, so the search for left-overs ignores them.
    let left_over = async {
        match &cache {
            Ok(cache) => left_over::check(cache, patience).await,
            Err(why) => Check::not_checked("left_over", "left-overs of earlier runs", why),
        }
    };
    let trying = async {
        let engines = Engines::ask(patience).await;
        let tried = try_engines(&engines, &cache, isolated, patience).await;
        (engines, tried)
    };
    let (image, left_over, (engines, tried)) =
        tokio::join!(image::check(cache.as_ref().ok(), patience), left_over, trying);
    let seen = engines.seen();
    let root = engines.docker.1.and_then(|engine| engine.root);
    let mut checks = vec![host::privileges(), host::kernel(), host::cgroups(), host::clock()];
    checks.extend(storage::check(&cache, root, image.cached));
    checks.extend(image.checks);
    checks.extend(tried);
    checks.push(left_over);
    Report::of(checks, &seen)
}

/// QEMU's user, as libvirt reports it, else by default.
fn qemus_account(hypervisor: Option<&Hypervisor>) -> Account {
    match hypervisor.and_then(|hypervisor| hypervisor.offers.as_ref()) {
        Some(offers) => offers.account.map_or_else(Account::own, |(uid, gid)| Account::new(uid, gid)),
        None => Account::configured_for_qemu(),
    }
}

/// The checks that depend on an engine, and its trials.
async fn try_engines(
    engines: &Engines,
    cache: &Result<Cache, String>,
    isolated: Result<(), String>,
    patience: Duration,
) -> Vec<Check> {
    let bench = match cache {
        Ok(_) if !sys::is_root() => Err("trying it takes root".to_owned()),
        Ok(cache) => trial::Bench::new(cache, patience).map_err(|error| format!("{error:#}")),
        Err(why) => Err(why.clone()),
    };
    let unfit = bench
        .as_ref()
        .err()
        .filter(|_| sys::is_root())
        .map(|why| Check::failed("trial", "files of trials", why, &Kind::ALL).fix(storage::PRUNE));
    let (docker, libvirt) = (&engines.docker, &engines.libvirt);
    let of_libvirt = async {
        let mut checks = vec![libvirt.0.clone(), accelerator::kvm(&engines.verdict)];
        match &libvirt.1 {
            Some(hypervisor) => {
                checks.extend(of_hypervisor(hypervisor, &engines.verdict, &bench, cache).await)
            }
            None => checks.extend(accelerator::access(&qemus_account(None))),
        }
        checks
    };
    let of_docker = async {
        let mut checks = vec![docker.0.clone()];
        if let Some(engine) = &docker.1 {
            checks.extend(engine::docker_details(engine));
            checks.push(match &bench {
                Ok(bench) => bench.docker().await,
                Err(why) => Check::not_checked("docker.trial", "a container", why),
            });
        }
        checks
    };
    let of_native = async {
        match &bench {
            Ok(bench) => bench.native(&isolated).await,
            Err(why) => Check::not_checked("native.trial", "a bare process", why),
        }
    };
    let (native, docker, libvirt, others) =
        tokio::join!(of_native, of_docker, of_libvirt, others::trials(engines, &bench));
    unfit.into_iter().chain([native]).chain(docker).chain(libvirt).chain(others).collect()
}

async fn of_hypervisor(
    hypervisor: &Hypervisor,
    verdict: &KvmVerdict,
    bench: &Result<trial::Bench, String>,
    cache: &Result<Cache, String>,
) -> Vec<Check> {
    let account = qemus_account(Some(hypervisor));
    let access = accelerator::access(&account);
    // Before libvirt's capabilities, since libvirt answers slowly if this check fails.
    let mut checks: Vec<Check> = access.clone().into_iter().collect();
    checks.push(engine::emulator(hypervisor));
    checks.extend(accelerator::remembered(hypervisor, access.as_ref(), verdict));
    let (Ok(bench), Ok(cache)) = (bench, cache) else {
        let why = bench.as_ref().err().or(cache.as_ref().err()).cloned().unwrap_or_default();
        checks.push(Check::not_checked("libvirt.trial", "a VM", why));
        return checks;
    };
    checks.push(bench.readable(&account, cache));
    match checks.iter().find(|check| check.status == Status::Failed) {
        Some(cause) => {
            let why = format!("it would fail or take a minute: see {}", cause.title);
            checks.push(Check::not_checked("libvirt.trial", "a VM", why));
        }
        None => {
            let accelerator = if verdict.runs_linux() { Accelerator::Kvm } else { Accelerator::Tcg };
            checks.extend(bench.libvirt(accelerator).await);
        }
    }
    checks
}
