//! Checks what a run needs of this host by using it, and names the fix of what is wrong.
//!
//! A [`Check`] is the record of one trial. All of them decide for each kind of target whether it can run, and how
//! ([`Ability`]); each kind has a [`Diagnosis`]. The doctor changes no setting and removes what it makes. Every check is
//! bounded in time: an engine that hangs is a finding.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    image::{Cache, ContainerEngine},
    kind::Kind,
    sys::{self, load::Load},
};

mod accelerator;
mod account;
mod asking;
mod check;
mod container;
mod diagnosis;
mod host;
mod image;
mod left_over;
mod lxc;
mod native;
mod storage;
mod trial;
mod vm;

pub use check::{Check, Status};
use diagnosis::{Diagnosis, Trials};

/// How long an engine or an archive may take to answer. Some engines start on demand (libvirtd ends after two idle minutes,
/// podman's service after seconds).
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an engine may take to answer, unless the user says otherwise: longer on a busy host.
pub fn patience() -> Duration {
    Load::now().prolong(PATIENCE)
}

/// Whether a kind of target can run on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ability {
    pub kind: Kind,
    pub can_run: bool,
    /// `as a bare process`, `in a container`, `on KVM`, `on KVM (nested)` and other degrees, `emulated (TCG)`;
    /// null if it can't run.
    pub how: Option<&'static str>,
    /// The finding; if it can't run, why and the fix.
    pub reason: String,
    /// The checks that stop it, by id.
    pub stopped_by: Vec<&'static str>,
}

/// Every finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
    pub targets: Vec<Ability>,
}

impl Report {
    /// Whether every standard kind can run.
    pub fn all_can_run(&self) -> bool {
        self.targets.iter().filter(|target| target.kind.is_standard()).all(|target| target.can_run)
    }

    /// Decides for each kind by the checks that stop it.
    fn of(checks: Vec<Check>, seen: &BTreeMap<Kind, Seen>) -> Self {
        let targets = Kind::ALL.map(|kind| {
            let stopping: Vec<&Check> = checks.iter().filter(|check| check.stops.contains(&kind)).collect();
            let can_run = stopping.is_empty();
            let seen = seen.get(&kind);
            let good = seen.map_or("it answers", |seen| seen.found.as_str());
            // Checks are ordered by cause: the first failure explains the others.
            let reason = stopping.first().map_or(good.to_owned(), |check| match &check.fix {
                Some(fix) if !check.found.contains(fix) => format!("{}; fix: {fix}", check.found),
                _ => check.found.clone(),
            });
            let stopped_by = stopping.iter().map(|check| check.id).collect();
            let how = seen.map(|seen| seen.how).filter(|_| can_run);
            Ability { kind, can_run, how, reason, stopped_by }
        });
        Report { checks, targets: targets.into() }
    }
}

/// What the doctor reports of a kind that can run.
#[derive(Debug)]
struct Seen {
    found: String,
    how: &'static str,
}

/// Asks the engine of a kind.
async fn diagnose(kind: Kind, patience: Duration) -> Box<dyn Diagnosis> {
    match kind {
        Kind::Native => Box::new(native::Native),
        Kind::Docker => Box::new(container::ask(ContainerEngine::Docker, patience).await),
        Kind::Podman => Box::new(container::ask(ContainerEngine::Podman, patience).await),
        Kind::Libvirt => Box::new(vm::ask(patience).await),
        Kind::Lxc => Box::new(lxc::ask(patience).await),
    }
}

type Diagnoses = Vec<(Kind, Box<dyn Diagnosis>)>;

/// Asks the engine of every kind, all at once.
async fn diagnose_all(patience: Duration) -> Diagnoses {
    join_all(Kind::ALL.map(|kind| async move { (kind, diagnose(kind, patience).await) })).await
}

fn seen(diagnoses: &Diagnoses) -> BTreeMap<Kind, Seen> {
    let seen =
        |(kind, it): &(Kind, Box<dyn Diagnosis>)| (*kind, Seen { found: it.found(), how: it.how(*kind) });
    diagnoses.iter().map(seen).collect()
}

/// Asks every engine and starts nothing: quick, and bounded by `patience` for each engine.
pub async fn quick_check(patience: Duration) -> Report {
    let diagnoses = diagnose_all(patience).await;
    let mut checks = vec![host::privileges(), host::cgroups()];
    checks.extend(diagnoses.iter().flat_map(|(_, diagnosis)| diagnosis.quick_check()));
    Report::of(checks, &seen(&diagnoses))
}

/// Checks everything by using it. `isolated` is the result of [`crate::target::native::isolate_mounts`].
pub async fn examine(isolated: Result<(), String>, patience: Duration) -> Report {
    let cache = Cache::open(None).map_err(|error| error.to_string());
    // A slow archive or a hanging engine delays no trial. Trials hold a run's lock: what they make is no left-over.
    let left_over = async {
        match &cache {
            Ok(cache) => left_over::check(cache, patience).await,
            Err(why) => Check::not_checked("left_over", "left-overs of earlier runs", why),
        }
    };
    let trying = async {
        let diagnoses = diagnose_all(patience).await;
        let tried = try_engines(&diagnoses, &cache, &isolated, patience).await;
        (diagnoses, tried)
    };
    let (image, left_over, (diagnoses, tried)) =
        tokio::join!(image::check(cache.as_ref().ok(), patience), left_over, trying);
    let mut checks = vec![host::privileges(), host::kernel(), host::cgroups(), host::clock()];
    checks.push(storage::cache(&cache, image.cached));
    checks.extend(diagnoses.iter().filter_map(|(_, diagnosis)| diagnosis.space(image.cached)));
    checks.push(storage::temporary());
    checks.extend(image.checks);
    checks.extend(tried);
    checks.push(left_over);
    Report::of(checks, &seen(&diagnoses))
}

/// Each engine's checks, with an instance that runs.
async fn try_engines(
    diagnoses: &Diagnoses,
    cache: &Result<Cache, String>,
    isolated: &Result<(), String>,
    patience: Duration,
) -> Vec<Check> {
    let bench = match cache {
        Ok(_) if !sys::is_root() => Err("a trial needs root".to_owned()),
        Ok(cache) => trial::Bench::new(cache, patience).map_err(|error| format!("{error:#}")),
        Err(why) => Err(why.clone()),
    };
    let unfit = bench
        .as_ref()
        .err()
        .filter(|_| sys::is_root())
        .map(|why| Check::failed("trial", "files of trials", why, &Kind::ALL).fix(storage::PRUNE));
    let trials = Trials { bench: &bench, cache, isolated };
    let tried = join_all(diagnoses.iter().map(|(_, diagnosis)| diagnosis.examine(&trials))).await;
    unfit.into_iter().chain(tried.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_need_not_be_here_stops_its_own_target_and_no_run_of_others() {
        let absent = Check::absent("podman", "podman", "there is none", &[Kind::Podman]).fix("scripts/setup");
        assert_eq!(absent.status, Status::NotChecked);
        let report = Report::of(vec![absent], &BTreeMap::new());
        assert!(report.all_can_run());
        let of = |kind| report.targets.iter().find(|target| target.kind == kind).unwrap();
        assert!(!of(Kind::Podman).can_run && of(Kind::Lxc).can_run && of(Kind::Docker).can_run);
        assert_eq!(of(Kind::Podman).reason, "there is none; fix: scripts/setup");
        assert_eq!(of(Kind::Podman).stopped_by, ["podman"]);
        let standard = Check::failed("docker", "Docker", "it hangs", &[Kind::Docker]);
        assert!(!Report::of(vec![standard], &BTreeMap::new()).all_can_run());
    }
}
