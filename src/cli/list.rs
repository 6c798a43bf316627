//! `bootrace list`: what is there to run, and where it can run on this host.

use std::{fmt::Write, io, os::unix::net::UnixStream, path::Path};

use serde::Serialize;

use super::{BAD, Failure, GOOD, HEADING, print};
use crate::scenario::{self, Kind};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints scenarios and targets. A target that can't run is no failure.
pub fn run(options: &Options) -> Result<(), Failure> {
    let listing = Listing {
        scenarios: scenario::names().into_iter().map(Entry::new).collect(),
        targets: Kind::ALL.map(Host::new).into(),
    };
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
    fn new(kind: Kind) -> Self {
        let found = match kind {
            Kind::Native => native(),
            Kind::Docker => docker(),
            Kind::Libvirt => libvirt(),
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

fn docker() -> Result<String, String> {
    let mend = "install docker.io, start dockerd (systemctl start docker)";
    let socket = match std::env::var("DOCKER_HOST") {
        Err(_) => "/var/run/docker.sock".to_string(),
        Ok(host) => match host.strip_prefix("unix://") {
            Some(path) => path.to_string(),
            None => {
                return Err(format!(
                    "DOCKER_HOST is {host:?}, which is not on this host: unset it, or give unix:///PATH"
                ));
            }
        },
    };
    answers(&[&socket], mend, "docker")
}

fn libvirt() -> Result<String, String> {
    let mend = "install libvirt-daemon-system, start libvirtd (systemctl start libvirtd)";
    answers(&["/var/run/libvirt/libvirt-sock", "/var/run/libvirt/virtqemud-sock"], mend, "libvirt")
}

/// Whether someone listens on one of these sockets; `mend` for when no one does, `group` for when
/// the user may not connect.
fn answers(sockets: &[&str], mend: &str, group: &str) -> Result<String, String> {
    let mut reasons = Vec::new();
    for socket in sockets {
        match UnixStream::connect(socket) {
            Ok(_) => return Ok(format!("{socket} answers")),
            Err(error) => {
                let mend = match error.kind() {
                    io::ErrorKind::PermissionDenied => format!("join the group {group}, or use sudo"),
                    _ => mend.to_string(),
                };
                reasons.push((error.kind(), format!("connecting to {socket}: {error}: {mend}")));
            }
        }
    }
    // A socket that is there says more than one that is not.
    reasons.sort_by_key(|(kind, _)| *kind == io::ErrorKind::NotFound);
    Err(reasons.into_iter().next().map_or_else(|| mend.to_string(), |(_, reason)| reason))
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
