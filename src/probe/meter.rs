//! What one instance costs its host: CPU time and memory, by the same definitions for every target.
//!
//! # CPU time
//! The instance's cgroup, which counts ended processes and vhost's threads too; and the engine's
//! processes and daemons as far as no counted cgroup holds them. (While an instance idles or works, without the
//! daemons: what they do in the background is no instance's.) A daemon with a cgroup of its own
//! (a systemd service) is read through it, and so are all its helpers, such as runc or
//! containerd-shim. Without one it is read per process: exact for the daemon itself, while helpers
//! are seen when they have ended, in clock ticks. There, what runc does inside the new cgroup before
//! it hands over counts twice: a few ms. An instance without a cgroup of its own is its leader's
//! process tree.
//!
//! # Memory
//! The footprint is what the host would get back if the instance were gone, without page cache:
//! - anonymous memory by PSS, of all processes. The cgroup's own figure would miss what was charged
//!   before a process was moved into it and the engine's processes outside of it, lags by up to 2 s,
//!   and counts pages that KSM merged in full;
//! - shared memory (tmpfs, memfd: a VM's RAM may be that) as the cgroup has it or by PSS, whichever is
//!   more: files in a tmpfs are mapped by nobody, and memory that came from elsewhere is charged there;
//! - huge pages of the hugetlb pool, which neither PSS nor the memory controller has;
//! - the cgroup's kernel memory, where there is a memory cgroup that counts it.
//!
//! Swapped-out memory is not in it: the host would not get back memory. It is read beside it, by the cgroup and the
//! processes, whichever has more.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{
    Error, Scope,
    cgroup::{self, Mounts, Places, UNIFIED},
    process::{self, Pss},
};
use crate::sample;

/// Reads what one instance costs its host. Made just before the instance is requested.
#[derive(Debug)]
pub struct Meter {
    mounts: Mounts,
    /// The cgroups of this very process.
    harness: Places,
    daemons: Vec<u32>,
    /// PSS of the daemons before the instance. An error waits until memory is asked for: CPU time
    /// can be read without root, PSS can't.
    daemons_pss: Result<u64, Error>,
    groups: Vec<Group>,
    processes: Vec<Process>,
    instance: Option<Instance>,
}

/// What of the CPU time is the instance's alone.
#[derive(Debug, Default)]
struct Own {
    /// From where on the meter's groups and processes are the instance's and not the daemons'.
    first_group: usize,
    first_process: usize,
    /// Its cgroup and its engine's processes, where a daemon's cgroup has them.
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
    /// No counted cgroup has the leader: its CPU time is that of the process tree.
    cpu_by_tree: bool,
    own: Own,
    /// Directory and version of the memory cgroup.
    memory: Option<(PathBuf, u8)>,
    /// A cgroup that lists the instance's processes.
    members: Option<PathBuf>,
}

impl Meter {
    /// Takes note of what the engine's daemons have used so far.
    ///
    /// # Errors
    /// When a daemon is gone or /proc can't be read.
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
            memory: [("memory", 1), (UNIFIED, 2)].into_iter().find_map(|(controller, version)| {
                let dir = self.own_dir(controller, &places)?;
                dir.join("memory.stat").exists().then_some((dir, version))
            }),
            members: ["memory", UNIFIED, "cpuacct", "cpu", "pids"]
                .into_iter()
                .find_map(|controller| self.own_dir(controller, &places)),
        });
        Ok(())
    }

    /// Whether it knows the instance.
    pub fn is_attached(&self) -> bool {
        self.instance.is_some()
    }

    /// Host CPU time in ns that the instance, its engine processes and the daemons used since `before`.
    ///
    /// # Errors
    /// When the instance's cgroup, an engine process or a daemon is gone: the sum would lack it.
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

    /// The same of the instance and its engine processes alone, since an arbitrary moment: for windows in which the
    /// daemons have nothing to do for it. What they do in the background is no instance's.
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

    /// How fine [`Meter::cpu_ns`] is: clock ticks when helpers that ended are known by those only.
    pub fn resolution(&self) -> Duration {
        let by_tree = self.instance.as_ref().is_some_and(|instance| instance.cpu_by_tree);
        let coarse = by_tree || !self.processes.is_empty();
        if coarse { Duration::from_nanos(process::tick_ns()) } else { Duration::from_micros(1) }
    }

    /// All of the memory record but the workload's own reading.
    ///
    /// # Errors
    /// When the leader has ended, or, without root, when a process belongs to another user.
    pub fn memory(&self) -> Result<sample::Memory, Error> {
        let daemons = match (&self.daemons_pss, self.daemons.as_slice()) {
            (_, []) => None,
            (Ok(before), daemons) => Some(pss_of(daemons)? as i64 - *before as i64),
            (Err(error), _) => return Err(error.clone()),
        };
        Ok(sample::Memory { daemons, ..self.own_memory()? })
    }

    /// The same without the daemons, which many instances share: nothing but nulls before the instance is attached.
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

    /// Whether a counted cgroup has the process.
    fn counts(&self, places: &Places) -> bool {
        self.groups.iter().any(|group| group.has(places))
    }

    /// The cgroup that counts the CPU time of the process and its like, if it has one of its own.
    ///
    /// Version 2 counts CPU time in every cgroup, whether it has the controller or not; engines on
    /// hybrid hosts put their processes there too, and sometimes not in version 1's cpuacct.
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

/// Memory of an instance's processes: those in its cgroup, and the engine's outside of it.
#[derive(Debug, Default)]
struct Held {
    inside: Pss,
    outside: Pss,
    /// PSS of the engine's processes, wherever they are.
    engine: u64,
}

impl Held {
    fn footprint(&self, charged_shmem: u64) -> u64 {
        let shmem = self.inside.shmem.max(charged_shmem) + self.outside.shmem;
        let private = self.inside.hugetlb_private + self.outside.hugetlb_private;
        // Pages that several processes map are there once; at least as many as one of them maps.
        let shared = self.inside.hugetlb_shared.max(self.outside.hugetlb_shared);
        self.inside.anon + self.outside.anon + shmem + private + shared
    }

    /// What nobody maps, such as a tmpfs' files, is in the cgroup's figure alone; what was charged elsewhere in the
    /// processes' alone.
    fn swap(&self, charged: u64) -> u64 {
        self.inside.swap.max(charged) + self.outside.swap
    }
}

impl Instance {
    fn held(&self) -> Result<Held, Error> {
        let members = match &self.members {
            Some(dir) => cgroup::pids(dir)?,
            None => process::tree(self.leader)?,
        };
        let inside: BTreeSet<u32> = members.into_iter().chain([self.leader]).collect();
        let outside: BTreeSet<u32> =
            self.engine.iter().copied().filter(|pid| !inside.contains(pid)).collect();
        let mut held = Held::default();
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

/// Anonymous and shared PSS of daemons in bytes, all of which have to be there: a sum without one compares with
/// nothing. Mapped files are left out: a daemon's share of them falls as soon as an instance maps the same ones.
fn pss_of(pids: &[u32]) -> Result<u64, Error> {
    let held = |pid| {
        let pss = process::pss(&PathBuf::from(format!("/proc/{pid}")))?;
        Ok(pss.anon + pss.shmem)
    };
    pids.iter().map(held).sum()
}

/// CPU time in ns of a process and its descendants, those that ended and were waited for included.
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
