//! An engine's daemon is stopped, killed and started again in mid-run. dockerd and podman's service are the test's own,
//! so that no other container is touched.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    case::{PATIENCE, Row, SETTLING, Then, all_hold},
    common::{bootrace, output_of},
    killed::each_step_lasts,
};

/// A daemon of the test's own: its command, which listens at `socket`.
pub struct Own {
    dir: tempfile::TempDir,
    podman: bool,
    daemon: Mutex<Option<Child>>,
}

impl Own {
    pub fn start(podman: bool) -> Arc<Own> {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let own = Own { dir, podman, daemon: Mutex::default() };
        own.run();
        Arc::new(own)
    }

    /// A dockerd with all of its files below `dir`.
    pub fn start_in(dir: &Path) -> Own {
        let own = Own { dir: tempfile::tempdir_in(dir).unwrap(), podman: false, daemon: Mutex::default() };
        own.run();
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.path("engine.sock").display())
    }

    /// Starts it, and waits until it answers.
    fn run(&self) {
        // A dockerd that was killed leaves both, and does not start while there is a pid file.
        for name in ["engine.sock", "pid"] {
            let _ = fs::remove_file(self.path(name));
        }
        let mut command = if self.podman {
            let mut command = Command::new("podman");
            command.args(["system", "service", "--time=0", &self.address()]);
            command
        } else {
            // In a network of its own: without a bridge, it would remove that of the host's dockerd.
            let mut command = Command::new("unshare");
            command.args([
                "--net",
                "dockerd",
                "--log-level",
                "error",
                "--bridge",
                "none",
                "--iptables=false",
            ]);
            command.args(["--ip6tables=false", "-H", &self.address()]);
            for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
                command.arg(option).arg(self.path(name));
            }
            command
        };
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        *self.daemon.lock().unwrap() = Some(command.spawn().unwrap());
        for _ in 0..PATIENCE.as_millis() / 20 {
            let ready = UnixStream::connect(self.path("engine.sock")).is_ok();
            if ready && (self.podman || self.docker(&["version"]).status.success()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the daemon does not answer: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    fn docker(&self, arguments: &[&str]) -> std::process::Output {
        Command::new("docker").args(["-H", &self.address()]).args(arguments).output().unwrap()
    }

    fn end(&self, signal: Signal) {
        let Some(mut daemon) = self.daemon.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        kill_process(Pid::from_child(&daemon), signal).unwrap();
        daemon.wait().unwrap();
    }

    /// What the daemon, started again if it has ended, has of bootrace after `bootrace clean`.
    fn left_over(&self) -> Vec<String> {
        if self.daemon.lock().unwrap().is_none() {
            self.run();
        }
        let clean = bootrace(&["clean"]).env(self.variable(), self.address()).output().unwrap();
        assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stderr));
        if self.podman {
            // Its storage is the host's, where the row's own check looks.
            return Vec::new();
        }
        let filter = ["ps", "-aq", "--filter", "label=bootrace.run"];
        String::from_utf8(self.docker(&filter).stdout).unwrap().lines().map(str::to_owned).collect()
    }

    pub fn variable(&self) -> &'static str {
        if self.podman { "CONTAINER_HOST" } else { "DOCKER_HOST" }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.end(Signal::TERM);
        // A dockerd that was killed left its containerd: it ends with the next one, or here.
        let containerd = self.path("exec/containerd/containerd.pid");
        if let Some(pid) = fs::read_to_string(containerd).ok().and_then(|pid| pid.trim().parse().ok())
            && fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(&*self.dir.path().to_string_lossy()))
        {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM);
        }
        for mount in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            let point = mount.split(' ').nth(4).unwrap();
            if point.starts_with(&*self.dir.path().to_string_lossy()) {
                output_of("umount", &["-l", point]);
            }
        }
    }
}

/// The fault of a row: a signal, and whether the daemon is started again at once.
type Fault = (&'static str, Signal, bool);

const STOPPED: Fault = ("stopped", Signal::TERM, false);
const KILLED: Fault = ("killed", Signal::KILL, false);
const STOPPED_AND_STARTED: Fault = ("stopped and started again", Signal::TERM, true);
const KILLED_AND_STARTED: Fault = ("killed and started again", Signal::KILL, true);

fn row(own: &Arc<Own>, (what, signal, again): Fault, says: &'static [&'static str], kept: usize) -> Row {
    let target = if own.podman { "podman" } else { "docker" };
    let (env, injected, left) = (own.clone(), own.clone(), own.clone());
    let daemon = if own.podman { "podman's service" } else { "dockerd" };
    Row {
        fault: format!("{daemon} {what}"),
        target,
        scenario: each_step_lasts(target),
        at: (1, SETTLING),
        around: Some(Box::new(move |_, command| {
            command.env(env.variable(), env.address());
            Box::new(())
        })),
        inject: Box::new(move |_| {
            injected.end(signal);
            if again {
                injected.run();
            }
        }),
        code: Some(1),
        says,
        kept,
        then: Then::Clean,
        varies: false,
        left: Some(Box::new(move || left.left_over())),
    }
}

#[test]
#[ignore = "needs docker: scripts/test runs it"]
fn a_dockerd_that_ends_is_named_with_its_fix_and_one_that_is_back_is_used_again() {
    let own = Own::start(false);
    let rows = [
        row(&own, STOPPED, &["2 of 3 samples failed, the first on docker in round 2"], 1),
        row(&own, KILLED, &["2 of 3 samples failed, the first on docker in round 2"], 1),
        row(&own, STOPPED_AND_STARTED, &["1 of 3 samples failed, the first on docker in round 2"], 2),
        row(&own, KILLED_AND_STARTED, &["1 of 3 samples failed, the first on docker in round 2"], 2),
    ];
    all_hold("dockerd", &rows);
}

#[test]
#[ignore = "needs podman: scripts/test runs it"]
fn a_podman_service_that_ends_is_named_with_its_fix_and_one_that_is_back_is_used_again() {
    let own = Own::start(true);
    let rows = [
        row(&own, KILLED, &["2 of 3 samples failed, the first on podman in round 2"], 1),
        row(&own, KILLED_AND_STARTED, &["podman"], 2),
    ];
    all_hold("podman's service", &rows);
}

/// Ends the host's daemon, exactly the process that its pid file names, and starts it as setup does.
fn restart(program: &str, signal: Signal) {
    let pid = fs::read_to_string(format!("/run/{program}.pid")).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    let line = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(line.trim(), program);
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    while fs::exists(format!("/proc/{pid}")).unwrap() {
        thread::sleep(Duration::from_millis(5));
    }
    let script = if fs::exists("/run/systemd/system").unwrap() {
        format!("systemctl start {program}.service")
    } else {
        format!(". scripts/setup && {{ pidof {program} || start_libvirtd; }}")
    };
    output_of("bash", &["-c", &script]);
    while !Command::new("virsh").args(["-c", "qemu:///system", "version"]).output().unwrap().status.success()
    {
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs libvirt: scripts/test runs it"]
fn a_libvirtd_that_is_back_is_used_again() {
    let row = |fault: &str, program: &'static str, signal, code, says, kept| Row {
        fault: fault.into(),
        target: "libvirt",
        scenario: each_step_lasts("libvirt"),
        at: (1, SETTLING),
        around: None,
        inject: Box::new(move |_| restart(program, signal)),
        code: Some(code),
        says,
        kept,
        then: Then::Clean,
        varies: false,
        left: None,
    };
    let rows = [
        row(
            "libvirtd stopped and started again",
            "libvirtd",
            Signal::TERM,
            1,
            &["libvirt in round 2"] as &[_],
            2,
        ),
        row("libvirtd killed and started again", "libvirtd", Signal::KILL, 1, &["libvirt in round 2"], 2),
        row("virtlogd killed and started again", "virtlogd", Signal::KILL, 0, &[], 3),
    ];
    all_hold("libvirtd", &rows);
}
