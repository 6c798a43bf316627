//! Finds and removes what runs have left on the host. `clean`, `doctor`, `calibrate` and the tests use the same finder.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use anyhow::anyhow;
use futures_util::future::join_all;

use super::{Lock, lock};
use crate::{
    kind::Kind,
    sys::{load::Load, mounts, processes},
    target::{
        Error, LeftOver, ResourceKind, Wanted, engine, host_mounts,
        instance_name::{is_instance, is_instance_of, is_tag},
        libvirt,
    },
};

/// How long an engine may take to list what it has, on a host that is not busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often [`sweep`] searches: engines need time to remove what they have.
const SWEEPS: u32 = 20;

/// The runs that the search covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Runs that have ended.
    Ended,
    /// All runs, including running ones.
    Everyones,
    /// The run with this id.
    Run(String),
}

impl Owner {
    fn has(&self, instance: &str) -> bool {
        match self {
            Owner::Ended => !Lock::is_held_for(instance),
            Owner::Everyones => true,
            Owner::Run(id) => is_instance_of(instance, id),
        }
    }
}

/// What the search found, and the places that it could not search.
#[derive(Debug, Default)]
pub struct Found {
    pub left_overs: Vec<LeftOver>,
    /// Engines that did not answer, directories that could not be read.
    pub unseen: Vec<Unseen>,
}

/// A place that the search could not read.
#[derive(Debug)]
pub struct Unseen {
    /// The kind of target that may have instances there; `None`: every kind.
    pub kind: Option<Kind>,
    pub error: Error,
}

/// Finds containers by label, domains by metadata, processes by their root, and logs, cgroups, mounts, files and locks
/// by name. `instances` is the directory of this cache's instances. Removes nothing.
pub async fn find(instances: &Path, owner: &Owner) -> Found {
    find_within(Load::now().prolong(PATIENCE), instances, owner).await
}

/// [`find`], with `patience` for each engine.
pub async fn find_within(patience: Duration, instances: &Path, owner: &Owner) -> Found {
    let wanted = || {
        let owner = owner.clone();
        move |instance: &str| owner.has(instance)
    };
    let wanted = &wanted;
    let engines = join_all(Kind::ALL.map(|kind| async move {
        let wanted: Wanted = Arc::new(wanted());
        (Some(kind), in_time(patience, kind, engine::of(kind).left_overs(&wanted)).await)
    }));
    let here = [
        Ok(libvirt::left_over::logs(wanted())),
        Ok(escaped(instances, wanted())),
        // Before the files, which are below them.
        mounted(instances, wanted()),
        files(instances, wanted()),
        Ok(locks(wanted())),
    ];
    let mut found = Found::default();
    for (kind, part) in engines.await.into_iter().chain(here.map(|part| (None, part))) {
        match part {
            Ok(left_overs) => found.left_overs.extend(left_overs),
            Err(error) => found.unseen.push(Unseen { kind, error }),
        }
    }
    found
}

/// Removes one left-over that [`find`] found. Succeeds if it is gone already.
///
/// # Errors
/// When it can't be removed.
pub async fn remove(left_over: &LeftOver) -> Result<(), Error> {
    let failed = |e: io::Error| Error::new(format!("removing {left_over}"), e);
    if let Some(kind) = left_over.engine {
        return engine::of(kind).remove(left_over).await;
    }
    match left_over.kind {
        ResourceKind::Mount => host_mounts::discard(Path::new(&left_over.name)).map_err(failed),
        ResourceKind::Log => gone(fs::remove_file(&left_over.name)).map_err(failed),
        ResourceKind::Process => end_escaped(left_over).map_err(failed),
        ResourceKind::Lock => lock::discard(Path::new(&left_over.name)).map_err(failed),
        ResourceKind::Files => discard_files(Path::new(&left_over.name)).map_err(failed),
        ResourceKind::Container | ResourceKind::Image | ResourceKind::Domain | ResourceKind::Cgroup => {
            Err(Error::new(format!("removing {left_over}"), "no engine has it: this is a bug"))
        }
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// Removes an instance's directory, but not through a mount.
fn discard_files(dir: &Path) -> io::Result<()> {
    let mounts = host_mounts::in_host_namespace(|| mounts::below(dir))?;
    mounts.iter().try_for_each(|point| host_mounts::discard(point))?;
    gone(fs::remove_dir_all(dir))
}

/// Removes the left-overs of one run that has ended.
///
/// # Errors
/// When a left-over can't be removed.
pub async fn sweep(instances: &Path, run: &str) -> anyhow::Result<()> {
    let owner = Owner::Run(run.into());
    let mut last = None;
    for _ in 0..SWEEPS {
        let found = find(instances, &owner).await;
        if found.left_overs.is_empty() {
            return Ok(());
        }
        for left_over in &found.left_overs {
            // An engine may be removing it right now, so only the next search decides.
            last = remove(left_over).await.err().or(last);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let why = last.map_or_else(|| "they come back".into(), |error| error.to_string());
    Err(anyhow!("removing the left-overs of run {run}: {why}"))
}

/// Counts an engine that hangs as one that the search could not read.
async fn in_time<T>(
    patience: Duration,
    kind: Kind,
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| {
        let why = format!("it did not answer in {patience:?}: {}", Load::now().explain());
        Error::new(format!("asking the engine of {kind} targets what it has"), why)
    };
    tokio::time::timeout(patience, asking).await.map_err(late)?
}

/// Roots of instances that are still mounted where the host sees them.
fn mounted(instances: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<LeftOver>, Error> {
    let points = host_mounts::in_host_namespace(|| mounts::below(instances).map_err(io::Error::other))
        .map_err(|e| Error::new(format!("looking for mounts below {}", instances.display()), e))?;
    let mut found = Vec::new();
    for point in points {
        let Some(instance) = point.strip_prefix(instances).ok().and_then(|rest| rest.iter().next()) else {
            continue;
        };
        let instance = instance.to_string_lossy().into_owned();
        if is_instance(&instance) && wanted(&instance) {
            found.push(LeftOver {
                kind: ResourceKind::Mount,
                engine: None,
                name: point.display().to_string(),
                instance,
            });
        }
    }
    Ok(found)
}

/// Processes of bare processes' workloads that have left their cgroup, and so outlive it: they still have an instance's
/// root. Those in the cgroup end with it.
fn escaped(instances: &Path, wanted: impl Fn(&str) -> bool) -> Vec<LeftOver> {
    let mut found = Vec::new();
    for pid in processes::others() {
        let root = processes::root(pid);
        let Some(rest) = root.as_deref().and_then(|root| root.strip_prefix(instances).ok()) else { continue };
        let Some(instance) = rest.iter().next().map(|name| name.to_string_lossy()) else { continue };
        let in_its_cgroup = processes::cgroups(pid).contains(&format!("/{instance}"));
        if is_instance(&instance) && wanted(&instance) && !in_its_cgroup {
            found.push(LeftOver {
                kind: ResourceKind::Process,
                engine: None,
                name: pid.to_string(),
                instance: instance.into_owned(),
            });
        }
    }
    found
}

/// Kills a process unless its pid has passed to another one, which has not its instance's root.
fn end_escaped(left_over: &LeftOver) -> io::Result<()> {
    let pid = left_over.name.parse().map_err(io::Error::other)?;
    let Some(handle) = processes::open(pid) else { return Ok(()) };
    let root = processes::root(pid).unwrap_or_default();
    match root.iter().any(|part| part == left_over.instance.as_str()) {
        true => processes::end(&handle),
        false => Ok(()),
    }
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
        if is_instance(&instance) && wanted(&instance) {
            found.push(LeftOver {
                kind: ResourceKind::Files,
                engine: None,
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
        let tag = path.file_name().unwrap_or_default().to_string_lossy();
        let instance = format!("{tag}-0");
        if is_tag(&tag) && wanted(&instance) {
            found.push(LeftOver {
                kind: ResourceKind::Lock,
                engine: None,
                name: path.display().to_string(),
                instance,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::tag, *};

    #[test]
    fn a_runs_left_overs_are_its_own_and_no_other_runs() {
        let (one, other) = (tag("one"), tag("other"));
        let owner = Owner::Run("one".into());
        assert!(owner.has(&format!("{one}-0")) && owner.has(&format!("{one}-17")));
        assert!(!owner.has(&format!("{other}-0")) && !owner.has(&one) && !owner.has(&format!("{one}0-1")));
    }

    #[test]
    fn instances_files_are_found_by_name_and_foreign_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let instance = format!("{}-3", tag("gone"));
        let of_a_user = ["mine", "bootrace-redis", "bootrace-0", "bootrace-0badcafe-1.old", "my-bootrace-0"];
        for name in of_a_user.into_iter().chain([&*instance]) {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = files(dir.path(), |name| Owner::Ended.has(name)).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), format!("files {}", dir.path().join(&instance).display()));
        assert_eq!(files(&dir.path().join("none"), |_| true).unwrap(), []);
    }
}
