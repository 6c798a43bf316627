//! A container whose PID 1 is the image's own systemd, which starts the agent by its unit.
//!
//! It gets only what systemd needs: a tmpfs at /run, the variable that says that it is in a container, and a writable
//! cgroup hierarchy. It is not `--privileged`, and has Docker's default capabilities.

use std::{collections::HashMap, path::Path};

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum};

use crate::{
    probe::{Scope, cgroup, process},
    target::Error,
};

/// The PID 1 that the systemd package installs.
const INIT: &str = "/sbin/init";

/// The cgroup hierarchy that systemd may write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroups {
    /// Its path, the same on the host and in the container. On version 1 it is systemd's own hierarchy, which has no
    /// controllers; version 2 has only one.
    dir: &'static str,
}

impl Cgroups {
    /// # Errors
    /// When this host has no hierarchy that systemd can use.
    pub fn of_this_host() -> Result<Self, Error> {
        let tried = "finding the cgroups that a container's systemd needs";
        let version = cgroup::hierarchy().map_err(|e| Error::new(tried, e))?.version;
        let dir = if version == 2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/systemd" };
        let there = Path::new(dir).join("cgroup.procs").exists();
        let fix = "mkdir -p /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd";
        if there { Ok(Cgroups { dir }) } else { Err(Error::new(tried, format!("there is no {dir}: {fix}"))) }
    }

    /// The options that the results record.
    pub fn options(&self) -> [(&'static str, serde_json::Value); 3] {
        [
            ("init", "systemd".into()),
            ("cgroup_namespace", "host".into()),
            ("writable_cgroups", self.dir.into()),
        ]
    }

    /// Changes a container with the agent as PID 1 into one with systemd.
    pub fn add_to(&self, body: &mut ContainerCreateBody) {
        body.entrypoint = Some(vec![INIT.into()]);
        body.env.get_or_insert_default().push("container=docker".into());
        let host = body.host_config.get_or_insert_with(HostConfig::default);
        // In a cgroup namespace the paths of /proc/PID/cgroup would not exist in the mounted hierarchy.
        host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST);
        host.binds.get_or_insert_default().push(format!("{0}:{0}:rw", self.dir));
        // The control socket is mounted below /run afterwards.
        let run = ["/run", "/run/lock"].map(|dir| (dir.into(), "rw,nosuid,nodev,mode=755".into()));
        host.tmpfs = Some(HashMap::from(run));
    }
}

/// The agent is a child of systemd, and systemd of the shim. systemd's cgroup contains all processes.
pub(super) fn scope(agent: u32) -> Scope {
    let systemd = process::parent(agent).unwrap_or(agent);
    Scope { leader: systemd, engine: process::parent(systemd).into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_gets_cgroups_and_memory_for_run_but_neither_privileges_nor_capabilities() {
        let host_config =
            HostConfig { binds: Some(vec!["socket:socket:ro".into()]), ..HostConfig::default() };
        let mut body =
            ContainerCreateBody { host_config: Some(host_config), ..ContainerCreateBody::default() };
        Cgroups { dir: "/sys/fs/cgroup/systemd" }.add_to(&mut body);
        assert_eq!(body.entrypoint, Some(vec!["/sbin/init".into()]));
        let host = body.host_config.unwrap();
        let binds = host.binds.unwrap();
        assert_eq!(binds, ["socket:socket:ro", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd:rw"]);
        let tmpfs = host.tmpfs.unwrap();
        assert!(tmpfs.contains_key("/run") && tmpfs.contains_key("/run/lock"));
        assert!(host.privileged.is_none() && host.cap_add.is_none() && host.security_opt.is_none());
    }
}
