//! Reports that root writes for a sudo user belong to that user.

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use common::{Bench, bootrace};

const USER: u32 = 65534;

/// A user's directory, in one that every user may enter.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Home(tempfile::tempdir().unwrap());
        fs::set_permissions(home.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.path()).unwrap();
        chown(home.path(), Some(USER), Some(USER)).unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("home")
    }

    /// Runs bootrace in it as sudo does; it ends with one of these codes.
    fn sudo(&self, mut command: Command, codes: &[i32]) {
        command.env("SUDO_UID", USER.to_string()).env("SUDO_GID", USER.to_string());
        let output =
            command.current_dir(self.path()).env("BOOTRACE_STATE", self.path().join("state")).output();
        let output = output.unwrap();
        let ended = output.status.code().is_some_and(|code| codes.contains(&code));
        assert!(ended, "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Asserts that all below it is the user's, and that there are at least so many files.
    fn is_the_users(&self, files: usize) {
        let mut all = Vec::new();
        below(&self.path(), &mut all);
        let roots: Vec<_> = all.iter().filter(|(_, uid, gid)| (*uid, *gid) != (USER, USER)).collect();
        assert!(roots.is_empty(), "{roots:?}");
        assert!(all.len() >= files, "{all:?}");
    }
}

fn below(dir: &Path, all: &mut Vec<(PathBuf, u32, u32)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let there = fs::symlink_metadata(&path).unwrap();
        all.push((path.clone(), there.uid(), there.gid()));
        if there.is_dir() {
            below(&path, all);
        }
    }
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn what_is_made_of_a_run_is_the_sudo_users() {
    let home = Home::new();
    let run = home.path().join("reports/a");
    fs::create_dir_all(&run).unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/recorded-run.json");
    fs::copy(recorded, run.join("results.json")).unwrap();
    for path in [home.path().join("reports"), run.clone(), run.join("results.json")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    for arguments in [
        &["report", "reports/a"][..],
        &["compare", "reports/a", "reports/a", "--out", "made/comparison"],
        &["history", "reports", "--out", "made/history"],
        &["export", "reports/a", "--format", "csv", "--to", "made/samples.csv"],
        &["export", "reports/a", "--format", "criterion", "--to", "made/criterion"],
    ] {
        home.sudo(bootrace(arguments), &[0]);
    }
    home.is_the_users(30);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn what_is_measured_is_the_sudo_users() {
    let bench = Bench::new(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = { line = \"ready\" }\n\
         [sampling]\nsamples = 2\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n",
    );
    let scenario = bench.scenario().display().to_string();
    let home = Home::new();
    home.sudo(bootrace(&["run", &scenario, "--targets", "native"]), &[0]);
    let ab = ["ab", "--base", &scenario, "--new", &scenario, "--targets", "native", "--fail-on", "never"];
    home.sudo(bootrace(&ab), &[0]);
    // On a busy host a figure may be beyond its bound.
    for checks in [&["--checks", "delay"][..], &["--aa", "--sessions", "1"]] {
        let calibrate = ["calibrate", "--targets", "native", "--samples", "2"];
        home.sudo(bootrace(&[&calibrate, checks].concat()), &[0, 1]);
    }
    assert!(home.path().join("reports/latest/index.html").exists());
    assert!(home.path().join("state/noise").is_dir());
    home.is_the_users(60);
}
