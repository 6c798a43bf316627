//! Trials of each engine: a root file system that contains only the agent, started and measured by the runner's own
//! code as in a run. For libvirt a paused VM without an operating system, since a boot takes seconds.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bootrace_agent::protocol::AGENT_PATH;
use tokio_util::sync::CancellationToken;

use super::{Check, account::Account, host, storage};
use crate::{
    image::{self, Cache, ContainerEngine},
    plan,
    runner::{self, Lock, make_instance_id},
    sample::{Accelerator, Sample},
    scenario::{self, Kind, Scenario},
    sys::{load::Load, sockets},
    target::{
        InstanceId, Target,
        container::{self, Docker},
        engine,
        lxc::Lxc,
        native::{self, Native},
        vm::{self, inspect},
    },
};

/// How long a trial of an engine may take, from nothing to gone. The first domain after libvirtd's start takes longest.
fn for_a_trial(patience: Duration) -> Duration {
    patience * 4
}

/// Teardown waits until QEMU is reaped; more than this means a slow PID 1.
const SLOW_END: Duration = Duration::from_secs(1);

/// The agent as its own workload: with a socket that nobody listens at it ends with code 1.
fn scenario() -> Scenario {
    let targets: String = Kind::ALL.iter().map(|kind| format!("[[target]]\nkind = \"{kind}\"\n")).collect();
    let text = format!(
        "name = \"doctor\"\n[workload]\ncommand = [\"{AGENT_PATH}\", \"/nobody/listens\"]\nready = {{ exit = 1 }}\n\
         [resources]\ncpus = 1\nmemory = \"96MiB\"\n\
         [sampling]\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"60s\"\n{targets}"
    );
    Scenario::parse(&text, "the doctor's trial").expect("it is the same for everyone, and a test parses it")
}

/// The directory of trials: in the cache, as that of instances.
pub struct Bench {
    run: String,
    /// The lock keeps `bootrace clean` from removing trials.
    _lock: Lock,
    instances: PathBuf,
    home: InstanceId,
    next: AtomicUsize,
    scenario: Scenario,
    /// Time limit of each trial.
    patience: Duration,
}

impl Bench {
    /// `patience`: how long an engine may take to answer.
    ///
    /// # Errors
    /// When the directory or its files can't be made.
    pub fn new(cache: &Cache, patience: Duration) -> anyhow::Result<Self> {
        let run = format!("doctor-{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let lock = Lock::take(&run)?;
        let instances = cache.instances_dir();
        let home = make_instance_id(&instances, &run, 0)?;
        let (next, patience) = (AtomicUsize::new(1), for_a_trial(patience));
        let bench = Bench { run, _lock: lock, instances, home, next, scenario: scenario(), patience };
        image::trial::make_tree(&bench.tree())?;
        Ok(bench)
    }

    fn tree(&self) -> PathBuf {
        self.home.dir.join("tree")
    }

    fn instance_id(&self) -> anyhow::Result<InstanceId> {
        make_instance_id(&self.instances, &self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether QEMU's user can read the file system of images.
    pub fn readable(&self, account: &Account, cache: &Cache) -> Check {
        let (id, title) = ("qemu.files", "images for QEMU's user");
        let (name, file) = (&account.name, self.home.dir.join("image"));
        let make = || {
            fs::write(&file, "image")?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
        };
        if let Err(e) = make() {
            return Check::failed(id, title, format!("writing {}: {e}", file.display()), &Kind::ALL)
                .fix(storage::PRUNE);
        }
        match account.run_as(|| fs::File::open(&file)) {
            Ok(_) => Check::ok(id, title, format!("{name} can read {}", cache.dir().display())),
            Err(e) => {
                let fix = match cache.barrier() {
                    Some(barrier) => format!(
                        "sudo chmod o+x {}, or another directory in BOOTRACE_CACHE",
                        barrier.display()
                    ),
                    None => "name another directory in BOOTRACE_CACHE".into(),
                };
                let found = format!("libvirt runs QEMU as {name}, which can't read {}: {e}", file.display());
                Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix)
            }
        }
    }

    /// Tries cgroups, then a root file system, then a bare process with both: the first failure is the cause.
    pub async fn native(&self, isolated: &Result<(), String>) -> Check {
        let (id, title) = ("native.trial", "a bare process");
        let failed = |found: String| Check::failed(id, title, found, &[Kind::Native]);
        if let Err(e) = native::try_cgroups(&self.home.instance, &self.scenario.resources) {
            let container = "in a container, run it with --privileged and --cgroupns=host";
            let fix = host::cgroups().fix.map_or(container.into(), |fix| format!("{fix}; {container}"));
            return failed(format!("making and removing a cgroup: {e}")).fix(fix);
        }
        if let Err(error) = isolated {
            return failed(error.clone())
                .fix("run bootrace on the host itself, or in a privileged container");
        }
        if let Err(error) = native::try_root(&self.home.dir.join("mounted")) {
            let fix = error.hint.clone().unwrap_or_default();
            return failed(error.without_hint()).fix(fix);
        }
        let target = Native::new(&self.scenario.targets[0], &self.scenario.resources, false, self.tree());
        match target {
            Ok(target) => self.judge(id, title, Kind::Native, self.run(&target).await),
            // The process has no CPU, or can't read which ones it has.
            Err(error) => failed(error.to_string())
                .fix("taskset -c 0 bootrace doctor; in a container, give it a CPU (--cpuset-cpus)"),
        }
    }

    /// Runs a libvirt container.
    pub async fn lxc(&self) -> Check {
        let tried = async {
            let target = Lxc::connect(self.target(Kind::Lxc), &self.scenario.resources, false, self.tree());
            self.run(&target.await?).await
        };
        self.judge("lxc.trial", "a libvirt container", Kind::Lxc, self.in_time(tried).await)
    }

    fn target(&self, kind: Kind) -> &scenario::ScenarioTarget {
        let mut targets = self.scenario.targets.iter();
        targets
            .find(|target| target.kind() == kind)
            .expect("the trials' scenario has every kind that is tried")
    }

    /// Runs a container of an engine.
    pub async fn container(&self, engine: ContainerEngine, id: &'static str, title: &'static str) -> Check {
        let kind = engine.kind();
        let image = format!("{}:{}", container::TRIAL_IMAGE, self.home.instance);
        let tried = async {
            image::trial::import(engine, &self.tree(), &image, (container::LABEL, &self.run)).await?;
            let target =
                Docker::connect(engine, self.target(kind), &self.scenario.resources, false, image.clone())
                    .await?;
            self.run(&target).await
        };
        let tried = self.in_time(tried).await;
        // Also after a time-out. `bootrace clean` finds the rest.
        let removed =
            self.in_time(async { Ok(container::left_over::remove_image(engine, &image).await?) }).await;
        self.judge(id, title, kind, tried.and_then(|took| removed.map(|()| took)))
    }

    /// Runs one instance to its end, as a run does.
    async fn run(&self, target: &dyn Target) -> anyhow::Result<Sample> {
        let instance_id = self.instance_id()?;
        let place = plan::Trial { round: 0, position: 0, warmup: false, target: 0 };
        let mut sample = Sample::blank(&target.info().name, &place);
        let stop = CancellationToken::new();
        let mut step = |_| {};
        let running = runner::trial(target, &self.scenario, &instance_id, &mut sample, &stop, &mut step);
        tokio::time::timeout(self.patience, running).await.map_err(|_| self.late())?;
        match sample.error.take() {
            None => Ok(sample),
            Some(error) => Err(anyhow::anyhow!(error)),
        }
    }

    fn judge(
        &self,
        id: &'static str,
        title: &'static str,
        kind: Kind,
        tried: anyhow::Result<Sample>,
    ) -> Check {
        match tried {
            Ok(sample) => {
                let timeline = sample.timeline_ns;
                let ms = |ns: Option<u64>| ns.map_or("?".into(), |ns| (ns / 1_000_000).to_string());
                let found = format!(
                    "the agent ran in one: ready after {} ms, measured, gone after {} ms",
                    ms(timeline.ready),
                    ms(timeline.teardown())
                );
                Check::ok(id, title, found)
            }
            Err(error) => Check::failed(id, title, format!("{error:#}"), &[kind]).fix(fix(kind)),
        }
    }

    /// Starts a paused VM that opens a disk and the control socket.
    pub async fn libvirt(&self, accelerator: Accelerator) -> Vec<Check> {
        let (id, title) = ("libvirt.trial", "a VM");
        if let Err(error) = vm::check_socket(&self.instances) {
            let found = error.without_hint();
            return vec![
                Check::failed(id, title, found, &[Kind::Libvirt]).fix(error.hint.unwrap_or_default()),
            ];
        }
        let took = match self.in_time(self.domain(accelerator)).await {
            Ok(took) => took,
            Err(error) => {
                let failed = Check::failed(id, title, format!("{error:#}"), &[Kind::Libvirt]);
                return vec![failed.fix(fix(Kind::Libvirt))];
            }
        };
        let how = if accelerator == Accelerator::Kvm { "on KVM" } else { "emulated (TCG)" };
        let (start, end) = (took.start.as_millis(), took.end.as_millis());
        let found = format!("QEMU started one, {how}, in {start} ms, and it was gone after {end} ms");
        let mut checks = vec![Check::ok(id, title, found)];
        if took.end > SLOW_END {
            let found = format!(
                "libvirt waited {end} ms for QEMU to be gone: PID 1 here may be slow to reap orphans; teardown is so \
                 much longer"
            );
            let fix = "start libvirtd below a subreaper (docker-init -s -- libvirtd), as scripts/setup does";
            checks.push(Check::warning("libvirt.reaping", "end of a VM", found).fix(fix));
        }
        checks
    }

    async fn domain(&self, accelerator: Accelerator) -> anyhow::Result<inspect::TrialTimes> {
        let instance_id = self.instance_id()?;
        let (disk, socket) = (instance_id.dir.join("disk"), instance_id.socket());
        let _listener = sockets::listen(&socket)?;
        fs::File::create(&disk)?.write_all(&[0; 4096])?;
        let tried = inspect::try_domain(&instance_id.instance, &self.run, accelerator, &disk, &socket).await;
        fs::remove_dir_all(&instance_id.dir)?;
        Ok(tried?)
    }

    async fn in_time<T>(&self, trying: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::time::timeout(self.patience, trying).await.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> anyhow::Error {
        anyhow::anyhow!("it did not finish within {:?}: {}", self.patience, Load::now().explain())
    }
}

/// The fix of a failed trial, if its error names none.
fn fix(kind: Kind) -> String {
    let fix = match engine::daemon_of(kind) {
        None => {
            "sudo dmesg shows what the kernel refused; or name another directory in BOOTRACE_CACHE".into()
        }
        Some((daemon, place)) => daemon.log(place),
    };
    format!("{fix}; sudo bootrace clean removes left-overs")
}

impl Drop for Bench {
    /// Leaves a failed trial's directory: a mount may remain in it, and `bootrace clean` removes that first.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trials_scenario_has_every_kind() {
        let kinds: Vec<Kind> = scenario().targets.iter().map(|target| target.kind()).collect();
        assert_eq!(kinds, Kind::ALL);
    }

    #[test]
    fn a_failed_trial_names_the_log_of_its_engine() {
        for kind in Kind::ALL {
            assert!(fix(kind).ends_with("; sudo bootrace clean removes left-overs"), "{kind}");
        }
    }
}
