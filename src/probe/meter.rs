//! Measures what one instance costs its host: CPU time and memory, by the same definitions for every target.
//!
//! # CPU time
//! It counts the instance's cgroup, which includes ended processes and vhost's threads, and the engine's processes and
//! daemons that are in no counted cgroup. (While an instance idles or works it leaves out the daemons, whose background
//! work belongs to no instance.) A daemon with its own cgroup (a systemd service) is read through that, with all its
//! helpers, such as runc or containerd-shim. A daemon without one is read per process: exactly for the daemon itself,
//! and in clock ticks for helpers, after they have ended. In that case runc's work inside the new cgroup counts twice,
//! a few ms. For an instance without its own cgroup the meter counts its leader's process tree.
//!
//! # Memory
//! The footprint is the memory that the host would get back if the instance ended, without page cache. It is the sum of
//! - anonymous memory of all processes by PSS. The cgroup's own figure lacks memory that was charged before a process
//!   was moved into it and the engine's processes outside of it, lags by up to 2 s, and counts pages that KSM merged in
//!   full;
//! - shared memory (tmpfs, memfd: a VM's RAM may be that) by the cgroup or by PSS, whichever is more: PSS lacks tmpfs
//!   files that no process maps, and the cgroup lacks memory that was charged elsewhere;
//! - huge pages of the hugetlb pool, which neither PSS nor the memory controller counts;
//! - the cgroup's kernel memory, if a memory cgroup counts it.
//!
//! Swapped-out memory is not part of it: it would not give the host memory back. The meter reads it separately, from
//! the cgroup and the processes, whichever has more.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    Error, Scope,
    cgroup::{self, Mounts, Places, Shortage, UNIFIED},
    process::{self, Pss},
};
use crate::sample;

/// Measures what one instance costs its host. Create it just before the request.
#[derive(Debug)]
pub struct Meter {
    mounts: Mounts,
    /// The cgroups of this process.
    harness: Places,
    daemons: Vec<u32>,
    /// PSS of the daemons before the instance. An error is reported only when memory is read: reading PSS takes root,
    /// CPU time does not.
    daemons_pss: Result<u64, Error>,
    groups: Vec<Group>,
    processes: Vec<Process>,
    instance: Option<Instance>,
}

/// The instance's own part of the CPU time.
#[derive(Debug, Default)]
struct Own {
    /// Index of the meter's first group and process that is the instance's and not a daemon's.
    first_group: usize,
    first_process: usize,
    /// Its cgroup and its engine's processes, if a daemon's cgroup contains them.
    groups: Vec<Group>,
    processes: Vec<process::CpuTime>,
}

/// A cgroup whose CPU time is counted.
#[derive(Debug)]
struct Group {
    controller: &'static str,
    path: String,
    cpu: cgroup::CpuTime,
    start_ns: u64,
}

impl Group {
    fn has(&self, places: &Places) -> bool {
        places.within(self.controller, &self.path)
    }
}

/// A process whose CPU time is counted.
#[derive(Debug)]
struct Process {
    cpu: process::CpuTime,
    start_ns: u64,
}

#[derive(Debug)]
struct Instance {
    leader: u32,
    engine: Vec<u32>,
    /// No counted cgroup contains the leader: CPU time is that of its process tree.
    cpu_by_tree: bool,
    own: Own,
    /// Directory and version of the memory cgroup.
    memory: Option<(PathBuf, u8)>,
    /// A cgroup that lists the instance's processes.
    members: Option<PathBuf>,
}

impl Meter {
    /// Records the engine daemons' use so far.
    ///
    /// # Errors
    /// When a daemon has ended or /proc can't be read.
    pub fn before(daemons: &[u32]) -> Result<Self, Error> {
        let mut meter = Meter {
            mounts: Mounts::read()?,
            harness: Places::of(std::process::id())?,
            daemons: daemons.to_vec(),
            daemons_pss: pss_of(daemons),
            groups: Vec::new(),
            processes: Vec::new(),
            instance: None,
        };
        for &pid in daemons {
            let places = Places::of(pid)?;
            if meter.counts(&places) {
                continue;
            }
            match meter.open_group(&places)? {
                Some(group) => meter.groups.push(Group { start_ns: group.cpu.read_ns()?, ..group }),
                None => {
                    let cpu = process::CpuTime::open(pid)?;
                    meter.processes.push(Process { start_ns: cpu.read_ns()?, cpu });
                }
            }
        }
        Ok(meter)
    }

    /// Finds the started instance's cgroup and processes.
    ///
    /// # Errors
    /// When the leader has ended or its cgroup can't be read.
    pub fn attach(&mut self, scope: &Scope) -> Result<(), Error> {
        let places = Places::of(scope.leader)?;
        let mut own =
            Own { first_group: self.groups.len(), first_process: self.processes.len(), ..Own::default() };
        let group = self.open_group(&places)?;
        if self.counts(&places) {
            own.groups.extend(group);
        } else {
            self.groups.extend(group);
        }
        let cpu_by_tree = !self.counts(&places);
        let tree = if cpu_by_tree { process::tree(scope.leader)? } else { Vec::new() };
        for &pid in &scope.engine {
            match Places::of(pid).and_then(|places| Ok((places, process::CpuTime::open(pid)?))) {
                Ok((places, cpu)) if !self.counts(&places) && !tree.contains(&pid) => {
                    self.processes.push(Process { cpu, start_ns: 0 });
                }
                Ok((places, cpu)) if !tree.contains(&pid) => {
                    let its = self.groups[own.first_group..].iter().chain(&own.groups);
                    if !its.into_iter().any(|group| group.has(&places)) {
                        own.processes.push(cpu);
                    }
                }
                Err(error) if !error.gone => return Err(error),
                _ => {}
            }
        }
        self.instance = Some(Instance {
            leader: scope.leader,
            engine: scope.engine.clone(),
            cpu_by_tree,
            own,
            memory: memory_cgroup(&self.mounts, &self.harness, &places),
            members: ["memory", UNIFIED, "cpuacct", "cpu", "pids"]
                .into_iter()
                .find_map(|controller| self.own_dir(controller, &places)),
        });
        Ok(())
    }

    /// Whether it is attached to an instance.
    pub fn is_attached(&self) -> bool {
        self.instance.is_some()
    }

    /// Host CPU time in ns that the instance, its engine processes and the daemons used since `before`.
    ///
    /// # Errors
    /// When the instance's cgroup, an engine process or a daemon is gone: the sum would be too small.
    pub fn cpu_ns(&self) -> Result<u64, Error> {
        let mut sum = 0;
        for group in &self.groups {
            sum += group.cpu.read_ns()?.saturating_sub(group.start_ns);
        }
        for process in &self.processes {
            sum += process.cpu.read_ns()?.saturating_sub(process.start_ns);
        }
        if let Some(instance) = self.instance.as_ref().filter(|instance| instance.cpu_by_tree) {
            sum += tree_cpu_ns(instance.leader)?;
        }
        Ok(sum)
    }

    /// The same for the instance and its engine processes alone, since an arbitrary time. It is for windows in which
    /// the daemons only work in the background, which belongs to no instance.
    ///
    /// # Errors
    /// As [`Meter::cpu_ns`]; 0 before the instance is attached.
    pub fn own_cpu_ns(&self) -> Result<u64, Error> {
        let Some(instance) = &self.instance else { return Ok(0) };
        let own = &instance.own;
        let mut sum = 0;
        for group in self.groups[own.first_group..].iter().chain(&own.groups) {
            sum += group.cpu.read_ns()?;
        }
        for process in
            self.processes[own.first_process..].iter().map(|process| &process.cpu).chain(&own.processes)
        {
            sum += process.read_ns()?;
        }
        if instance.cpu_by_tree {
            sum += tree_cpu_ns(instance.leader)?;
        }
        Ok(sum)
    }

    /// The memory record without the workload's own reading.
    ///
    /// # Errors
    /// When the leader has ended, or a process belongs to another user and this process is not root.
    pub fn memory(&self) -> Result<sample::Memory, Error> {
        let daemons = match (&self.daemons_pss, self.daemons.as_slice()) {
            (_, []) => None,
            (Ok(before), daemons) => Some(pss_of(daemons)? as i64 - *before as i64),
            (Err(error), _) => return Err(error.clone()),
        };
        Ok(sample::Memory { daemons, ..self.own_memory()? })
    }

    /// The same without the daemons, which many instances share. All fields are `None` before the instance is attached.
    ///
    /// # Errors
    /// As [`Meter::memory`].
    pub fn own_memory(&self) -> Result<sample::Memory, Error> {
        let Some(instance) = &self.instance else { return Ok(sample::Memory::default()) };
        let charged = match &instance.memory {
            Some((dir, 1)) => Some(cgroup::v1::memory(dir)?),
            Some((dir, _)) => Some(cgroup::v2::memory(dir)?),
            None => None,
        };
        let swapped = match &instance.memory {
            Some((dir, 1)) => cgroup::v1::swap(dir)?,
            Some((dir, _)) => cgroup::v2::swap(dir)?,
            None => None,
        };
        let held = instance.held()?;
        let kernel = charged.and_then(|charged| charged.kernel);
        Ok(sample::Memory {
            footprint: Some(held.footprint(charged.map_or(0, |charged| charged.shmem)) + kernel.unwrap_or(0)),
            workload_rss: None,
            guest_cache: None,
            cgroup_anon: charged.map(|charged| charged.anon + charged.shmem),
            cgroup_file: charged.map(|charged| charged.file),
            cgroup_kernel: kernel,
            engine_pss: (!instance.engine.is_empty()).then_some(held.engine),
            pss: Some(held.inside.total + held.outside.total),
            pss_file: Some(held.inside.file + held.outside.file),
            swap: Some(held.swap(swapped.unwrap_or(0))),
            daemons: None,
        })
    }

    /// Whether a counted cgroup contains the process.
    fn counts(&self, places: &Places) -> bool {
        self.groups.iter().any(|group| group.has(places))
    }

    /// The cgroup that counts the CPU time of the process and its like, if it has its own.
    ///
    /// Version 2 counts CPU time in every cgroup, with or without the controller. On hybrid hosts engines put their
    /// processes there too, and sometimes not into version 1's cpuacct.
    fn open_group(&self, places: &Places) -> Result<Option<Group>, Error> {
        for controller in ["cpuacct", UNIFIED] {
            if let (Some(path), Some(dir)) =
                (places.own(controller, &self.harness), self.own_dir(controller, places))
            {
                let cpu = cgroup::CpuTime::open(&dir, controller == UNIFIED)?;
                return Ok(Some(Group { controller, path: path.to_owned(), cpu, start_ns: 0 }));
            }
        }
        Ok(None)
    }

    fn own_dir(&self, controller: &str, places: &Places) -> Option<PathBuf> {
        self.mounts.dir(controller, places.own(controller, &self.harness)?)
    }
}

/// Memory of an instance's processes: of those in its cgroup, and of the engine's outside of it.
#[derive(Debug, Default)]
struct InstanceMemory {
    inside: Pss,
    outside: Pss,
    /// PSS of the engine's processes, wherever they are.
    engine: u64,
}

impl InstanceMemory {
    fn footprint(&self, charged_shmem: u64) -> u64 {
        let shmem = self.inside.shmem.max(charged_shmem) + self.outside.shmem;
        let private = self.inside.hugetlb_private + self.outside.hugetlb_private;
        // Pages that several processes map count once: at least as many as the largest share of one process.
        let shared = self.inside.hugetlb_shared.max(self.outside.hugetlb_shared);
        self.inside.anon + self.outside.anon + shmem + private + shared
    }

    /// Unmapped memory, such as a tmpfs' files, is only in the cgroup's figure; memory that was charged elsewhere is
    /// only in the processes'.
    fn swap(&self, charged: u64) -> u64 {
        self.inside.swap.max(charged) + self.outside.swap
    }
}

impl Instance {
    fn held(&self) -> Result<InstanceMemory, Error> {
        let members = match &self.members {
            Some(dir) => cgroup::pids(dir)?,
            None => process::tree(self.leader)?,
        };
        let inside: BTreeSet<u32> = members.into_iter().chain([self.leader]).collect();
        let outside: BTreeSet<u32> =
            self.engine.iter().copied().filter(|pid| !inside.contains(pid)).collect();
        let mut held = InstanceMemory::default();
        for &pid in inside.iter().chain(&outside) {
            let pss = match process::pss(&PathBuf::from(format!("/proc/{pid}"))) {
                Err(error) if error.gone && pid != self.leader => continue,
                pss => pss?,
            };
            let part = if inside.contains(&pid) { &mut held.inside } else { &mut held.outside };
            part.add(&pss);
            if self.engine.contains(&pid) {
                held.engine += pss.total;
            }
        }
        Ok(held)
    }
}

impl Pss {
    fn add(&mut self, other: &Pss) {
        self.total += other.total;
        self.anon += other.anon;
        self.file += other.file;
        self.shmem += other.shmem;
        self.hugetlb_private += other.hugetlb_private;
        self.swap += other.swap;
        self.hugetlb_shared = self.hugetlb_shared.max(other.hugetlb_shared);
    }
}

/// Anonymous and shared PSS of daemons in bytes. All of them must exist, since a sum without one is not comparable. It
/// leaves out mapped files: a daemon's share of them falls as soon as an instance maps the same ones.
fn pss_of(pids: &[u32]) -> Result<u64, Error> {
    let held = |pid| {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let pss = process::pss(&dir).map_err(|error| match error.gone {
            true => Error::new(&dir, "the engine's daemon that this was has ended"),
            false => error,
        })?;
        Ok(pss.anon + pss.shmem)
    };
    pids.iter().map(held).sum()
}

/// Directory and version of the memory cgroup of a process and its like.
fn memory_cgroup(mounts: &Mounts, harness: &Places, places: &Places) -> Option<(PathBuf, u8)> {
    [("memory", 1), (UNIFIED, 2)].into_iter().find_map(|(controller, version)| {
        let dir = mounts.dir(controller, places.own(controller, harness)?)?;
        dir.join("memory.stat").exists().then_some((dir, version))
    })
}

/// Whether an instance lacks memory because of its cgroup's limit; `None` also for one without a memory cgroup.
///
/// # Errors
/// When the leader has ended, or its cgroup can't be read.
pub fn memory_shortage(scope: &Scope) -> Result<Option<Shortage>, Error> {
    let (harness, places) = (Places::of(std::process::id())?, Places::of(scope.leader)?);
    match memory_cgroup(&Mounts::read()?, &harness, &places) {
        Some((dir, 1)) => cgroup::v1::shortage(&dir),
        Some((dir, _)) => cgroup::v2::shortage(&dir),
        None => Ok(None),
    }
}

/// CPU time in ns of a process and its descendants, including those that have ended and were waited for.
fn tree_cpu_ns(leader: u32) -> Result<u64, Error> {
    let mut sum = 0;
    for pid in process::tree(leader)? {
        match process::CpuTime::open(pid).and_then(|cpu| cpu.read_ns()) {
            Err(error) if error.gone && pid != leader => {}
            ns => sum += ns?,
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
