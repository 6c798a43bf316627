//! libvirt's LXC driver, and a container of it.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    Check, Diagnosis, Trials,
    asking::{self, NoAnswer},
};
use crate::{
    cause::Cause,
    daemon::LIBVIRT,
    kind::Kind,
    target::{libvirt::Driver, lxc},
};

pub struct Lxc {
    check: Check,
    answers: bool,
}

/// Asks libvirt for its LXC driver.
pub async fn ask(patience: Duration) -> Lxc {
    let (id, title) = ("lxc", "libvirt's LXC driver");
    match asking::ask(patience, lxc::inspect()).await {
        Ok(version) => {
            let version = version.as_deref().unwrap_or("of unknown version");
            let found = format!("libvirt {version} at {}", Driver::Lxc.shown_address());
            Lxc { check: Check::ok(id, title, found), answers: true }
        }
        Err(NoAnswer::Failed(error))
            if Driver::Lxc.is_usual() && matches!(error.cause, Cause::Unreachable | Cause::Unsupported) =>
        {
            let found = format!("{}: only targets with kind = \"lxc\" need it", error.why);
            Lxc { check: Check::absent(id, title, found, &[Kind::Lxc]).fix("scripts/setup"), answers: false }
        }
        Err(error) => {
            let (found, fix) = error.explain(&LIBVIRT, Driver::Lxc.place(), patience);
            Lxc { check: Check::failed(id, title, found, &[Kind::Lxc]).fix(fix), answers: false }
        }
    }
}

#[async_trait(?Send)]
impl Diagnosis for Lxc {
    fn found(&self) -> String {
        self.check.found.clone()
    }

    fn quick_check(&self) -> Vec<Check> {
        vec![self.check.clone()]
    }

    async fn examine(&self, trials: &Trials<'_>) -> Vec<Check> {
        let mut checks = self.quick_check();
        if self.answers {
            checks.push(match trials.bench {
                Ok(bench) => bench.lxc().await,
                Err(why) => Check::not_checked("lxc.trial", "a libvirt container", why),
            });
        }
        checks
    }
}
