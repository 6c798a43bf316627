//! A dockerd of the test's own, so that no other container is touched.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{case::PATIENCE, common::output_of};

/// A dockerd with all of its files in one directory.
pub struct Own {
    dir: tempfile::TempDir,
    daemon: Child,
}

/// The address of the dockerd in this directory.
fn address(dir: &Path) -> String {
    format!("unix://{}", dir.join("engine.sock").display())
}

impl Own {
    /// Starts it with its files below `dir`, and waits until it answers.
    pub fn start_in(dir: &Path) -> Own {
        let dir = tempfile::tempdir_in(dir).unwrap();
        let path = |name: &str| -> PathBuf { dir.path().join(name) };
        // In a network of its own: without a bridge, it would remove that of the host's dockerd.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd", "--log-level", "error", "--bridge", "none"]);
        command.args(["--iptables=false", "--ip6tables=false", "-H", &address(dir.path())]);
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(path(name));
        }
        let log = File::create(path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        let own = Own { daemon: command.spawn().unwrap(), dir };
        for _ in 0..PATIENCE.as_millis() / 20 {
            if Command::new("docker")
                .args(["-H", &own.address(), "version"])
                .output()
                .unwrap()
                .status
                .success()
            {
                return own;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("dockerd does not answer: {}", fs::read_to_string(own.dir.path().join("log")).unwrap());
    }

    pub fn address(&self) -> String {
        address(self.dir.path())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
        let dir = self.dir.path().to_string_lossy();
        for mount in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            let point = mount.split(' ').nth(4).unwrap();
            if point.starts_with(&*dir) {
                output_of("umount", &["-l", point]);
            }
        }
    }
}
