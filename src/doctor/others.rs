//! Checks the engines that only scenarios with their kinds need: podman, and libvirt's LXC driver. The absence of one
//! stops no other target.

use std::time::Duration;

use super::{
    Check, Engines,
    engine::{Daemon, LIBVIRT},
    trial::Bench,
};
use crate::{
    image::ContainerEngine,
    scenario::Kind,
    target::{
        docker::inspect::{self, Engine},
        libvirt::lxc,
    },
};

pub(super) const PODMAN: Daemon = Daemon {
    name: "podman",
    program: "podman",
    unit: "podman.socket",
    variable: "CONTAINER_HOST",
    group: None,
};

/// Whether podman's service answers, and its versions.
pub async fn podman(patience: Duration) -> (Check, Option<Engine>) {
    let (id, title) = ("podman", "podman");
    if !ContainerEngine::Podman.may_exist() {
        let found = format!(
            "there is no {}: only targets with kind = \"podman\" need it",
            ContainerEngine::Podman.address().trim_start_matches("unix://")
        );
        return (Check::absent(id, title, found, &[Kind::Podman]).fix("scripts/setup"), None);
    }
    match PODMAN.ask(patience, inspect::inspect(ContainerEngine::Podman)).await {
        Ok(engine) => (Check::ok(id, title, describe(&engine)), Some(engine)),
        Err((found, fix)) => (Check::failed(id, title, found, &[Kind::Podman]).fix(fix), None),
    }
}

fn describe(engine: &Engine) -> String {
    let (major, minor) = engine.api;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    format!(
        "podman {}, API {major}.{minor}, runtime {}, storage driver {}",
        or_unknown(&engine.version),
        or_unknown(&engine.runtime),
        or_unknown(&engine.storage)
    )
}

/// Whether libvirt has its LXC driver.
pub async fn lxc(patience: Duration) -> (Check, bool) {
    let (id, title) = ("lxc", "libvirt's LXC driver");
    match LIBVIRT.ask_as_is(patience, lxc::inspect()).await {
        Ok(Ok(version)) => {
            let version = version.as_deref().unwrap_or("of unknown version");
            (Check::ok(id, title, format!("libvirt {version} at {}", lxc::uri())), true)
        }
        Ok(Err(error)) if lxc::is_missing(&error) || error.is_unreachable() => {
            let found = format!("{}: only targets with kind = \"lxc\" need it", error.why);
            (Check::absent(id, title, found, &[Kind::Lxc]).fix("scripts/setup"), false)
        }
        Ok(Err(error)) => {
            let fix = LIBVIRT.fix(&error, LIBVIRT.place_here());
            (Check::failed(id, title, error.without_hint(), &[Kind::Lxc]).fix(fix), false)
        }
        Err(found) => {
            let fix = LIBVIRT.fix_of_no_answer(LIBVIRT.place_here());
            (Check::failed(id, title, found, &[Kind::Lxc]).fix(fix), false)
        }
    }
}

/// A trial of each one that answers.
pub async fn trials(engines: &Engines, bench: &Result<Bench, String>) -> Vec<Check> {
    let untried = |id, title| move |why: &String| Check::not_checked(id, title, why);
    let podman = async {
        match (&engines.podman.1, bench) {
            (None, _) => None,
            (Some(_), Ok(bench)) => Some(bench.podman().await),
            (Some(_), Err(why)) => Some(untried("podman.trial", "a container of podman's")(why)),
        }
    };
    let lxc = async {
        match (engines.lxc.1, bench) {
            (false, _) => None,
            (true, Ok(bench)) => Some(bench.lxc().await),
            (true, Err(why)) => Some(untried("lxc.trial", "a container of libvirt's")(why)),
        }
    };
    let (podman, lxc) = tokio::join!(podman, lxc);
    let checks = [Some(engines.podman.0.clone()), podman, Some(engines.lxc.0.clone()), lxc];
    checks.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Report, Seen, Status},
        *,
    };

    #[test]
    fn an_engine_that_need_not_be_here_stops_its_own_target_and_no_run_of_others() {
        let absent = Check::absent("podman", "podman", "there is none", &[Kind::Podman]).fix("scripts/setup");
        assert_eq!(absent.status, Status::NotChecked);
        let report = Report::of(vec![absent], &Seen::default());
        assert!(report.all_can_run());
        let of = |kind| report.targets.iter().find(|target| target.kind == kind).unwrap();
        assert!(!of(Kind::Podman).can_run && of(Kind::Lxc).can_run && of(Kind::Docker).can_run);
        assert_eq!(of(Kind::Podman).reason, "there is none; fix: scripts/setup");
        assert_eq!(of(Kind::Podman).stopped_by, ["podman"]);
        let standard = Check::failed("docker", "Docker", "it hangs", &[Kind::Docker]);
        assert!(!Report::of(vec![standard], &Seen::default()).all_can_run());
    }
}
