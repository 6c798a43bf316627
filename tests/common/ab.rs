//! What the tests of `bootrace ab` share.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use bootrace::sample::Side;

use super::{Bench, Ran};

pub const SIDES: [Side; 2] = [Side::Base, Side::New];

/// Ready after so many seconds.
pub fn scenario(delay: &str, sampling: &str) -> Bench {
    Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"sleep {delay}; echo ready; exec sleep infinity\"]\nready = {{ line = \"ready\" }}\n\
         [resources]\nmemory = \"256MiB\"\n[sampling]\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"60s\"\n{sampling}\n"
    ))
}

pub fn toml(bench: &Bench) -> String {
    bench.path().join("test.toml").display().to_string()
}

/// `bootrace ab` that writes below `out`, as nobody's sudo.
pub fn ab(base: &str, new: &str, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    super::hear_signals(&mut command);
    command.args(["ab", "--base", base, "--new", new, "--seed", "7", "--out"]).arg(out);
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "RUST_LOG", "SUDO_UID", "SUDO_GID"] {
        command.env_remove(name);
    }
    command
}

pub fn ran(mut command: Command) -> Ran {
    Ran::new(command.output().unwrap(), None)
}

pub fn record(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("latest/ab.json")).unwrap()).unwrap()
}

/// An A/B that doesn't outlive a test that fails.
pub struct Run(pub Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run {
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }

    /// Its sides, by their process ids.
    pub fn sides(&self) -> [u32; 2] {
        let id = self.0.id();
        let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<u32> = children
            .flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
            .collect();
        SIDES.map(|side| {
            let sign = format!("\"side\":\"{side}\"");
            let is = |id: &&u32| {
                fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default().contains(&sign)
            };
            *children.iter().find(is).unwrap()
        })
    }
}

pub fn kill(signal: &str, who: &str) {
    assert!(Command::new("kill").args([signal, "--", who]).status().unwrap().success());
}
