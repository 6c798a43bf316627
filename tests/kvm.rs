//! VMs that die: each is reported at once, with libvirt's reason and the fix, and nothing is left.
//!
//! They run a tiny firmware of ours in place of a kernel, which needs no boot. Its one telling instruction is
//! beyond a KVM that emulates; hardware does it, and goes on to the firmware's end, a triple fault. So on a
//! host with KVM in hardware the same tests see that end, and on one without KVM that asking for it is refused.

mod common;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bootrace::{
    image::{Cache, VmFiles},
    plan,
    probe::kvm::{KvmVerdict, use_program},
    runner::{make_instance_id, trial},
    sample::{self, Outcome, Sample},
    scenario::{Accel, Scenario, TargetOptions},
    target::{Error, Instance, InstanceId, Target, vm::Libvirt},
};
use common::{Bench, Ran, left_over, probe_kvm};
use tokio_util::sync::CancellationToken;

/// When a VM that should come up hangs: as long as its scenario gives it.
const HANGS: Duration = Duration::from_secs(120);

const SCENARIO: &str = r#"
name = "kvm"
[image]
suite = "debian/bookworm"
[workload]
command = ["x"]
ready = { line = "ready" }
[resources]
memory = "128MiB"
[sampling]
timeout = "120s"
[[target]]
kind = "libvirt"
accel = "kvm"
"#;

/// 64 KiB that end at 4 GiB, the last 16 bytes of which are where a processor begins.
fn firmware() -> Vec<u8> {
    let mut rom = vec![0; 64 << 10];
    // fld1; lidt [0x10] (a table of length 0); int3
    let program = [0xd9, 0xe8, 0x2e, 0x0f, 0x01, 0x1e, 0x10, 0x00, 0xcc];
    rom[..program.len()].copy_from_slice(&program);
    // jmp 0, from the reset vector
    rom[0xfff0..0xfff3].copy_from_slice(&[0xe9, 0x0d, 0x00]);
    rom
}

/// Domains as bootrace makes them, but for what is altered.
struct Altered<F> {
    libvirt: Libvirt,
    alter: F,
}

#[async_trait]
impl<F: Fn(String) -> String + Send + Sync> Target for Altered<F> {
    fn info(&self) -> sample::TargetRecord {
        self.libvirt.info()
    }

    fn warnings(&self) -> Vec<String> {
        self.libvirt.warnings()
    }

    fn versions(&self, host: &mut sample::Host) {
        self.libvirt.versions(host);
    }

    fn daemons(&self) -> Vec<u32> {
        self.libvirt.daemons()
    }

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        self.libvirt.stage_domain(instance_id, (self.alter)(self.libvirt.domain_xml(instance_id))).await
    }
}

/// What is from one mark to the end of another gives way to `new`; the first may end in the other.
fn replace(xml: &str, from: &str, to: &str, new: &str) -> String {
    let start = xml.find(from).unwrap_or_else(|| panic!("no {from} in {xml}"));
    let inside = start + from.len() - to.len().min(from.len());
    let end = inside + xml[inside..].find(to).unwrap_or_else(|| panic!("no {to} in {xml}")) + to.len();
    format!("{}{new}{}", &xml[..start], &xml[end..])
}

/// One trial of a VM that has our firmware and whatever else `alter` does to it.
fn trial_of(
    accel: Accel,
    alter: impl Fn(String) -> String + Send + Sync,
) -> (Sample, sample::TargetRecord, Vec<String>) {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::write(file("firmware"), firmware()).unwrap();
    let made =
        Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(file("disk")).arg("1M").status();
    assert!(made.unwrap().success());
    let rom = format!("<loader readonly='yes' type='rom'>{}</loader></os>", file("firmware").display());
    let files = || VmFiles {
        kernel: file("none"),
        initramfs: file("none"),
        disk: file("disk"),
        overlay: file("disk"),
        system: None,
    };

    let scenario = Scenario::parse(SCENARIO, "kvm.rs").unwrap();
    let mut spec = scenario.targets[0].clone();
    let TargetOptions::Libvirt(options) = &mut spec.options else { panic!("{spec:?}") };
    options.accel = Some(accel);
    let cache = Cache::open(None).unwrap();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let run = format!("kvm-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let instance_id = make_instance_id(&cache.instances_dir(), &run, 0).unwrap();
    let mut sample =
        Sample::blank(&spec.name, &plan::Trial { round: 0, position: 0, target: 0, warmup: false });

    use_program(env!("CARGO_BIN_EXE_bootrace"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let start = Instant::now();
    let target = runtime.block_on(async {
        let libvirt = Libvirt::connect(&spec, &scenario.resources, false, files()).await.unwrap();
        let alter = |xml: String| alter(replace(&xml, "<kernel>", "</os>", &rom));
        let target = Altered { libvirt, alter };
        let end =
            trial(&target, &scenario, &instance_id, &mut sample, &CancellationToken::new(), &mut |_| {})
                .await;
        assert_eq!(end.left_behind, Vec::<String>::new());
        (target.info(), target.warnings())
    });
    let took = start.elapsed();
    // One that nobody reports is timed out, and no failure.
    assert_eq!(sample.outcome, Outcome::Failed, "{:?}", sample.error);
    assert!(took < scenario.sampling.timeout.0, "it took {took:?}: {:?}", sample.error);
    assert_eq!(left_over(), Vec::<String>::new());
    println!("{took:?}: {}", sample.error.as_deref().unwrap_or_default());
    (sample, target.0, target.1)
}

fn says(sample: &Sample, signs: &[&str]) {
    let error = sample.error.as_deref().unwrap();
    signs.iter().for_each(|sign| assert!(error.contains(sign), "no {sign:?} in: {error}"));
}

/// Where there is no KVM: holds that a run which asks for it is refused before it begins, with the fix.
fn is_refused_for_want_of_kvm() -> bool {
    let verdict = probe_kvm();
    let KvmVerdict::Missing { .. } = verdict else { return false };
    let bench = Bench::new(
        "\n[workload]\ncommand = [\"x\"]\nready = { line = \"ready\" }\n[[target]]\nkind = \"libvirt\"\naccel = \"kvm\"\n",
    );
    let ran = bench.run(&[]);
    ran.fails(1, &["using KVM as the scenario asks", &verdict.to_string(), "accel = \"auto\" would emulate"]);
    if !Path::new("/dev/kvm").exists() && cfg!(target_arch = "x86_64") {
        ran.fails(1, &["modprobe kvm_intel or kvm_amd"]);
    }
    assert!(ran.results.is_none(), "nothing was run");
    assert_eq!(left_over(), Vec::<String>::new());
    true
}

/// Some hosts' KVM refuses this register of host-passthrough before it comes to anything else.
fn refuses_capabilities(sample: &Sample) -> bool {
    sample.error.as_deref().unwrap_or_default().contains("failed to set MSR 0x10a")
}

fn without_capabilities(xml: String) -> String {
    let off = "<cpu mode='host-passthrough' migratable='on'><feature policy='disable' name='arch-capabilities'/></cpu>";
    replace(&xml, "<cpu mode='host-passthrough'", "/>", off)
}

const RESET: &str = "libvirt reports: the domain was shut down or reset by its guest";

#[test]
#[ignore = "needs root, docker, libvirt and qemu-img: scripts/test runs it"]
fn a_vm_that_kvm_stops_is_reported_at_once_with_its_state_and_the_fix() {
    if is_refused_for_want_of_kvm() {
        return;
    }
    let (mut sample, mut target, mut warnings) = trial_of(Accel::Kvm, |xml| xml);
    if refuses_capabilities(&sample) {
        says(&sample, &["IA32_ARCH_CAPABILITIES", "without arch-capabilities", "accel = \"tcg\""]);
        (sample, target, warnings) = trial_of(Accel::Kvm, without_capabilities);
    }
    assert_eq!(target.accelerator, sample::Accelerator::Kvm);
    let reason = target.accelerator_reason.unwrap();
    match probe_kvm() {
        KvmVerdict::Runs { .. } => {
            says(&sample, &[RESET]);
            assert_eq!(warnings, Vec::<String>::new());
        }
        _ => {
            says(&sample, &["libvirt reports: the domain was paused", "Its state is paused: unknown"]);
            says(&sample, &["KVM internal error. Suberror: 1", "accel = \"auto\" or \"tcg\""]);
            assert!(reason.starts_with("asked for by the scenario, in spite of the probe"), "{reason}");
            assert!(warnings[0].starts_with("libvirt uses KVM only because"), "{warnings:?}");
        }
    }
}

#[test]
#[ignore = "needs root, docker, libvirt and qemu-img: scripts/test runs it"]
fn a_guest_that_resets_itself_is_reported_at_once() {
    let (sample, target, _) = trial_of(Accel::Tcg, |xml| xml);
    assert_eq!(target.accelerator, sample::Accelerator::Tcg);
    says(&sample, &[RESET]);
}

#[test]
#[ignore = "needs root, docker, libvirt and qemu-img: scripts/test runs it"]
fn a_register_that_kvm_refuses_is_named_with_the_fix() {
    if is_refused_for_want_of_kvm() {
        return;
    }
    // The clock of Hyper-V is in a register that real KVM has. (MSR 0x10a, for which host-passthrough is
    // refused on some hosts, ends QEMU in the same way, and can't be had everywhere.)
    let clock = "<clock offset='utc'><timer name='hypervclock' present='yes'/></clock><devices>";
    let timed = |xml: String| replace(&xml, "<devices>", ">", clock);
    let (mut sample, ..) = trial_of(Accel::Kvm, timed);
    if refuses_capabilities(&sample) {
        (sample, ..) = trial_of(Accel::Kvm, |xml| timed(without_capabilities(xml)));
    }
    match probe_kvm() {
        KvmVerdict::Runs { .. } => says(&sample, &[RESET]),
        _ => says(&sample, &["failed to set MSR 0x", "take another CPU model, or accel = \"tcg\""]),
    }
}

#[test]
#[ignore = "needs root, docker, libvirt and qemu-img: scripts/test runs it"]
fn a_cpu_model_that_the_host_cant_give_is_named_with_the_fix() {
    if is_refused_for_want_of_kvm() {
        return;
    }
    // No processor has both makers' virtualisation.
    let model = "<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model>\
                 <feature policy='require' name='svm'/><feature policy='require' name='vmx'/></cpu>";
    let (sample, ..) = trial_of(Accel::Kvm, |xml| {
        replace(&xml, "<cpu ", if xml.contains("</cpu>") { "</cpu>" } else { "/>" }, model)
    });
    says(&sample, &["does not provide required features", "take another, such as host-passthrough"]);
}

/// A real VM, emulated, that would take its time; two samples.
fn slow() -> Bench {
    Bench::new(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"sleep 5; echo ready; exec sleep infinity\"]\n\
         ready = { line = \"ready\" }\n[resources]\nmemory = \"256MiB\"\n\
         [sampling]\nsamples = 2\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"120s\"\n\
         [[target]]\nkind = \"libvirt\"\naccel = \"tcg\"\n",
    )
}

/// Does something to the first VM of a run once QEMU runs; the second VM must be well.
fn first_fails(uri: Option<&str>, harm: impl Fn(&str) + Send + 'static, signs: &[&str]) {
    let bench = slow();
    let mut command = bench.command(&[]);
    command.envs(uri.map(|uri| ("LIBVIRT_DEFAULT_URI", uri)));
    let harming = thread::spawn(move || {
        let until = Instant::now() + HANGS;
        while Instant::now() < until {
            let files = fs::read_dir("/run/libvirt/qemu").unwrap().flatten();
            let names = files.filter_map(|f| Some(f.file_name().to_str()?.strip_suffix(".pid")?.to_owned()));
            if let Some(name) = names.into_iter().find(|name| name.starts_with("bootrace-")) {
                thread::sleep(Duration::from_secs(2));
                harm(&name);
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no VM came up");
    });
    let ran = Ran::new(command.output().unwrap(), bench.results());
    harming.join().unwrap();
    ran.fails(1, &["1 of 2 samples failed"]);
    let samples = ran.results.unwrap().samples;
    println!("{:?}", samples[0].error);
    assert_eq!(
        (samples[0].outcome, samples[1].outcome),
        (Outcome::Failed, Outcome::Ok),
        "{:?}",
        samples[1].error
    );
    says(&samples[0], signs);
    assert_eq!(left_over(), Vec::<String>::new());
}

fn virsh(arguments: &[&str]) {
    assert!(
        Command::new("virsh")
            .args(["-q", "-c", "qemu:///system"])
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
#[ignore = "needs root, docker, libvirt and virsh: scripts/test runs it"]
fn a_vm_that_another_program_pauses_is_reported_with_the_cause() {
    let signs = ["libvirt reports: the domain was paused", "Its state is paused: user"];
    first_fails(None, |name| virsh(&["suspend", name]), &signs);
}

#[test]
#[ignore = "needs root, docker, libvirt and qemu-img: scripts/test runs it"]
fn a_vm_whose_qemu_is_killed_is_reported_as_that() {
    let kill = |name: &str| {
        let pid = fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap();
        assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    };
    first_fails(None, kill, &["libvirt reports: the domain stopped: QEMU died"]);
}

/// Stands between a client and libvirtd, and can cut what connections there are.
struct Between(Arc<Mutex<Vec<UnixStream>>>);

impl Between {
    fn listen(at: &Path) -> Self {
        let (listener, streams) = (UnixListener::bind(at).unwrap(), Arc::new(Mutex::new(Vec::new())));
        let open = streams.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = UnixStream::connect("/run/libvirt/libvirt-sock").unwrap();
                let both = |stream: &UnixStream| stream.try_clone().unwrap();
                open.lock().unwrap().extend([both(&client), both(&server)]);
                for (from, to) in [(both(&client), both(&server)), (server, client)] {
                    thread::spawn(move || pass_on(from, to));
                }
            }
        });
        Between(streams)
    }

    fn cut(&self) {
        for stream in self.0.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let n = from.read(&mut bytes)?;
        to.write_all(&bytes[..n])?;
        if n == 0 {
            return to.shutdown(std::net::Shutdown::Write);
        }
    }
}

#[test]
#[ignore = "needs root, docker, libvirt and qemu-img: scripts/test runs it"]
fn a_lost_connection_is_reported_at_once_and_made_anew_for_the_next_vm() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("libvirt");
    let between = Between::listen(&socket);
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    first_fails(Some(&uri), move |_| between.cut(), &["libvirt reports: the connection to libvirt was lost"]);
}
