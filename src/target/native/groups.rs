//! The cgroups of bare processes: creates them with the limits that Docker would set, empties and removes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    kind::Kind,
    probe::cgroup::{self, Hierarchy},
    scenario::Resources,
    sys::processes::{self, send_kill},
    target::{Error, LeftOver, ResourceKind, instance_name::is_instance},
};

/// The parent of all instances' cgroups, below the root of each hierarchy.
const CGROUP: &str = "bootrace";

/// Kills every process in the cgroup, the agent last so that it reaps the others, and waits for their end through
/// pidfds.
///
/// # Errors
/// When the cgroup can't be read, a process can't be signalled, or one has not ended after 30 s.
pub fn kill(dir: &Path, leader: Option<u32>) -> io::Result<()> {
    loop {
        let mut pids = cgroup::pids(dir).map_err(io::Error::other)?;
        // On version 1 a harness that is about to launch has a thread in the cgroup.
        pids.retain(|pid| *pid != std::process::id());
        if pids.iter().any(|pid| Some(*pid) != leader) {
            pids.retain(|pid| Some(*pid) != leader);
        }
        let open = |pid: &u32| Some((*pid, processes::open(pid.cast_signed())?));
        let handles: Vec<_> = pids.iter().filter_map(open).collect();
        // Another process may have got the pid before it was opened.
        let members = cgroup::pids(dir).map_err(io::Error::other)?;
        let members: Vec<_> = handles.iter().filter(|(pid, _)| members.contains(pid)).collect();
        if members.is_empty() && pids.is_empty() {
            return Ok(());
        }
        members.iter().try_for_each(|(_, handle)| send_kill(handle))?;
        for (pid, handle) in &members {
            processes::wait(handle).map_err(|e| io::Error::new(e.kind(), format!("process {pid}: {e}")))?;
        }
    }
}

/// Removes a cgroup: first the cgroups that the workload made in it, last the parent of all instances' cgroups if it
/// is empty. Retries while the kernel reports it busy, which it does shortly after the last process ends.
///
/// # Errors
/// When a cgroup can't be removed.
pub fn remove(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < 1000 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => break,
        }
    }
    if let Some(parent) = dir.parent().filter(|parent| parent.ends_with(CGROUP)) {
        // Fails if other instances are there.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// Creates the instance's cgroup in every hierarchy that limits or accounts, with the memory limit that Docker would
/// set. Adds each directory to `made` as soon as it exists.
///
/// # Errors
/// When the hierarchies can't be read, or a cgroup can't be created or limited.
pub fn make(instance: &str, resources: &Resources, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let hierarchy = cgroup::hierarchy().map_err(io::Error::other)?;
    let limit = resources.memory.0.to_string();
    let limits: &[(&str, &str)] = match hierarchy.version {
        1 => &[("memory.limit_in_bytes", &limit), ("memory.memsw.limit_in_bytes", &limit)],
        _ => &[("memory.max", &limit), ("memory.swap.max", "0")],
    };
    for (controller, root) in controllers(&hierarchy) {
        let parent = root.join(CGROUP);
        if hierarchy.version == 2 {
            enable_controller(controller, root, &parent)?;
        }
        let dir = parent.join(instance);
        if !made.contains(&dir) {
            fs::create_dir_all(&dir).map_err(|e| named(&dir, e))?;
            made.push(dir.clone());
        }
        for (file, value) in limits.iter().filter(|_| controller == "memory") {
            let file = dir.join(file);
            // Missing if this kernel has no swap accounting; then there is no swap limit to set.
            if file.exists() {
                fs::write(&file, value).map_err(|e| named(&file, e))?;
            }
        }
    }
    Ok(())
}

/// Tries whether cgroups work here: creates an instance's cgroups with their limits, and removes them.
///
/// # Errors
/// When one can't be created, limited or removed.
pub fn try_out(instance: &str, resources: &Resources) -> io::Result<()> {
    let mut made = Vec::new();
    let tried = make(instance, resources, &mut made);
    made.iter().rev().try_for_each(|dir| remove(dir).map_err(|e| named(dir, e)))?;
    tried
}

/// Adds the path to an error.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The controllers that limit or account, and the roots of their hierarchies.
fn controllers(hierarchy: &Hierarchy) -> impl Iterator<Item = (&'static str, &Path)> {
    let Hierarchy { cpu, cpuacct, memory, .. } = hierarchy;
    [("cpu", cpu), ("cpuacct", cpuacct), ("memory", memory)]
        .into_iter()
        .filter_map(|(name, root)| Some((name, root.as_deref()?)))
}

/// Enables a controller for the children of a version 2 cgroup.
fn enable_controller(controller: &str, root: &Path, parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent).map_err(|e| named(parent, e))?;
    // Version 2 always accounts for CPU time.
    if controller == "cpuacct" {
        return Ok(());
    }
    for dir in [root, parent] {
        let file = dir.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}")).map_err(|e| match e.kind() {
            io::ErrorKind::ResourceBusy => io::Error::other(format!(
                "{}: {e}. Processes sit in the root of this cgroup namespace, as in a container: move them into a \
                 cgroup below it, or run bootrace on the host itself",
                file.display()
            )),
            _ => named(&file, e),
        })?;
    }
    Ok(())
}

/// Cgroups of instances whose name is `wanted`.
///
/// # Errors
/// When no cgroups are mounted.
pub fn find(wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    let hierarchy = cgroup::hierarchy().map_err(|e| Error::new("finding left-over cgroups", e))?;
    let mut found: Vec<LeftOver> = Vec::new();
    for (_, root) in controllers(&hierarchy) {
        for entry in fs::read_dir(root.join(CGROUP)).into_iter().flatten().flatten() {
            let (dir, instance) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let name = dir.display().to_string();
            // On version 2 all controllers have the same directory.
            let known = found.iter().any(|it| it.name == name);
            if !known && is_instance(&instance) && wanted(&instance) && dir.is_dir() {
                found.push(LeftOver {
                    kind: ResourceKind::Cgroup,
                    engine: Some(Kind::Native),
                    name,
                    instance,
                });
            }
        }
    }
    Ok(found)
}

/// Kills the processes in the cgroup and removes it.
///
/// # Errors
/// When it can't be emptied or removed.
pub fn discard(dir: &Path) -> Result<(), Error> {
    if !dir.exists() {
        return Ok(());
    }
    kill(dir, None)
        .and_then(|()| remove(dir))
        .map_err(|e| Error::new(format!("removing cgroup {}", dir.display()), e))
}
