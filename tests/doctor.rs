//! The doctor on real faults: each is named, with its fix, and what is healthy is not.

mod common;

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use bootrace::probe::kvm;
use common::bootrace;
use serde_json::Value;

fn doctor() -> Command {
    bootrace(&["doctor", "--json"])
}

/// What the doctor said, and its exit code.
struct Said {
    json: Value,
    code: Option<i32>,
}

impl Said {
    fn by(command: &mut Command) -> Self {
        Said::of(&command.output().unwrap())
    }

    fn of(output: &Output) -> Self {
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        Said { json, code: output.status.code() }
    }

    fn find(&self, id: &str) -> Option<&Value> {
        self.json["checks"].as_array().unwrap().iter().find(|check| check["id"] == id)
    }

    #[track_caller]
    fn check(&self, id: &str) -> &Value {
        self.find(id).unwrap_or_else(|| panic!("no {id} in {:#}", self.json))
    }

    /// Asserts that the check has this status, and that what was found and the fix have these words.
    #[track_caller]
    fn names(&self, id: &str, status: &str, found: &[&str], fix: &str) {
        let check = self.check(id);
        assert_eq!(check["status"], status, "{check:#}");
        for word in found {
            assert!(check["found"].as_str().unwrap().contains(word), "no {word:?} in {check:#}");
        }
        assert!(check["fix"].as_str().unwrap_or_default().contains(fix), "no {fix:?} in {check:#}");
    }

    /// Asserts which targets can't run, and that the exit code says whether there are any.
    #[track_caller]
    fn stops(&self, kinds: &[&str]) {
        let targets = self.json["targets"].as_array().unwrap();
        let stopped = targets.iter().filter(|target| target["can_run"] == false);
        let stopped = stopped.map(|target| target["kind"].as_str().unwrap());
        // The exit code is about those that every host is to have.
        let stopped: Vec<&str> = stopped.filter(|kind| !["podman", "lxc"].contains(kind)).collect();
        assert_eq!(stopped, kinds, "{:#}", self.json);
        assert_eq!(self.code, Some(i32::from(!kinds.is_empty())));
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A directory that QEMU's user can enter, wherever temporary files are.
fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn on_a_host_that_was_set_up_every_target_can_run_and_it_is_said_how() {
    let said = Said::by(&mut doctor());
    said.stops(&[]);
    for id in ["native.trial", "docker.trial", "libvirt.trial", "qemu.files", "kernel", "clock"] {
        assert_eq!(said.check(id)["status"], "ok", "{:#}", said.check(id));
    }
    kvm::use_program(env!("CARGO_BIN_EXE_bootrace"));
    let verdict = kvm::probe();
    let on_kvm = verdict.runs_linux();
    let libvirt = &said.json["targets"][2];
    let how = libvirt["how"].as_str().unwrap();
    assert!(if on_kvm { how.starts_with("on KVM") } else { how == "emulated (TCG)" }, "{how}");
    if on_kvm {
        assert_eq!(said.check("kvm")["status"], "ok");
    } else {
        said.names("kvm", "warning", &["VMs will be emulated (TCG)"], "hardware or nested virtualisation");
        let here = matches!(verdict, kvm::KvmVerdict::Emulated { .. } | kvm::KvmVerdict::Broken { .. });
        let word = if here { "KVM is here but cannot run Linux" } else { "KVM is not here" };
        said.names("kvm", "warning", &[word], "");
    }

    let text = bootrace(&["doctor"]).output().unwrap();
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8(text.stdout).unwrap();
    for line in ["ok         privileges ", "\nTargets\n", "\n  docker   can run in a container: Docker "] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "it is no terminal");
    let none = String::from_utf8(bootrace(&["clean", "--dry-run"]).output().unwrap().stdout).unwrap();
    assert_eq!(none, "no left-overs\n", "of the doctor's own trials");
}

/// As an upgrade deletes it under a run. The probe starts the program once more.
#[test]
fn a_program_whose_file_has_been_deleted_probes_kvm_all_the_same() {
    let dir = open_dir();
    let program = dir.path().join("bootrace");
    fs::copy(env!("CARGO_BIN_EXE_bootrace"), &program).unwrap();
    let mut command = Command::new("sh");
    // The file is open, gone, and then executed.
    command.args(["-c", "exec 3< \"$0\"; rm \"$0\"; exec /proc/self/fd/3 doctor --json"]).arg(&program);
    command
        .env("DOCKER_HOST", "unix:///nowhere")
        .env("LIBVIRT_DEFAULT_URI", "qemu+unix:///system?socket=/nowhere");
    let said = Said::by(&mut command);
    assert!(!program.exists());
    let found = said.check("kvm")["found"].as_str().unwrap();
    for failure in ["cannot start a process", "its start"] {
        assert!(!found.contains(failure), "{found}");
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn every_record_has_the_same_fields_and_each_that_fails_has_a_fix() {
    let said = Said::by(doctor().env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    let mut ids = Vec::new();
    for check in said.json["checks"].as_array().unwrap() {
        let keys: Vec<&str> = check.as_object().unwrap().keys().map(String::as_str).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["fix", "found", "id", "status", "stops", "title"]);
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "warning", "failed", "not_checked"].contains(&status), "{check:#}");
        assert_eq!(status == "failed", !check["stops"].as_array().unwrap().is_empty(), "{check:#}");
        assert!(status != "failed" || check["fix"].is_string(), "{check:#}");
        assert!(!check["found"].as_str().unwrap().is_empty(), "{check:#}");
        ids.push(check["id"].as_str().unwrap().to_owned());
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id for each");
    let docker = &said.json["targets"][1];
    assert_eq!((docker["kind"].as_str(), docker["how"].is_null()), (Some("docker"), true));
    assert_eq!(docker["stopped_by"], serde_json::json!(["docker"]));
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_engine_that_is_not_there_is_named_with_its_fix_and_stops_its_target_alone() {
    let said = Said::by(doctor().env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    said.names("docker", "failed", &["connecting to Docker at unix:///nowhere/docker.sock"], "DOCKER_HOST");
    said.stops(&["docker"]);

    let uri = "qemu+unix:///system?socket=/nowhere/libvirt-sock";
    let said = Said::by(doctor().env("LIBVIRT_DEFAULT_URI", uri));
    said.names("libvirt", "failed", &["/nowhere/libvirt-sock"], "LIBVIRT_DEFAULT_URI");
    said.stops(&["libvirt"]);

    // Its libvirt is well, and no restart would give it VMs.
    let said = Said::by(doctor().env("LIBVIRT_DEFAULT_URI", "lxc:///"));
    said.names("libvirt", "failed", &["its driver is lxc"], "unset LIBVIRT_DEFAULT_URI");
    assert!(!said.json.to_string().contains("libvirtd.pid"), "{:#}", said.json);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_engine_that_hangs_is_named_and_does_not_hang_the_doctor() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hangs.sock");
    let _never_answers = UnixListener::bind(&socket).unwrap();
    let mut command = doctor();
    command
        .args(["--patience", "2s"])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("LIBVIRT_DEFAULT_URI", format!("qemu+unix:///system?socket={}", socket.display()));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // Bounded well above what each part may take, and below what would be for ever.
    let deadline = Instant::now() + Duration::from_secs(90);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the doctor hangs");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = Said::of(&child.wait_with_output().unwrap());
    said.names("docker", "failed", &["Docker did not answer in 2s: ", "(load "], "DOCKER_HOST");
    said.names("libvirt", "failed", &["libvirt did not answer in 2s: ", "(load "], "LIBVIRT_DEFAULT_URI");
    said.stops(&["docker", "libvirt"]);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_cache_with_a_long_path_serves_all_but_vms_which_are_refused_with_the_limit() {
    let dir = open_dir();
    let cache = dir.path().join("c".repeat(150));
    let said = Said::by(doctor().env("BOOTRACE_CACHE", &cache));
    for id in ["native.trial", "docker.trial"] {
        assert_eq!(said.check(id)["status"], "ok", "{:#}", said.check(id));
    }
    said.names(
        "libvirt.trial",
        "failed",
        &["a VM's control socket leaves it "],
        "a shorter path in BOOTRACE_CACHE",
    );
}

/// libvirtd ends two minutes after the last question, podman's service after seconds; the next question starts them.
#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_engine_that_is_only_started_by_the_question_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("starts.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        // As long as an engine took to start on a busy host.
        std::thread::sleep(Duration::from_secs(4));
        for client in listener.incoming().flatten() {
            let engine = UnixStream::connect("/var/run/docker.sock").unwrap();
            let back = (engine.try_clone().unwrap(), client.try_clone().unwrap());
            for (mut from, mut to) in [(client, engine), back] {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    let mut list = bootrace(&["list", "--json"]);
    let output = list.env("DOCKER_HOST", format!("unix://{}", socket.display())).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let docker = &json["targets"][1];
    assert_eq!((&docker["kind"], &docker["can_run"]), (&"docker".into(), &true.into()), "{docker:#}");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn colours_are_there_where_they_are_asked_for_and_no_color_is_honoured() {
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = bootrace(&["doctor"]);
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").envs(variables.iter().copied());
        command.output().unwrap().stdout.contains(&0x1b)
    };
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

/// Gives a file its mode back, however the test ends.
struct Mode(PathBuf, u32);

impl Mode {
    fn set(path: &str, mode: u32) -> Self {
        let path = PathBuf::from(path);
        let before = fs::metadata(&path).unwrap().mode();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Mode(path, before)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(self.1)).unwrap();
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_kvm_that_qemus_user_can_not_open_is_named_with_the_command_that_fixes_it() {
    if !Path::new("/dev/kvm").exists() {
        // There is nothing to be closed then, and the doctor must not speak of it.
        assert!(Said::by(&mut doctor()).find("kvm.access").is_none());
        return;
    }
    let mode = Mode::set("/dev/kvm", 0o600);
    let said = Said::by(&mut doctor());
    drop(mode);
    said.names(
        "kvm.access",
        "failed",
        &["can't open /dev/kvm", "Permission denied"],
        "chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm",
    );
    assert_eq!(said.check("libvirt.trial")["status"], "not_checked", "its start would take a minute");
    said.stops(&["libvirt"]);
    assert_eq!(Said::by(&mut doctor()).check("kvm.access")["status"], "ok");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn images_that_qemus_user_can_not_read_are_named_with_the_directory_that_is_closed() {
    let dir = open_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let said = Said::by(doctor().env("BOOTRACE_CACHE", closed.join("cache")));
    said.names(
        "qemu.files",
        "failed",
        &["which can't read", "closed/cache"],
        &format!("chmod o+x {}", closed.display()),
    );
    said.stops(&["libvirt"]);
}

/// A small file system of its own, gone with the test.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: &str) -> Self {
        let dir = open_dir();
        let path = dir.path().to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "bootrace-test", path]);
        Tmpfs(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_full_disk_is_named_with_the_directory_and_the_fix() {
    // One has no room for an image; the other none even for a trial.
    for size in ["32m", "256k"] {
        let full = Tmpfs::new(size);
        let said = Said::by(doctor().env("BOOTRACE_CACHE", full.0.path()));
        let path = full.0.path().display().to_string();
        said.names(
            "space.cache",
            "failed",
            &[&path, "building an image takes about 2 GiB"],
            "BOOTRACE_CACHE",
        );
        said.stops(&["native", "docker", "libvirt"]);
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn no_archive_stops_everything_where_the_image_is_yet_to_be_made() {
    let empty = open_dir();
    let offline = |cache: &Path| {
        let mut command = doctor();
        command.env("BOOTRACE_CACHE", cache).env("http_proxy", "http://127.0.0.1:9").env_remove("no_proxy");
        Said::by(&mut command)
    };
    let said = offline(empty.path());
    said.names("image.mirror", "failed", &["debian/bookworm", "127.0.0.1:9"], "http_proxy");
    said.stops(&["native", "docker", "libvirt"]);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_archive_that_accepts_and_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let empty = open_dir();
    let mut command = doctor();
    command.args(["--patience", "8s"]).env("BOOTRACE_CACHE", empty.path()).env_remove("no_proxy");
    command.env("http_proxy", format!("http://{}", listener.local_addr().unwrap()));
    let said = Said::by(&mut command);
    said.names("image.mirror", "failed", &["debian/bookworm"], "http_proxy");
    let found = said.check("image.mirror")["found"].as_str().unwrap();
    assert!(found.contains("did not answer in") || found.contains("timed out"), "{found}");
}

/// A container with our label, of the run "gone", whose hash is in its name.
struct Container(&'static str);

impl Container {
    fn new(name: &'static str) -> Self {
        let tar = Command::new("tar").args(["--create", "--files-from=/dev/null"]).output().unwrap().stdout;
        let mut import = Command::new("docker")
            .args(["import", "-", "bootrace-test-empty"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut import.stdin.take().unwrap(), &tar).unwrap();
        assert!(import.wait().unwrap().success());
        run(
            "docker",
            &["create", "--name", name, "--label", "bootrace.run=gone", "bootrace-test-empty", "/x"],
        );
        Container(name)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for arguments in [["rm", "--force", self.0], ["rmi", "--force", "bootrace-test-empty"]] {
            let _ = Command::new("docker").args(arguments).output();
        }
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn left_overs_are_listed_and_only_clean_without_dry_run_removes_them() {
    let container = Container::new("bootrace-283bb9de-3");
    let said = Said::by(&mut doctor());
    said.names("left_over", "warning", &["container bootrace-283bb9de-3"], "bootrace clean");
    said.stops(&[]);

    let clean = |args: &[&str]| String::from_utf8(bootrace(args).output().unwrap().stdout).unwrap();
    let listed = clean(&["clean", "--dry-run"]);
    assert_eq!(listed, "would remove container bootrace-283bb9de-3\n");
    assert!(
        run("docker", &["ps", "--all", "--format", "{{.Names}}"]).contains(container.0),
        "it is still there"
    );
    assert_eq!(clean(&["clean"]), "removed container bootrace-283bb9de-3\n");
    assert_eq!(clean(&["clean", "--dry-run"]), "no left-overs\n");
    assert_eq!(Said::by(&mut doctor()).check("left_over")["status"], "ok");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_ordinary_user_sees_the_skipped_checks_and_the_reasons() {
    let dir = open_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // The program must be where nobody can reach it.
    let program = dir.path().join("bootrace");
    fs::copy(env!("CARGO_BIN_EXE_bootrace"), &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["doctor", "--json"]).env("BOOTRACE_CACHE", dir.path().join("cache"));
    let said = Said::by(command.uid(65534).gid(65534));
    said.names("privileges", "failed", &["not root"], "sudo bootrace doctor");
    let all = "sudo bootrace run";
    said.names("docker", "failed", &["ermission denied"], all);
    said.names("docker", "failed", &[], "usermod -aG docker $USER, then log in again");
    for id in ["libvirt", "lxc"] {
        said.names(id, "failed", &[], all);
    }
    if fs::metadata("/dev/kvm").is_ok_and(|device| device.mode() & 0o006 == 0) {
        assert!(!said.check("kvm").to_string().contains("will be emulated"), "{:#}", said.check("kvm"));
    }
    // They run.
    for id in ["docker", "libvirt", "lxc"] {
        let fix = said.check(id)["fix"].as_str().unwrap();
        assert!(!["scripts/setup", "systemctl start"].iter().any(|start| fix.contains(start)), "{id}: {fix}");
    }
    said.names("native.trial", "not_checked", &["needs root"], "");
    for id in ["kernel", "clock"] {
        assert_eq!(said.check(id)["status"], "ok");
    }
    said.stops(&["native", "docker", "libvirt"]);
}
