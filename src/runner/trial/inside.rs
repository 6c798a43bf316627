//! What a trial reads of an instance beside time and memory: its disk use, copy-on-write, and its view of the host.
//! All of it comes after ready and after the readings that it could disturb.

use std::{io, time::Duration};

use bootrace_agent::{
    isolation,
    protocol::{FromAgent, IMAGE_DIGEST_PATH, ToAgent},
    surroundings::{FACTS, Surroundings},
};
use tokio::task::spawn_blocking;

use super::{InstanceEnd, RunningInstance};
use crate::{
    probe::{
        disk::{self, Place, Spot},
        host_isolation,
    },
    sample::{Cow, Disk, Isolation, Namespace, Sample},
    scenario::CowFile,
};

/// The longest text of a guest that a sample keeps, in characters, and the longest list.
const TEXT: usize = 200;
const NAMES: usize = isolation::NAMES;

/// An instance's disk, as the target describes it.
pub(super) struct Known {
    place: Option<Place>,
    /// Its own kernel delays what its processes write.
    vm: bool,
}

/// The instance's view from inside, and the host's at the same time.
pub(super) struct Seen {
    said: isolation::Isolation,
    host: host_isolation::Host,
    page_cache_shared: Option<bool>,
}

/// Reads the disk before the work, which may write.
pub(super) async fn disk(
    running: &mut RunningInstance,
    vm: bool,
    sample: &mut Sample,
) -> Result<Known, InstanceEnd> {
    let known = Known { place: running.disk().await, vm };
    if let Some(place) = &known.place {
        let instance_bytes = instance_bytes(running, &known).await?;
        sample.disk = Some(Disk {
            storage: Some(place.storage.clone()),
            image_bytes: None,
            instance_bytes,
            provision_ns: place.made.map(|made| made.as_nanos() as u64),
            cow: None,
        });
    }
    Ok(known)
}

/// Bytes allocated for this instance alone, after its own kernel has written out its dirty pages. (The host's kernel
/// counts blocks of dirty pages already.)
async fn instance_bytes(running: &mut RunningInstance, known: &Known) -> Result<Option<u64>, InstanceEnd> {
    let Some(place) = known.place.as_ref().filter(|place| !place.instance.is_empty()) else {
        return Ok(None);
    };
    if known.vm {
        running.ask(&ToAgent::Sync, |m| matches!(m, FromAgent::Synced)).await?;
    }
    let paths = place.instance.clone();
    Ok(off_thread(move || disk::allocated(&paths)).await)
}

/// Writes to the image's `[cow]` file twice, at its middle and elsewhere, each within `limit`.
pub(super) async fn copy(
    running: &mut RunningInstance,
    known: &Known,
    CowFile { file }: CowFile,
    limit: Duration,
    sample: &mut Sample,
) -> Result<(), InstanceEnd> {
    // The work may have written.
    let before = instance_bytes(running, known).await?;
    let (first_write_ns, first_write_inside_ns) = write(running, file.0 / 2, limit).await?;
    let after = instance_bytes(running, known).await?;
    let (rewrite_ns, rewrite_inside_ns) = write(running, file.0 / 4, limit).await?;
    let grown = |(before, after): (u64, u64)| after as i64 - before as i64;
    sample.disk.get_or_insert_default().cow = Some(Cow {
        file_bytes: file.0,
        first_write_ns,
        first_write_inside_ns,
        rewrite_ns,
        rewrite_inside_ns,
        grown_bytes: before.zip(after).map(grown),
    });
    Ok(())
}

/// The time of one write in ns, by the host's clock and by the instance's.
async fn write(running: &mut RunningInstance, at: u64, limit: Duration) -> Result<(u64, u64), InstanceEnd> {
    running.send(&ToAgent::Write { at })?;
    let (from, _) = running.answer(|m| matches!(m, FromAgent::WriteStarted), limit).await?;
    let (to, written) =
        running.answer(|m| matches!(m, FromAgent::Written(_)), limit).await.map_err(|e| match e {
            InstanceEnd::TimedOut(_) => {
                InstanceEnd::TimedOut(format!("a write to the image's file has not ended within {limit:?}"))
            }
            other => other,
        })?;
    let inside = if let FromAgent::Written(written) = written { written.wall_ns } else { 0 };
    Ok((to.since(from), inside))
}

/// Reads what it sees of the host. Comes before its identity, for which the agent reads a file that this test
/// expects outside of the page cache.
pub(super) async fn introspect(
    running: &mut RunningInstance,
    known: &Known,
) -> Result<Option<Seen>, InstanceEnd> {
    let Ok((pid, started_ticks)) = host_isolation::this_process() else { return Ok(None) };
    let page_cache_shared = page_cache_shared(running, known).await?;
    let question = ToAgent::Introspect(isolation::Introspect { pid, started_ticks });
    let answer = |m: &FromAgent| matches!(m, FromAgent::Isolation(_));
    let FromAgent::Isolation(said) = running.ask(&question, answer).await? else { return Ok(None) };
    Ok(Some(Seen { said: *said, host: host_isolation::host(), page_cache_shared }))
}

/// What the workload finds around it.
pub(super) async fn surroundings(running: &mut RunningInstance) -> Result<Option<Surroundings>, InstanceEnd> {
    let answer = |m: &FromAgent| matches!(m, FromAgent::Surroundings(_));
    match running.ask(&ToAgent::Survey, answer).await? {
        FromAgent::Surroundings(said) => Ok(Some(known(said))),
        _ => Ok(None),
    }
}

/// The facts that bootrace knows, and no more of them than an agent of its own sends.
fn known(said: Surroundings) -> Surroundings {
    let known = |name: &str| FACTS.iter().any(|(fact, _)| *fact == name);
    said.into_iter().filter(|(name, _)| known(name)).map(|(name, text)| (name, cut(text))).collect()
}

/// Whether instance and host share the page cache. The host drops a page of the image, and the instance must not have
/// it cached; then the host reads it, and the instance has it only if they share. `None` if the page can't be dropped.
async fn page_cache_shared(
    running: &mut RunningInstance,
    known: &Known,
) -> Result<Option<bool>, InstanceEnd> {
    let Some(files) = known.place.as_ref().and_then(|place| place.files.clone()) else { return Ok(None) };
    let Some(spot) = off_thread(move || files.spot(IMAGE_DIGEST_PATH)).await else { return Ok(None) };
    let forgotten =
        on_host(&spot, Spot::forget).await == Some(true) && is_cached_inside(running).await? == Some(false);
    // In every case, or the dropped pages would be missing for the next instance.
    let read = on_host(&spot, Spot::read).await == Some(true);
    if forgotten && read { is_cached_inside(running).await } else { Ok(None) }
}

async fn is_cached_inside(running: &mut RunningInstance) -> Result<Option<bool>, InstanceEnd> {
    match running.ask(&ToAgent::IsCached, |m| matches!(m, FromAgent::Cached(_))).await? {
        FromAgent::Cached(cached) => Ok(cached),
        _ => Ok(None),
    }
}

/// Fills in the size of the image. Comes last, since the first call walks the image's many files.
pub(super) async fn image_size(known: &Known, sample: &mut Sample) {
    let Some(paths) = known.place.as_ref().map(|place| place.image.clone()) else { return };
    if let Some(disk) = sample.disk.as_mut().filter(|_| !paths.is_empty()) {
        disk.image_bytes = off_thread(move || disk::allocated_once(&paths)).await;
    }
}

async fn on_host(spot: &Spot, act: fn(&Spot) -> io::Result<bool>) -> Option<bool> {
    let spot = spot.clone();
    off_thread(move || act(&spot)).await
}

/// Runs blocking work off the async threads. If it fails, the sample has null and the log has the reason.
async fn off_thread<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Option<T> {
    match spawn_blocking(work).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!("{error}: left out of the sample");
            None
        }
        Err(_) => None,
    }
}

impl Seen {
    /// `boot_id`: of the instance's kernel, as the agent reports it.
    pub(super) fn record(self, boot_id: &str) -> Isolation {
        let Seen { said, host, page_cache_shared } = self;
        let same_kernel = host.boot_id.as_deref().map(|own| own == boot_id);
        let namespaces = said.namespaces.into_iter().take(16).map(|(kind, id)| {
            let of_host = host.namespaces.iter().find(|(other, _)| *other == kind);
            // Namespace numbers of another kernel are not comparable.
            let shared = match (same_kernel, of_host) {
                (Some(false), _) => Some(false),
                (Some(true), Some((_, host))) => Some(*host == id),
                _ => None,
            };
            Namespace { kind: cut(kind), id, shared }
        });
        let process = said.process;
        Isolation {
            processes: said.processes,
            host_processes: host.processes,
            sees_host_process: Some(said.sees_process),
            namespaces: namespaces.collect(),
            page_cache_shared,
            memory_limit: said.memory_limit.map(cut),
            cpu_limit: said.cpu_limit.map(cut),
            devices: said.devices.count,
            device_names: names(said.devices),
            block_devices: said.block_devices.count,
            block_device_names: names(said.block_devices),
            of_workload: process.is_workload,
            uid: process.uid,
            cpus_allowed: process.cpus_allowed.map(cut),
            capabilities: process.capabilities,
            capabilities_bounding: process.capabilities_bounding,
            seccomp: process.seccomp,
            no_new_privileges: process.no_new_privileges,
            security_label: process.security_label.map(cut),
            root_type: said.root_type.map(cut),
            root_writable: said.root_writable,
            sys_writable: said.sys_writable,
        }
    }
}

fn names(names: isolation::Names) -> Option<Vec<String>> {
    names.count.map(|_| names.names.into_iter().take(NAMES).map(cut).collect())
}

/// Cuts a text of the agent, which is foreign.
fn cut(text: String) -> String {
    text.chars().take(TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(said: isolation::Isolation) -> Seen {
        let namespaces = vec![("pid".to_owned(), 1), ("net".to_owned(), 2)];
        let host = host_isolation::Host { boot_id: Some("here".into()), processes: Some(99), namespaces };
        Seen { said, host, page_cache_shared: None }
    }

    fn said() -> isolation::Isolation {
        let namespaces = [("pid", 1), ("net", 7), ("time", 3)].map(|(kind, id)| (kind.to_owned(), id));
        isolation::Isolation { namespaces: namespaces.into(), ..Default::default() }
    }

    #[test]
    fn a_namespace_is_the_hosts_by_its_number_on_the_same_kernel_only() {
        let shared = |boot_id: &str| {
            seen(said()).record(boot_id).namespaces.into_iter().map(|n| n.shared).collect::<Vec<_>>()
        };
        assert_eq!(shared("here"), [Some(true), Some(false), None]);
        assert_eq!(shared("elsewhere"), [Some(false); 3]);
    }

    #[test]
    fn whatever_a_guest_says_is_bounded() {
        let long = "x".repeat(1 << 20);
        let said = isolation::Isolation {
            namespaces: vec![(long.clone(), 1); 1000],
            memory_limit: Some(long.clone()),
            devices: isolation::Names { count: Some(1000), names: vec![long.clone(); 1000] },
            process: isolation::Process { security_label: Some(long), ..Default::default() },
            ..said()
        };
        let record = serde_json::to_string(&seen(said).record("here")).unwrap();
        assert!(record.len() < 20_000, "{}", record.len());
        let said = ["umask", "unknown"].map(|name| (name.to_owned(), "x".repeat(1 << 20)));
        assert_eq!(known(said.into()), Surroundings::from([("umask".into(), "x".repeat(TEXT))]));
    }
}
