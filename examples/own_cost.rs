//! Measures bootrace's own cost: compares its start-ups with the simplest manual way, alternating in one run.
//! `scripts/own-cost` runs it; the README quotes it.
//!
//! - native: the same command, looked up in `PATH` and `posix_spawn`ed in the same root, until its first byte of
//!   output; five times in a round, between the others
//! - docker: `docker run` of the same image, limits and command, until its first byte of output
//! - libvirt: `virsh create` of the same domain XML, until the same readiness frame
//! - QEMU alone: the same kernel, initramfs, disk, machine and accelerator without libvirt, until the same frame;
//!   the ratio to it is libvirt's own cost
//!
//! Usage: own_cost [ROUNDS [SEED [native|docker|libvirt]]]

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use bootrace::{
    analysis::{median::median, paired::Ranks},
    control::{ChannelEvent, Control, Greeting, Timestamp},
    image::{self, Cache, Forms, VmFiles},
    probe::kvm,
    runner::{self, Lock},
    sample::{Accelerator, Outcome},
    scenario::{self, Kind, Scenario, Span},
    target::{
        Cpus, InstanceId, Target,
        container::{self, Docker},
        libvirt::{self, Driver},
        native::{self, Native},
        vm::{self, Libvirt, machine, options::VmOptions},
    },
};
use bootrace_agent::protocol::{FromAgent, PATH, ToAgent};
use rand::{SeedableRng, seq::SliceRandom};
use rustix::thread::sched_setaffinity;
use tokio_util::sync::CancellationToken;

/// The compared ways for a kind of target, and the reported ratios.
struct Subject {
    kind: Kind,
    ways: &'static [&'static str],
    /// Repeats per round. A start of a millisecond is cheap, and its duration depends on what ran just before it.
    repeats: usize,
    ratios: &'static [(&'static str, &'static str)],
}

const SUBJECTS: [Subject; 3] = [
    Subject {
        kind: Kind::Native,
        ways: &["bootrace native", "spawn"],
        repeats: 5,
        ratios: &[("bootrace native", "spawn")],
    },
    Subject {
        kind: Kind::Docker,
        ways: &["bootrace docker", "docker run"],
        repeats: 1,
        ratios: &[("bootrace docker", "docker run")],
    },
    Subject {
        kind: Kind::Libvirt,
        ways: &["bootrace libvirt", "virsh create", "qemu alone"],
        repeats: 1,
        ratios: &[
            ("bootrace libvirt", "virsh create"),
            ("bootrace libvirt", "qemu alone"),
            ("virsh create", "qemu alone"),
        ],
    },
];

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = kvm::child() {
        return Ok(code);
    }
    let mut arguments = std::env::args().skip(1);
    let rounds: u32 = arguments.next().map_or(Ok(20), |n| n.parse()).context("ROUNDS is a whole number")?;
    let seed: u64 = arguments.next().map_or(Ok(1), |n| n.parse()).context("SEED is a whole number")?;
    let only = arguments.next();
    let subjects: Vec<_> =
        SUBJECTS.iter().filter(|it| only.as_deref().is_none_or(|only| it.kind.name() == only)).collect();
    ensure!(!subjects.is_empty(), "the third argument is native, docker or libvirt");
    // A private mount namespace for the roots of bare processes. Must come before the first thread.
    native::isolate_mounts()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            result = compare(rounds, seed, &subjects) => result,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; bootrace clean removes what is left"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn compare(rounds: u32, seed: u64, subjects: &[&Subject]) -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // The first round warms up.
    for round in 0..=rounds {
        let mut order: Vec<_> = subjects.iter().flat_map(|it| it.ways.repeat(it.repeats)).collect();
        order.shuffle(&mut rng);
        for way in order {
            let ns = bench.once(way).await.with_context(|| format!("round {round}: {way}"))?;
            if round > 0 {
                times.entry(way).or_default().push(ns as f64);
            }
        }
        eprintln!("round {round} of {rounds}");
    }
    println!("start-up of quickstart, {rounds} rounds, order shuffled with seed {seed}, {}", bench.host());
    for (way, ns) in &times {
        let least = ns.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "  {way:17} median {:8.2} ms, least {:8.2} ms",
            median(ns).unwrap_or(f64::NAN) / 1e6,
            least / 1e6
        );
    }
    println!("ratio of medians (Hodges-Lehmann ratio of the pairs with its 99 % interval)");
    for (ours, plain) in subjects.iter().flat_map(|it| it.ratios) {
        println!("  {ours} / {plain}: {}", ratio(&times[ours], &times[plain]));
    }
    Ok(())
}

fn ratio(ours: &[f64], plain: &[f64]) -> String {
    let (Some(a), Some(b)) = (median(ours), median(plain)) else { return "no samples".into() };
    let pairs: Vec<_> = plain.iter().copied().zip(ours.iter().copied()).collect();
    let paired = match Ranks::default().ratio(&pairs, 0.99) {
        Some(r) => match r.interval {
            Some(i) => format!(
                "{:.3}, {:.1} % interval {:.3} to {:.3}",
                r.estimate,
                i.coverage * 100.0,
                i.low,
                i.high
            ),
            None => format!("{:.3}, too few rounds for an interval", r.estimate),
        },
        None => "none".into(),
    };
    format!("{:.3} ({paired})", a / b)
}

/// State that all ways share.
struct Bench {
    scenario: Scenario,
    native: Native,
    tree: PathBuf,
    docker: Docker,
    docker_image: String,
    libvirt: Libvirt,
    vm: VmFiles,
    cache: Cache,
    _lock: Lock,
    run: String,
    number: u32,
    /// The CPUs that instances are bound to.
    cpus: Cpus,
}

impl Bench {
    async fn new() -> anyhow::Result<Self> {
        let (mut scenario, folder) = scenario::find("quickstart")?;
        // Only start-up is compared.
        scenario.sampling.settle = Span(Duration::ZERO);
        scenario.sampling.idle = Span(Duration::ZERO);
        scenario.workload.work = None;
        let cache = Cache::open(None)?;
        let log = |line: &str| eprintln!("{line}");
        let image =
            image::ensure(&scenario.image, &folder, Forms::of(&scenario.targets), &cache, &log).await?;
        let tree = image.tree.context("no root file system")?;
        let docker_image = image.docker.context("no Docker image")?;
        let vm = image.vm.context("no VM files")?;
        let spec =
            |kind| scenario.targets.iter().find(|t| t.kind() == kind).context("quickstart has every target");
        let resources = &scenario.resources;
        let native = Native::new(spec(Kind::Native)?, resources, false, tree.clone())?;
        let docker = Docker::connect(
            bootrace::image::ContainerEngine::Docker,
            spec(Kind::Docker)?,
            resources,
            false,
            docker_image.clone(),
        )
        .await?;
        let libvirt = Libvirt::connect(spec(Kind::Libvirt)?, resources, false, vm.clone()).await?;
        let run = format!("own-cost-{}", std::process::id());
        let _lock = Lock::take(&run)?;
        let cpus = Cpus::choose(&resources.cpus)?;
        Ok(Bench {
            cpus,
            native,
            tree,
            docker,
            docker_image,
            libvirt,
            vm,
            cache,
            _lock,
            run,
            number: 0,
            scenario,
        })
    }

    fn host(&self) -> String {
        format!("VM accelerator: {:?}", self.libvirt.info().accelerator)
    }

    /// Runs one start-up, removes everything of it, and returns its duration in ns.
    async fn once(&mut self, way: &str) -> anyhow::Result<u64> {
        let instance_id =
            runner::make_instance_id(&self.cache.instances_dir(), &self.run, self.number as usize)?;
        self.number += 1;
        let result = match way {
            "bootrace native" => self.bootrace(&self.native, &instance_id).await,
            "spawn" => self.spawn(&instance_id),
            "bootrace docker" => self.bootrace(&self.docker, &instance_id).await,
            "bootrace libvirt" => self.bootrace(&self.libvirt, &instance_id).await,
            "docker run" => self.docker_run(&instance_id),
            "virsh create" => self.virsh_create(&instance_id).await,
            _ => self.qemu(&instance_id).await,
        };
        // bootrace's own trial has removed it already.
        if instance_id.dir.exists() {
            fs::remove_dir_all(&instance_id.dir)?;
        }
        result
    }

    async fn bootrace(&self, target: &dyn Target, instance_id: &InstanceId) -> anyhow::Result<u64> {
        let trial = bootrace::plan::Trial { target: 0, round: 0, position: 0, warmup: false };
        let mut sample = bootrace::sample::Sample::blank("own-cost", &trial);
        let stop = CancellationToken::new();
        runner::trial(target, &self.scenario, instance_id, &mut sample, &stop, &mut |_| {}).await;
        ensure!(sample.outcome == Outcome::Ok, "{:?}", sample.error);
        sample.timeline_ns.startup().context("not ready")
    }

    /// Spawns in the root of a bare process, from a thread with that root, since `posix_spawn` can't set one.
    fn spawn(&self, instance_id: &InstanceId) -> anyhow::Result<u64> {
        let mut root = native::Root::new(&instance_id.dir);
        root.mount(&self.tree)?;
        let command = &self.scenario.workload.command;
        let spawned = thread::scope(|scope| {
            scope
                .spawn(|| spawn_in(&root.merged, command, &self.cpus))
                .join()
                .map_err(|_| anyhow!("it panicked"))?
        });
        root.unmount()?;
        spawned
    }

    fn docker_run(&self, instance_id: &InstanceId) -> anyhow::Result<u64> {
        let memory = self.scenario.resources.memory.0.to_string();
        let mut command = Command::new("docker");
        command.args([
            "run",
            "--rm",
            "--name",
            &instance_id.instance,
            "--network",
            "none",
            "--log-driver",
            "none",
        ]);
        command.args([
            "--label",
            &format!("{}={}", container::LABEL, instance_id.run),
            "--cpuset-cpus",
            &self.cpus.list(),
        ]);
        command.args(["--memory", &memory, "--memory-swap", &memory]);
        command.arg(&self.docker_image).args(&self.scenario.workload.command).stdout(Stdio::piped());
        let begin = Timestamp::now();
        let mut child = command.spawn().context("running docker run")?;
        let mut byte = [0];
        child
            .stdout
            .take()
            .context("no standard output")?
            .read_exact(&mut byte)
            .context("docker run printed nothing")?;
        let ns = Timestamp::now().since(begin);
        run_quiet("docker", &["kill", &instance_id.instance])?;
        child.wait()?;
        Ok(ns)
    }

    async fn virsh_create(&self, instance_id: &InstanceId) -> anyhow::Result<u64> {
        let file = instance_id.dir.join("domain.xml");
        fs::write(&file, self.libvirt.domain_xml(instance_id))?;
        let mut command = Command::new("virsh");
        command.args(["-q", "-c", "qemu:///system", "create"]).arg(&file).stdout(Stdio::null());
        let (ns, mut child, _control) = self.until_ready(instance_id, command).await?;
        child.wait()?;
        run_quiet("virsh", &["-q", "-c", "qemu:///system", "destroy", &instance_id.instance])?;
        libvirt::remove_log(Driver::Qemu, &instance_id.instance)?;
        Ok(ns)
    }

    async fn qemu(&self, instance_id: &InstanceId) -> anyhow::Result<u64> {
        let accelerator = self.libvirt.info().accelerator;
        let accel = if accelerator == Accelerator::Kvm { "kvm" } else { "tcg" };
        let cpu =
            VmOptions::default_for(accelerator).qemu_cpu().context("the default CPU depends on the host")?;
        let mut command = Command::new(format!("qemu-system-{}", std::env::consts::ARCH));
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-machine", &format!("{},accel={accel}", machine::MACHINE), "-cpu", &cpu]);
        command.args(["-m", &format!("{}M", self.scenario.resources.memory.0 >> 20)]);
        command.args(["-smp", &self.scenario.resources.cpus.count().to_string()]);
        command.arg("-kernel").arg(&self.vm.kernel).arg("-initrd").arg(&self.vm.initramfs);
        command.args(["-append", machine::KERNEL_COMMAND_LINE]);
        command.args(["-smbios", &format!("type=1,serial={}", instance_id.nonce.text())]);
        let disk = libvirt_disk(instance_id);
        command.args(["-drive", &format!("if=none,id=disk,format=qcow2,file={}", disk.display())]);
        command.args(["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci"]);
        command.args(["-chardev", &format!("socket,id=control,path={}", instance_id.socket().display())]);
        command.args([
            "-device",
            &format!("virtserialport,chardev=control,name={}", bootrace_agent::protocol::PORT_NAME),
        ]);
        let (ns, mut child, _control) = self.until_ready(instance_id, command).await?;
        child.kill()?;
        child.wait()?;
        Ok(ns)
    }

    /// Runs a command that starts a VM and waits for the readiness frame. It makes the VM's disk before, so this time
    /// does not include that, while bootrace's does. When the channel is dropped, the VM powers itself off.
    async fn until_ready(
        &self,
        instance_id: &InstanceId,
        mut command: Command,
    ) -> anyhow::Result<(u64, Child, Control)> {
        fs::copy(&self.vm.overlay, libvirt_disk(instance_id))?;
        let first = ToAgent::Start(runner::workload(&self.scenario));
        let nonce = instance_id.nonce.clone();
        let mut control = Control::listen(&instance_id.socket(), nonce, &first, Greeting::AtOnce)?;
        let begin = Timestamp::now();
        let child = command.spawn().with_context(|| format!("running {command:?}"))?;
        let ready = async {
            loop {
                let event = control.next().await;
                match event.what {
                    ChannelEvent::Said(FromAgent::Ready { .. }) => return Ok(event.at.since(begin)),
                    ChannelEvent::Said(FromAgent::Hello(_)) => {}
                    other => bail!("in place of ready came {other:?}"),
                }
            }
        };
        let ns =
            tokio::time::timeout(self.scenario.sampling.timeout.0, ready).await.context("never ready")??;
        Ok((ns, child, control))
    }
}

/// Changes the root of its thread for good.
fn spawn_in(root: &Path, command: &[String], cpus: &Cpus) -> anyhow::Result<u64> {
    sched_setaffinity(None, &cpus.set())?;
    #[expect(unsafe_code, reason = "unshare could also part threads from their descriptors")]
    // SAFETY: the root, working directory and umask of this thread alone stop being shared with the others.
    unsafe {
        rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS)?
    };
    std::os::unix::fs::chroot(root)?;
    std::env::set_current_dir("/")?;
    let (program, arguments) = command.split_first().context("the workload's command is empty")?;
    // Looking up the program is a part of the start, as for bootrace.
    let begin = Timestamp::now();
    let found = PATH.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.exists());
    // With a path, and nothing to do between fork and exec, the standard library uses posix_spawn.
    let mut command = Command::new(found.context("the image lacks the workload's program")?);
    command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut byte = [0];
    child.stdout.take().context("no standard output")?.read_exact(&mut byte)?;
    let ns = Timestamp::now().since(begin);
    child.kill()?;
    child.wait()?;
    Ok(ns)
}

fn libvirt_disk(instance_id: &InstanceId) -> std::path::PathBuf {
    instance_id.dir.join(vm::DISK)
}

fn run_quiet(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
