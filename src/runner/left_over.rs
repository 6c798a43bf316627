//! What runs left on the host: one finder for who removes it, who only looks, and who proves that there is nothing.

use std::{fs, io, path::Path, time::Duration};

use super::{Lock, lock, tag};
use crate::{
    kind::Kind,
    probe::mounts,
    target::{
        Error, LeftOver, ResourceKind,
        docker::{self, ContainerEngine},
        host_mounts,
        libvirt::{self, Driver},
        native,
    },
};

/// How long an engine may take to list what it has.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose left-overs are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Those of runs that are no more.
    Ended,
    /// Those of every run, the ones that go on included.
    Everyones,
    /// Those of the run with this id.
    Run(String),
}

impl Owner {
    fn has(&self, instance: &str) -> bool {
        match self {
            Owner::Ended => !Lock::is_held_for(instance),
            Owner::Everyones => true,
            Owner::Run(id) => instance.strip_prefix(&tag(id)).is_some_and(|rest| rest.starts_with('-')),
        }
    }
}

/// What was found, and where could not be looked.
#[derive(Debug, Default)]
pub struct Found {
    pub things: Vec<LeftOver>,
    /// Engines that did not answer, directories that could not be read.
    pub unseen: Vec<Unseen>,
}

/// A place that could not be looked at.
#[derive(Debug)]
pub struct Unseen {
    /// Whose instances may be there; `None`: those of every kind.
    pub kind: Option<Kind>,
    pub error: Error,
}

/// Finds containers by label, domains by metadata, logs, cgroups, mounts, files and locks by name. `instances` is where
/// instances of this cache have their files. Removes nothing.
pub async fn find(instances: &Path, whose: &Owner) -> Found {
    find_within(PATIENCE, instances, whose).await
}

/// [`find`], with `patience` for each engine.
pub async fn find_within(patience: Duration, instances: &Path, whose: &Owner) -> Found {
    let wanted = || {
        let whose = whose.clone();
        move |instance: &str| whose.has(instance)
    };
    let (containers, of_podman, domains, of_lxc) = tokio::join!(
        in_time(patience, "Docker", docker::left_over::find(ContainerEngine::Docker, wanted())),
        in_time(patience, "podman", of_podman(wanted())),
        in_time(patience, "libvirt", libvirt::left_over::find(Driver::Qemu, wanted())),
        in_time(patience, "libvirt's LXC driver", libvirt::left_over::find(Driver::Lxc, wanted()))
    );
    let here = [
        Ok(libvirt::left_over::logs(wanted())),
        native::find_cgroups(wanted()),
        // Before the files, which are below them.
        mounted(instances, wanted()),
        files(instances, wanted()),
        Ok(locks(wanted())),
    ];
    let mut found = Found::default();
    let engines = [
        (Kind::Docker, containers),
        (Kind::Podman, of_podman),
        (Kind::Libvirt, domains),
        (Kind::Lxc, of_lxc),
    ];
    let parts = engines.into_iter().map(|(kind, part)| (Some(kind), part));
    for (kind, part) in parts.chain(here.into_iter().map(|part| (None, part))) {
        match part {
            Ok(things) => found.things.extend(things),
            Err(error) => found.unseen.push(Unseen { kind, error }),
        }
    }
    found
}

/// Removes one thing that [`find`] found; one that is gone by now is fine.
///
/// # Errors
/// When it can't be removed.
pub async fn remove(thing: &LeftOver) -> Result<(), Error> {
    let failed = |e: io::Error| Error::new(format!("removing {thing}"), e);
    match thing.kind {
        ResourceKind::Container => {
            docker::left_over::remove_container(ContainerEngine::Docker, &thing.name).await
        }
        ResourceKind::Image => docker::left_over::remove_image(ContainerEngine::Docker, &thing.name).await,
        ResourceKind::PodmanContainer => {
            docker::left_over::remove_container(ContainerEngine::Podman, &thing.name).await
        }
        ResourceKind::PodmanImage => {
            docker::left_over::remove_image(ContainerEngine::Podman, &thing.name).await
        }
        ResourceKind::Domain => libvirt::left_over::destroy(Driver::Qemu, &thing.name).await,
        ResourceKind::LxcDomain => libvirt::left_over::destroy(Driver::Lxc, &thing.name).await,
        ResourceKind::Mount => host_mounts::discard(Path::new(&thing.name)).map_err(failed),
        ResourceKind::Log => libvirt::left_over::discard_log(&thing.instance),
        ResourceKind::Cgroup => native::discard_cgroup(Path::new(&thing.name)),
        ResourceKind::Files => match fs::remove_dir_all(&thing.name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(()),
        },
        ResourceKind::Lock => lock::discard(Path::new(&thing.name)).map_err(failed),
    }
}

/// An engine that hangs is one that could not be looked at.
async fn in_time<T>(
    patience: Duration,
    engine: &str,
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| {
        let why = format!("it did not answer in {patience:?}: busy or hanging");
        Error::new(format!("asking {engine} what it has"), why)
    };
    tokio::time::timeout(patience, asking).await.map_err(late)?
}

/// Where podman never was there is nothing of ours, and nothing to be said.
async fn of_podman(wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    // At one elsewhere nothing is ever run.
    let here = ContainerEngine::Podman.address().starts_with("unix://");
    match here && ContainerEngine::Podman.may_be_here() {
        true => docker::left_over::find(ContainerEngine::Podman, wanted).await,
        false => Ok(Vec::new()),
    }
}

/// Roots of instances that are still mounted where the host sees them.
fn mounted(instances: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    let points = host_mounts::there(|| mounts::below(instances).map_err(io::Error::other))
        .map_err(|e| Error::new(format!("looking for mounts below {}", instances.display()), e))?;
    let mut found = Vec::new();
    for point in points {
        let Some(instance) = point.strip_prefix(instances).ok().and_then(|rest| rest.iter().next()) else {
            continue;
        };
        let instance = instance.to_string_lossy().into_owned();
        if instance.starts_with("bootrace-") && wanted(&instance) {
            found.push(LeftOver { kind: ResourceKind::Mount, name: point.display().to_string(), instance });
        }
    }
    Ok(found)
}

fn files(instances: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    let entries = match fs::read_dir(instances) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::new(format!("listing {}", instances.display()), e)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let instance = entry.file_name().to_string_lossy().into_owned();
        if instance.starts_with("bootrace-") && wanted(&instance) {
            found.push(LeftOver {
                kind: ResourceKind::Files,
                name: entry.path().display().to_string(),
                instance,
            });
        }
    }
    Ok(found)
}

fn locks(wanted: impl Fn(&str) -> bool) -> Vec<LeftOver> {
    let mut found = Vec::new();
    for path in lock::dead() {
        let instance = format!("{}-", path.file_name().unwrap_or_default().to_string_lossy());
        if wanted(&instance) {
            found.push(LeftOver { kind: ResourceKind::Lock, name: path.display().to_string(), instance });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_left_overs_are_its_own_and_no_other_runs() {
        let (one, other) = (tag("one"), tag("other"));
        let whose = Owner::Run("one".into());
        assert!(whose.has(&format!("{one}-0")) && whose.has(&format!("{one}-17")));
        assert!(!whose.has(&format!("{other}-0")) && !whose.has(&one) && !whose.has(&format!("{one}0-1")));
    }

    #[test]
    fn instances_files_are_found_by_name_and_foreign_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let instance = format!("{}-3", tag("gone"));
        for name in [&*instance, "mine"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = files(dir.path(), |name| Owner::Ended.has(name)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), format!("files {}", dir.path().join(&instance).display()));
        assert_eq!(files(&dir.path().join("none"), |_| true).unwrap(), []);
    }
}
