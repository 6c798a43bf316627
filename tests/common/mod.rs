//! What the tests share that run the real program on real engines.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bootrace::{
    probe::kvm,
    sample::{Identity, Outcome, Results, Sample},
};

pub mod ab;
pub mod cache;

/// One image, so that all tests share it.
/// Debian's, since tests must pass where no Ubuntu archive answers, and its kernel is five times as fast to boot under
/// emulation. `.ci/run` has a real run of the shipped scenario, which is Ubuntu's.
const IMAGE: &str = "[image]\nsuite = \"debian/bookworm\"\n";

/// Probes this host's KVM as the program does. This test program has no `main` that could be the sandboxed child.
pub fn probe_kvm() -> kvm::KvmVerdict {
    kvm::use_program(env!("CARGO_BIN_EXE_bootrace"));
    kvm::probe()
}

/// Makes the command hear every signal: a test in the background of a shell ignores Ctrl-C, and so would what it starts.
pub fn hear_signals(command: &mut Command) -> &mut Command {
    #[expect(unsafe_code, reason = "a call between fork and exec")]
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        })
    }
}

/// bootrace with these arguments, without colours, log settings or engines of whoever runs the test.
pub fn bootrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    hear_signals(&mut command).args(arguments);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG", "DOCKER_HOST", "LIBVIRT_DEFAULT_URI"] {
        command.env_remove(name);
    }
    command.env("DOCKER_CONTEXT", "default");
    command
}

/// Writes "found:" and the network interfaces that are up or a device: what a host's tunnel drivers put into every network
/// namespace is neither.
pub const LIST_INTERFACES: &str = r#"
    cd /sys/class/net
    for name in *; do
        [ -e $name/flags ] || continue
        if [ -e $name/device ] || [ $(($(cat $name/flags) & 1)) = 1 ]; then found="$found $name"; fi
    done
    echo "found:$found""#;

/// A scenario in a directory of its own, with what the program writes.
pub struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    /// `rest` is everything of the scenario but its name and image.
    pub fn new(rest: &str) -> Self {
        let (top, tables) = rest.split_at(rest.find("\n[").map_or(0, |at| at + 1));
        Bench::with_text(&format!("name = \"test\"\n{top}\n{IMAGE}\n{tables}"))
    }

    pub fn with_text(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("test.toml"), text).unwrap();
        Bench { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn scenario(&self) -> PathBuf {
        self.dir.path().join("test.toml")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
        hear_signals(&mut command).arg("run").arg(self.scenario());
        command.args(["--seed", "1", "--out"]).arg(self.dir.path().join("out")).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran::new(output, self.results())
    }

    /// The directory of the newest run.
    pub fn latest(&self) -> PathBuf {
        self.dir.path().join("out/latest")
    }

    pub fn results(&self) -> Option<Results> {
        let text = fs::read(self.latest().join("results.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }
}

pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub results: Option<Results>,
}

impl Ran {
    pub fn new(output: Output, results: Option<Results>) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr), results }
    }

    /// Every sample of a run that must have gone well.
    pub fn good(self) -> Vec<Sample> {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        let results = self.results.unwrap();
        let samples = results.samples.clone();
        holds_to_schema(&results);
        for sample in &samples {
            assert_eq!(sample.outcome, Outcome::Ok, "{:?}", sample.error);
        }
        samples
    }

    /// Asserts the exit code and that the message names each of `signs`.
    pub fn fails(&self, code: i32, signs: &[&str]) {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        for sign in signs {
            assert!(self.stderr.contains(sign), "no {sign:?} in: {}", self.stderr);
        }
    }
}

/// Asserts that all samples had the same image and workload and this agent, as seen inside; returns what the first saw.
pub fn ran_the_same(samples: &[Sample]) -> Identity {
    let first = samples[0].identity.clone().unwrap();
    assert!(first.image_digest.is_some() && first.workload_digest.is_some(), "{first:?}");
    for sample in samples {
        let (name, identity) = (sample.target.as_str(), sample.identity.as_ref().unwrap());
        assert_eq!(identity.image_digest, first.image_digest, "{name}");
        assert_eq!(identity.agent_digest, Some(bootrace::agent::digest()), "{name}");
        assert_eq!(identity.workload_digest, first.workload_digest, "{name}");
    }
    first
}

/// Holds what a real run wrote to the published schema.
pub fn holds_to_schema(results: &Results) {
    let schema = include_str!("../../reports/results.schema.json");
    let validator = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let results = serde_json::to_value(results).unwrap();
    let errors: Vec<String> = validator.iter_errors(&results).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

pub fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything of ours that runs on this host: containers, domains, cgroups, instances' files.
pub fn left_over() -> Vec<String> {
    let mut left = Vec::new();
    let lines = |text: String, kind: &'static str| {
        text.lines().filter(|l| !l.is_empty()).map(|l| format!("{kind} {l}")).collect::<Vec<_>>()
    };
    left.extend(lines(output_of("docker", &["ps", "-aq", "--filter", "label=bootrace.run"]), "container"));
    let domains = output_of("virsh", &["-q", "-c", "qemu:///system", "list", "--all", "--name"]);
    left.extend(lines(domains, "domain").into_iter().filter(|l| l.contains("bootrace-")));
    let podman = [
        "--remote",
        "--url",
        "unix:///run/podman/podman.sock",
        "ps",
        "-aq",
        "--filter",
        "label=bootrace.run",
    ];
    left.extend(lines(output_of("podman", &podman), "podman container"));
    let domains = output_of("virsh", &["-q", "-c", "lxc:///", "list", "--all", "--name"]);
    left.extend(lines(domains, "LXC domain").into_iter().filter(|l| l.contains("bootrace-")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(lines(mounts, "mount").into_iter().filter(|l| l.contains("/instances/bootrace-")));
    for parent in ["cpu", "cpuacct", "memory", "pids", "."].map(|c| format!("/sys/fs/cgroup/{c}/bootrace")) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                left.push(format!("cgroup {}", entry.path().display()));
            }
        }
    }
    let cache = std::env::var("BOOTRACE_CACHE").unwrap_or_else(|_| "/var/cache/bootrace".into());
    for dir in [
        format!("{cache}/instances"),
        "/run/bootrace".into(),
        "/var/log/libvirt/qemu".into(),
        "/var/log/libvirt/lxc".into(),
    ] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("bootrace-") {
                left.push(format!("file {}", entry.path().display()));
            }
        }
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let of_engine = ["conmon", "libvirt_lxc"].iter().any(|program| {
            let line = String::from_utf8_lossy(&line);
            line.split('\0').next().is_some_and(|word| word.ends_with(program)) && line.contains("bootrace-")
        });
        if of_engine || line.starts_with(bootrace_agent::protocol::AGENT_PATH.as_bytes()) {
            left.push(format!("process {}", entry.path().display()));
        }
    }
    left
}
