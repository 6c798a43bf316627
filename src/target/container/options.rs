//! A container's network, log driver and runtime: as the scenario names them, checked against the engine's.

use std::collections::HashMap;

use bollard::{Docker as Client, models::SystemInfo};

use super::{ContainerEngine, connect_to, failed};
use crate::{scenario, sys, target::Error};

/// The engines' network of loopback alone.
pub(super) const NO_NETWORK: &str = "none";
/// The host's own network.
const HOST_NETWORK: &str = "host";

/// A target's resolved options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub network: String,
    /// Any driver but `none` adds its work to start-up. The logs of `json-file` and `local` are removed with the
    /// container; the other drivers keep theirs.
    pub log_driver: String,
    /// The engine's default if the scenario names none; `None` if the engine does not report it.
    pub runtime: Option<String>,
}

/// Checks that the engine has what the target's options name, before anything is built for it.
///
/// # Errors
/// When it does not answer or lacks one of them, with a list of what it has.
pub async fn check(engine: ContainerEngine, spec: &scenario::ScenarioTarget) -> Result<(), Error> {
    let client = connect_to(engine).await?;
    let failed = |e| failed(engine, format!("asking {} what it has", engine.name()), &e);
    let info = client.info().await.map_err(failed)?;
    resolve(engine, &client, &info, spec, false).await.map(drop)
}

impl Resolved {
    /// The settings of a container's own network: ::1 as everywhere else, which Docker switches off without an IPv6 network.
    pub(super) fn sysctls(&self) -> Option<HashMap<String, String>> {
        let own = self.network != HOST_NETWORK && sys::has_ipv6();
        own.then(|| HashMap::from([("net.ipv6.conf.lo.disable_ipv6".into(), "0".into())]))
    }
}

/// `network`: whether the workload needs one.
pub(super) async fn resolve(
    engine: ContainerEngine,
    client: &Client,
    info: &SystemInfo,
    spec: &scenario::ScenarioTarget,
    network: bool,
) -> Result<Resolved, Error> {
    let (its, program) = (engine.name(), engine.key());
    let container = spec.container().cloned().unwrap_or_default();
    let runtime = spec.docker().and_then(|docker| docker.runtime.clone());
    if let Some(name) = &container.network {
        let failed = |e| failed(engine, format!("asking {its} for its networks"), &e);
        let networks = client.list_networks(None).await.map_err(failed)?;
        let known = networks.into_iter().filter_map(|network| network.name).collect();
        has(name, known, &format!("{program} network create {name} makes one")).map_err(|why| {
            Error::new(format!("using {its}'s network {name} for target {}", spec.name), why)
        })?;
    }
    if let Some(name) = container.log_driver.as_deref().filter(|name| *name != "none") {
        let known = info.plugins.as_ref().and_then(|plugins| plugins.log.clone()).unwrap_or_default();
        has(name, known.into_iter().chain(["none".into()]).collect(), "docker plugin install adds others")
            .map_err(|why| {
                Error::new(format!("using {its}'s log driver {name} for target {}", spec.name), why)
            })?;
    }
    if let Some(name) = &runtime {
        let known = info.runtimes.iter().flatten().map(|(name, _)| name.clone()).collect();
        let listed = has(name, known, "the Engine's configuration (daemon.json, \"runtimes\") names others");
        if !(takes_any_shim(client) && name.starts_with("io.containerd.")) {
            listed.map_err(|why| {
                Error::new(format!("using {its}'s runtime {name} for target {}", spec.name), why)
            })?;
        }
    }
    let default_network = if network { "bridge" } else { NO_NETWORK };
    Ok(Resolved {
        network: container.network.unwrap_or_else(|| default_network.into()),
        log_driver: container.log_driver.unwrap_or_else(|| "none".into()),
        runtime: runtime.or_else(|| info.default_runtime.clone()),
    })
}

/// Since API 1.42 (Docker 23) the engine takes each containerd shim by its name, listed or not.
fn takes_any_shim(client: &Client) -> bool {
    let version = client.client_version();
    (version.major_version, version.minor_version) >= (1, 42)
}

pub(crate) fn has(name: &str, mut known: Vec<String>, fix: &str) -> Result<(), String> {
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    known.sort_unstable();
    // A host may have hundreds of networks.
    let more = if known.len() > MOST_SHOWN { ", ..." } else { "" };
    known.truncate(MOST_SHOWN);
    Err(format!("the Engine has none of this name: it has {}{more}; {fix}", known.join(", ")))
}

const MOST_SHOWN: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_option_is_refused_with_the_available_ones() {
        let known = || vec!["runc".to_owned(), "crun".to_owned()];
        assert_eq!(has("runc", known(), "fix"), Ok(()));
        assert_eq!(
            has("runsc", known(), "add it"),
            Err("the Engine has none of this name: it has crun, runc; add it".into())
        );
        let many = (0..100).map(|n| format!("net{n}")).collect();
        assert!(has("x", many, "add it").unwrap_err().ends_with("net35, ...; add it"));
    }
}
