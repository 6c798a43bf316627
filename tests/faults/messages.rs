//! What goes wrong for a user: each has its message, its exit code, and nothing left behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use crate::common::{Bench, Ran, left_over};
use bootrace::sample::Outcome;

const TARGETS: [&str; 3] = ["native", "docker", "libvirt"];

fn scenario(workload: &str) -> Bench {
    scenario_within(workload, "60s")
}

fn scenario_within(workload: &str, timeout: &str) -> Bench {
    Bench::new(&format!(
        "\n[workload]\n{workload}\n[resources]\nmemory = \"256MiB\"\n\
         [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"{timeout}\"\n"
    ))
}

fn each_target_fails(bench: &Bench, outcome: Outcome, sign: &str) {
    let ran = bench.run(&[]);
    ran.fails(1, &["3 of 3 samples failed"]);
    let results = ran.results.unwrap();
    for target in TARGETS {
        let sample = results.samples.iter().find(|s| s.target == target).unwrap();
        assert_eq!(sample.outcome, outcome, "{target}: {:?}", sample.error);
        let error = sample.error.as_deref().unwrap();
        assert!(error.contains(sign), "{target}: no {sign:?} in {error}");
    }
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_workload_that_is_not_in_the_image_is_named() {
    let bench = scenario("command = [\"no-such-program\", \"x\"]\nready = { exit = 0 }");
    each_target_fails(&bench, Outcome::Failed, "no-such-program");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_workload_that_dies_is_reported_with_its_code_and_last_words() {
    let bench =
        scenario("command = [\"sh\", \"-c\", \"echo no luck >&2; exit 7\"]\nready = { line = \"ready\" }");
    each_target_fails(&bench, Outcome::Failed, "exit code 7; it printed: no luck");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_workload_that_is_never_ready_times_out() {
    let bench =
        scenario_within("command = [\"sleep\", \"infinity\"]\nready = { file = \"/run/never\" }", "15s");
    each_target_fails(
        &bench,
        Outcome::TimedOut,
        "/run/never has not appeared within 15s (sampling.timeout); it printed nothing",
    );
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_line_without_an_end_is_in_the_report_of_a_time_out() {
    let bench = scenario_within(
        "command = [\"sh\", \"-c\", \"printf 'ready\\\\r'; exec sleep infinity\"]\nready = { line = \"^ready$\" }",
        "15s",
    );
    each_target_fails(&bench, Outcome::TimedOut, "within 15s (sampling.timeout); it printed: ready");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_workload_that_meets_its_memory_limit_is_reported_with_the_limit() {
    let bench = scenario_within(
        "command = [\"perl\", \"-e\", \"push @x, 'x' x 1048576 while 1\"]\nready = { line = \"ready\" }",
        "120s",
    );
    let sign = "its memory limit of 256 MiB was met (resources.memory): the workload ended before it was ready: killed by \
                signal 9; it printed nothing";
    each_target_fails(&bench, Outcome::Failed, sign);
}

const GOOD: &str =
    "command = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = { line = \"ready\" }";

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_engine_that_is_down_is_named_with_its_fix() {
    let docker = scenario(GOOD)
        .command(&["--targets", "docker"])
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .output();
    Ran::new(docker.unwrap(), None)
        .fails(1, &["connecting to Docker at unix:///nowhere/docker.sock", "start what DOCKER_HOST names"]);

    let uri = "qemu+unix:///system?socket=/nowhere/libvirt-sock";
    let libvirt = scenario(GOOD).command(&["--targets", "libvirt"]).env("LIBVIRT_DEFAULT_URI", uri).output();
    Ran::new(libvirt.unwrap(), None)
        .fails(1, &["connecting to libvirt", "/nowhere/libvirt-sock", "start what LIBVIRT_DEFAULT_URI"]);
}

/// As for docker and virsh.
#[test]
#[ignore = "needs docker, podman and libvirt: scripts/test runs it"]
fn a_variable_that_is_empty_is_one_that_is_not_set() {
    let bench = scenario(GOOD);
    let kinds =
        ["native", "docker", "podman", "libvirt"].map(|kind| format!("[[target]]\nkind = \"{kind}\"\n"));
    let bench = Bench::with_text(&(fs::read_to_string(bench.scenario()).unwrap() + &kinds.concat()));
    let mut run = bench.command(&[]);
    for name in [
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "CONTAINER_HOST",
        "LIBVIRT_DEFAULT_URI",
        "RUST_LOG",
    ] {
        run.env(name, "");
    }
    assert_eq!(Ran::new(run.output().unwrap(), bench.results()).good().len(), 4);
}

/// Nobody can read it, and the samples are there.
#[test]
#[ignore = "needs docker: scripts/test runs it"]
fn a_run_whose_standard_error_fails_goes_on() {
    let bench = scenario(GOOD);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = bench.command(&["--targets", "native,docker"]).stdout(Stdio::null()).stderr(full).status();
    assert_eq!(status.unwrap().code(), Some(0));
    assert_eq!(bench.results().unwrap().samples.iter().filter(|s| s.outcome == Outcome::Ok).count(), 2);
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_socket_that_is_forbidden_is_named_with_its_fix() {
    let bench = scenario(GOOD);
    for dir in [bench.path(), &bench.path().join("out")] {
        std::fs::create_dir_all(dir).unwrap();
        Command::new("chmod").arg("777").arg(dir).status().unwrap();
    }
    let cache = tempfile::tempdir_in("/var/tmp").unwrap();
    Command::new("chmod").arg("777").arg(cache.path()).status().unwrap();
    // As nobody: the program must be where nobody can reach it.
    let program = cache.path().join("bootrace");
    std::fs::copy(env!("CARGO_BIN_EXE_bootrace"), &program).unwrap();
    let run = |target: &str| {
        let mut command = Command::new(&program);
        command
            .args(["run", "--targets", target, "--out"])
            .arg(bench.path().join("out"))
            .arg(bench.path().join("test.toml"));
        // Their own home: the Docker configuration of whoever runs the test is none of theirs.
        command.env("HOME", bench.path()).env("BOOTRACE_CACHE", cache.path()).uid(65534).gid(65534);
        Ran::new(command.output().unwrap(), None)
    };
    run("docker").fails(
        1,
        &["connecting to Docker at unix:///var/run/docker.sock", "ermission denied", "sudo bootrace run"],
    );
    run("native").fails(1, &["native target", "sudo"]);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_unavailable_image_is_named_with_all_attempts() {
    let bench = Bench::with_text(
        "name = \"test\"\n[image]\ntarball = \"nowhere.tar\"\n[workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n",
    );
    // The scenario is wrong: nothing was run.
    bench.run(&["--targets", "native"]).fails(2, &["nowhere.tar", "No such file"]);
    let bench = Bench::with_text(
        "name = \"test\"\n[image]\nsuite = \"debian/bookworm\"\nmirror = \"http://127.0.0.1:9/debian\"\n\
         [workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n",
    );
    bench.run(&["--targets", "native"]).fails(1, &["debian/bookworm", "127.0.0.1:9"]);
}

/// A run that doesn't outlive a test that fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A long run, once its first round is done.
fn going_on(bench: &Bench) -> Run {
    let mut child = bench
        .command(&["--samples", "100", "--targets", "native,docker,libvirt"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("round 1")).unwrap().unwrap();
    // The rest is read, so that the program never blocks on it.
    std::thread::spawn(move || lines.for_each(drop));
    Run(child)
}

/// As in a container without a volume.
#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_cache_on_an_overlay_is_refused_before_anything_is_built() {
    let bench = scenario(GOOD);
    let dir = tempfile::tempdir().unwrap();
    let parts = ["lower", "upper", "work", "merged"].map(|name| dir.path().join(name));
    parts.iter().for_each(|part| std::fs::create_dir(part).unwrap());
    let [lower, upper, work, merged] = parts.map(|part| part.to_str().unwrap().to_owned());
    let run = bench.command(&["--targets", "native"]);
    let script = "mount -t overlay -o \"$1\" overlay \"$2\" && export BOOTRACE_CACHE=\"$2/cache\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.args([&format!("lowerdir={lower},upperdir={upper},workdir={work}"), &merged]);
    let output = command.arg(run.get_program()).args(run.get_args()).output().unwrap();
    let ran = Ran::new(output, None);
    ran.fails(
        1,
        &["trying a root in the cache", "fix: name a directory on a disk or volume in BOOTRACE_CACHE"],
    );
    assert!(!ran.stderr.contains("making the root file system"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(dir.path().join("upper/cache/tmp")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn ctrl_c_keeps_the_samples_and_leaves_nothing() {
    let bench = scenario(GOOD);
    let mut run = going_on(&bench);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(Command::new("kill").args(["-INT", &run.0.id().to_string()]).status().unwrap().success());
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    let results = bench.results().unwrap();
    assert!(results.run.interrupted && results.samples.len() >= 3 && results.samples.len() < 300);
    assert!(bench.latest().join("index.html").exists());
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn clean_removes_the_left_overs_of_a_killed_run() {
    let bench = scenario(GOOD);
    let mut run = going_on(&bench);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let clean = || Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("clean").output().unwrap();

    // A run that goes on is left alone.
    let output = String::from_utf8(clean().stdout).unwrap();
    assert!(output.contains("no left-overs"), "{output}");
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    let results = bench.results().unwrap();
    assert!(results.run.interrupted && results.samples.len() >= 3, "the samples taken are kept");

    let output = clean();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("removed files"));
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_latest_that_is_a_directory_costs_a_warning_and_the_run_is_kept() {
    let bench = scenario(GOOD);
    std::fs::create_dir_all(bench.latest()).unwrap();
    let ran = bench.run(&["--targets", "native"]);
    ran.fails(0, &["warning: pointing ", "/out/latest at this run: it is a directory", "fix: move it away"]);
    assert_eq!(ran.stderr.matches("latest").count(), 1, "{}", ran.stderr);
    let out = bench.path().join("out");
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let [latest, run] = &names[..] else { panic!("{names:?}") };
    assert_eq!(latest, "latest");
    assert!(out.join(run).join("results.json").exists() && out.join(run).join("index.html").exists());
}
