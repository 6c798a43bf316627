//! `bootrace list`: what is there to run, and where it can run on this host.

use std::{
    fmt::{Display, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;
use tokio::task::JoinError;

use super::{BAD, Failure, GOOD, HEADING, print};
use crate::{
    probe::kvm,
    scenario::{self, Kind},
    target::{docker, libvirt},
};

/// How long an engine may take for each answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints scenarios and targets. A target that can't run is no failure.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    let listing = Listing {
        scenarios: scenario::names().into_iter().map(Entry::new).collect(),
        targets: runtime.block_on(futures_util::future::join_all(Kind::ALL.map(Host::new))),
    };
    // Without waiting for a call that hangs.
    runtime.shutdown_background();
    print(&if options.json { listing.json() } else { listing.text() })
}

#[derive(Debug, Serialize)]
struct Listing {
    scenarios: Vec<Entry>,
    targets: Vec<Host>,
}

/// A scenario that can be named.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    description: Option<String>,
    /// Null for a scenario in the binary.
    path: Option<String>,
    targets: Vec<String>,
    /// Why it can't be used.
    error: Option<String>,
}

impl Entry {
    fn new(name: String) -> Self {
        let path = format!("{}/{name}.toml", scenario::FOLDER);
        let path = Path::new(&path).exists().then_some(path);
        match scenario::find(&name) {
            Ok((scenario, _)) => Entry {
                name,
                description: scenario.description,
                path,
                targets: scenario.targets.into_iter().map(|target| target.name).collect(),
                error: None,
            },
            Err(error) => {
                Entry { name, description: None, path, targets: Vec::new(), error: Some(error.to_string()) }
            }
        }
    }
}

/// A kind of target on this host.
#[derive(Debug, Serialize)]
struct Host {
    kind: Kind,
    can_run: bool,
    /// What was found; for one that can't run, why and the mend.
    reason: String,
}

impl Host {
    async fn new(kind: Kind) -> Self {
        let found = match kind {
            Kind::Native => native(),
            Kind::Docker => docker().await,
            Kind::Libvirt => libvirt().await,
        };
        let can_run = found.is_ok();
        Host { kind, can_run, reason: found.unwrap_or_else(|reason| reason) }
    }
}

/// A bare process gets a root file system and cgroup limits of its own, which takes root.
fn native() -> Result<String, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root, for a root file system and cgroup limits: use sudo".into());
    }
    let cgroups = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/memory"];
    match cgroups.iter().any(|path| Path::new(path).exists()) {
        true => Ok("root, with cgroups".into()),
        false => Err("no cgroups are mounted at /sys/fs/cgroup: mount them".into()),
    }
}

async fn docker() -> Result<String, String> {
    let client = in_time(docker::connect(), "Docker").await?;
    let version = in_time(client.version(), "Docker").await?;
    Ok(version.version.map_or("it answers".into(), |version| format!("Docker {version}")))
}

async fn libvirt() -> Result<String, String> {
    let connection = in_time(libvirt::connect(), "libvirt").await?;
    let versions = blocking(move || {
        // major * 1,000,000 + minor * 1,000 + release
        let read = |v: u32| format!("{}.{}.{}", v / 1_000_000, v / 1_000 % 1_000, v % 1_000);
        let named = [("libvirt", connection.lib_version()), ("QEMU", connection.hyp_version())];
        let known = named.into_iter().filter_map(|(name, v)| Some(format!("{name} {}", read(v.ok()?))));
        known.collect::<Vec<_>>().join(", ")
    });
    let (versions, verdict) = tokio::join!(in_time(versions, "libvirt"), blocking(kvm::probe));
    let verdict = verdict.map_err(|error| format!("probing KVM: {error}"))?;
    let accelerator = match verdict {
        kvm::Verdict::Hardware { .. } => "KVM",
        _ => "TCG (emulated)",
    };
    let closed = kvm::closed_to_qemu().map(|why| format!(". {why}")).unwrap_or_default();
    Ok(format!("{}; accelerator {accelerator}: {verdict}{closed}", versions?))
}

/// An engine that hangs must not hang the list.
async fn in_time<T, E: Display>(
    asking: impl Future<Output = Result<T, E>>,
    engine: &str,
) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!(
            "{engine} has not answered for {} s: does it hang? scripts/setup starts it",
            PATIENCE.as_secs()
        )),
    }
}

/// For calls that block.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(call).await
}

impl Listing {
    fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("all keys are strings");
        format!("{json}\n")
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADING}Scenarios{HEADING:#}\n");
        let width = self.scenarios.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
        for entry in &self.scenarios {
            let source = entry.path.as_deref().unwrap_or("built in");
            let _ = match (&entry.error, &entry.description) {
                (Some(error), _) => {
                    let first = error.lines().next().unwrap_or_default();
                    writeln!(text, "  {:width$}  {BAD}wrong{BAD:#}: {first}", entry.name)
                }
                (None, Some(description)) => {
                    writeln!(text, "  {:width$}  {description} ({source})", entry.name)
                }
                (None, None) => writeln!(text, "  {:width$}  ({source})", entry.name),
            };
        }
        let _ = writeln!(text, "\n{HEADING}Targets{HEADING:#}");
        for Host { kind, can_run, reason } in &self.targets {
            let _ = match can_run {
                true => writeln!(text, "  {kind:7}  {GOOD}can run{GOOD:#}: {reason}"),
                false => writeln!(text, "  {kind:7}  {BAD}can't run{BAD:#}: {reason}"),
            };
        }
        text
    }
}
