//! `bootrace ab`: its turns, its sides, and what becomes of them when something dies.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use bootrace::sample::{Outcome, Results, Side};
use common::{Bench, Ran, left_over};

const SIDES: [Side; 2] = [Side::Base, Side::New];

/// Ready after so many seconds.
fn scenario(delay: &str, sampling: &str) -> Bench {
    Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"sleep {delay}; echo ready; exec sleep infinity\"]\nready = {{ line = \"ready\" }}\n\
         [resources]\nmemory = \"256MiB\"\n[sampling]\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"60s\"\n{sampling}\n"
    ))
}

fn toml(bench: &Bench) -> String {
    bench.path().join("test.toml").display().to_string()
}

/// `bootrace ab` that writes below `out`, as nobody's sudo.
fn ab(base: &str, new: &str, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    command.args(["ab", "--base", base, "--new", new, "--seed", "7", "--out"]).arg(out);
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "RUST_LOG", "SUDO_UID", "SUDO_GID"] {
        command.env_remove(name);
    }
    command
}

fn ran(mut command: Command) -> Ran {
    Ran::new(command.output().unwrap(), None)
}

fn results(out: &Path, side: Side) -> Results {
    bootrace::report::load(&out.join("latest").join(side.name())).unwrap()
}

fn record(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("latest/ab.json")).unwrap()).unwrap()
}

// Without engines.

#[test]
fn a_side_that_is_nothing_exits_with_2_and_all_that_was_tried() {
    let out = tempfile::tempdir().unwrap();
    let ran = ran(ab("quickstart", "no-such-thing", out.path()));
    ran.fails(
        2,
        &["--new no-such-thing", "no scenario (known are", "no executable file", "no git revision here"],
    );
    assert_eq!(ran.stdout, "");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn sides_that_cant_be_paired_or_are_wrong_exit_with_2_before_anything_runs() {
    let out = tempfile::tempdir().unwrap();
    let (ten, twenty) =
        (scenario("0", "samples = 10\nwarmup = 1"), scenario("0", "samples = 20\nwarmup = 2"));
    let both = || ab(&toml(&ten), &toml(&twenty), out.path());
    ran(both()).fails(2, &["base has 1 to warm up and 10 measured ones, new 2 and 20", "--samples"]);
    let mut command = both();
    command.args(["--samples", "3", "--warmup", "0", "quickstart"]);
    ran(command).fails(2, &["both sides are scenarios", "leave it out"]);
    let wrong = Bench::with_text("name = 1\n");
    ran(ab(&toml(&ten), &toml(&wrong), out.path())).fails(2, &["test.toml:1:8: name"]);
    let mut command = ab("quickstart", "quickstart", out.path());
    command.args(["--targets", "podman"]);
    ran(command).fails(2, &["podman"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

// With them.

/// Whose containers Docker started, in order, since a time of its own clock.
fn docker_starts(since: &str) -> Vec<String> {
    let until = now();
    let format = "{{index .Actor.Attributes \"bootrace.run\"}}";
    let arguments =
        ["events", "--since", since, "--until", &until, "--filter", "event=start", "--format", format];
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn two_scenarios_are_measured_pair_by_pair_and_what_differs_is_found() {
    let out = tempfile::tempdir().unwrap();
    let (base, new) =
        (scenario("0.1", "samples = 6\nwarmup = 1"), scenario("0.3", "samples = 6\nwarmup = 1"));
    let since = now();
    let mut command = ab(&toml(&base), &toml(&new), out.path());
    command.args(["--targets", "native,docker"]);
    let ran = ran(command);
    let starts = docker_starts(&since);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(left_over(), Vec::<String>::new());

    let dir = fs::read_link(out.path().join("latest")).unwrap();
    let id = dir.to_str().unwrap();
    assert!(id.starts_with("ab-") && id.ends_with("Z-7"), "{id}");
    let mut orders = BTreeSet::new();
    for side in SIDES {
        let results = results(out.path(), side);
        assert_eq!((results.run.seed, results.run.planned, results.samples.len()), (7, 14, 14));
        assert!(!results.run.interrupted);
        assert!(out.path().join("latest").join(side.name()).join("index.html").exists());
        let ab = results.run.ab.clone().unwrap();
        assert_eq!((ab.id.as_str(), ab.side), (id, side));
        assert_eq!(results.run.id, format!("{id}-{side}"));
        assert!(
            !results.run.warnings.iter().any(|w| w.contains("other bootrace")),
            "{:?}",
            results.run.warnings
        );
        orders.insert(results.samples.iter().map(|s| (s.round, s.target.clone())).collect::<Vec<_>>());
        Ran::new(output(0), Some(results)).good();
    }
    assert_eq!(orders.len(), 1, "both sides have the same order");

    // What Docker saw is what is on record.
    let record = record(out.path());
    let pairs = record["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 14);
    let first =
        pairs.iter().filter(|pair| pair["target"] == "docker").map(|pair| pair["first"].as_str().unwrap());
    let expected: Vec<String> = first
        .flat_map(|first| [first, if first == "base" { "new" } else { "base" }])
        .map(|side| format!("{id}-{side}"))
        .collect();
    assert_eq!(starts, expected);
    assert_eq!(record["seed"], 7);

    // 200 ms of sleep.
    for target in ["native", "docker"] {
        let median = |side| {
            let results = results(out.path(), side);
            let mut of: Vec<u64> = results
                .samples
                .iter()
                .filter(|s| s.target == target && !s.warmup)
                .map(|s| s.timeline_ns.startup().unwrap())
                .collect();
            of.sort_unstable();
            of[of.len() / 2]
        };
        assert!(median(Side::New) > median(Side::Base) + 100_000_000, "{target}");
        assert!(ran.stdout.contains(&format!("{target}: start-up is ")), "{}", ran.stdout);
    }
    assert!(ran.stderr.contains("round 7 of 7: "), "{}", ran.stderr);
}

fn output(code: i32) -> Output {
    Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(code << 8),
        stdout: Vec::new(),
        stderr: Vec::new(),
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_target_that_one_side_lacks_runs_alone_and_a_failed_sample_fails_the_ab() {
    let out = tempfile::tempdir().unwrap();
    let base = scenario("0", "samples = 2\nwarmup = 0\n[[target]]\nkind = \"native\"");
    let new = scenario(
        "0",
        "samples = 2\nwarmup = 0\n[[target]]\nkind = \"docker\"\n[[target]]\nkind = \"native\"",
    );
    let ran_well = ran(ab(&toml(&base), &toml(&new), out.path()));
    assert_eq!(ran_well.code, Some(0), "{}{}", ran_well.stdout, ran_well.stderr);
    assert_eq!(SIDES.map(|side| results(out.path(), side).samples.len()), [2, 4]);
    assert_eq!(record(out.path())["pairs"].as_array().unwrap().len(), 2);

    let bad = Bench::new(
        "\n[workload]\ncommand = [\"false\"]\nready = { exit = 0 }\n[sampling]\nsamples = 5\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n",
    );
    let mut command = ab(&toml(&base), &toml(&bad), out.path());
    command.args(["--targets", "native", "--samples", "5"]);
    let failed = ran(command);
    failed.fails(1, &["3 of 3 samples failed", "/new"]);
    assert_eq!(results(out.path(), Side::Base).samples.len(), 5);
    // Given up after three, and the other side goes on.
    assert_eq!(results(out.path(), Side::New).samples.len(), 3);
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_executable_is_a_side_and_one_that_is_no_bootrace_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let copy = out.path().join("another-bootrace");
    fs::copy(env!("CARGO_BIN_EXE_bootrace"), &copy).unwrap();
    let copy = copy.display().to_string();
    let reports = out.path().join("reports");
    let run = |base: &str, new: &str| {
        let mut command = ab(base, new, &reports);
        command.args(["--targets", "native", "--json"]).arg(toml(&bench));
        ran(command)
    };
    let well = run(&copy, &format!("binary:{}", env!("CARGO_BIN_EXE_bootrace")));
    assert_eq!(well.code, Some(0), "{}{}", well.stdout, well.stderr);
    let json: serde_json::Value = serde_json::from_str(&well.stdout).unwrap();
    assert_eq!((&json[0]["target"], &json[0]["pairs"]), (&"native".into(), &2.into()));
    assert_eq!(record(&reports)["sides"][0]["given"], copy.as_str());

    let before = fs::read_dir(&reports).unwrap().count();
    let yes = out.path().join("yes");
    fs::write(&yes, "#!/bin/sh\nexec yes\n").unwrap();
    fs::set_permissions(&yes, fs::Permissions::from_mode(0o755)).unwrap();
    for foreign in ["binary:/bin/true", yes.to_str().unwrap()] {
        run(&copy, foreign)
            .fails(1, &["the new side", "could not be prepared", "a bootrace that can be a side"]);
    }
    assert_eq!(fs::read_dir(&reports).unwrap().count(), before, "nothing was measured, so nothing is left");
    assert_eq!(left_over(), Vec::<String>::new());
}

/// An A/B that doesn't outlive a test that fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run {
    fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }

    /// Its sides, by their process ids.
    fn sides(&self) -> [u32; 2] {
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

fn kill(signal: &str, who: &str) {
    assert!(Command::new("kill").args([signal, "--", who]).status().unwrap().success());
}

/// A long A/B in a process group of its own, once its first round is done and the second has begun.
fn going_on(bench: &Bench, out: &Path) -> Run {
    let mut command = ab(&toml(bench), &toml(bench), out);
    command.args(["--samples", "100", "--warmup", "0", "--targets", "native,docker"]).process_group(0);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.find(|line| line.as_ref().unwrap().starts_with("round 1 of "));
    assert!(first.is_some(), "it ended before its first round");
    // The rest is read, so that the program never blocks on it.
    std::thread::spawn(move || lines.for_each(drop));
    std::thread::sleep(Duration::from_millis(700));
    Run(child)
}

fn samples_are_kept(out: &Path) {
    for side in SIDES {
        let results = results(out, side);
        assert!(results.run.interrupted && (2..200).contains(&results.samples.len()), "{side}");
        assert!(results.samples.iter().all(|s| s.outcome == Outcome::Ok), "{side}");
        assert!(out.join("latest").join(side.name()).join("index.html").exists(), "{side}");
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn ctrl_c_and_sigterm_end_both_sides_and_keep_what_was_taken() {
    let bench = scenario("0.5", "");
    for (signal, whole_group, code) in [("-INT", true, 130), ("-TERM", false, 143), ("-TERM", true, 143)] {
        let out = tempfile::tempdir().unwrap();
        let mut run = going_on(&bench, out.path());
        let sides = run.sides();
        kill(signal, &format!("{}{}", if whole_group { "-" } else { "" }, run.0.id()));
        assert_eq!(run.wait().code(), Some(code), "{signal}");
        assert!(sides.iter().all(|id| !alive(*id)), "the sides have ended before it");
        samples_are_kept(out.path());
        assert_eq!(left_over(), Vec::<String>::new());
    }
}

fn alive(id: u32) -> bool {
    Path::new(&format!("/proc/{id}/cmdline")).exists()
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_conductor_that_is_killed_is_missed_by_its_sides_which_clean_up() {
    let bench = scenario("0.5", "");
    let out = tempfile::tempdir().unwrap();
    let mut run = going_on(&bench, out.path());
    let sides = run.sides();
    kill("-KILL", &run.0.id().to_string());
    run.wait();
    let begin = Instant::now();
    while sides.iter().any(|id| alive(*id)) {
        assert!(begin.elapsed() < Duration::from_secs(60), "the sides go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    samples_are_kept(out.path());
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_side_that_is_killed_ends_the_other_and_leaves_nothing() {
    let bench = scenario("0.5", "");
    for victim in [0, 1] {
        let out = tempfile::tempdir().unwrap();
        let mut run = going_on(&bench, out.path());
        kill("-KILL", &run.sides()[victim].to_string());
        assert_eq!(run.wait().code(), Some(1));
        samples_are_kept(out.path());
        assert_eq!(left_over(), Vec::<String>::new());
    }
}

/// A clone whose package is called bootrace, and whose program is the one under test.
struct Clone {
    dir: tempfile::TempDir,
    builds: BTreeSet<PathBuf>,
}

impl Clone {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let clone = Clone { dir, builds: builds() };
        clone.git(&["init", "--quiet"]);
        clone
            .write("Cargo.toml", "[package]\nname = \"bootrace\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
        clone.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"bootrace\"\nversion = \"0.0.0\"\n");
        clone.write("src/main.rs", MAIN);
        clone.commit("first");
        clone.write("src/main.rs", &format!("{MAIN}// another\n"));
        clone.commit("second");
        clone
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.arg("-C")
            .arg(self.dir.path())
            .arg("-c")
            .arg(format!("safe.directory={}", self.dir.path().display()));
        git.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(arguments);
        let output = git.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn give_to(&self, user: u32) {
        let mut dirs = vec![self.dir.path().to_owned()];
        while let Some(path) = dirs.pop() {
            chown(&path, Some(user), Some(user)).unwrap();
            if path.is_dir() {
                dirs.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }

    /// With the cargo that built this test.
    fn ab(&self, base: &str, new: &str, bench: &Bench) -> Command {
        let mut command = ab(base, new, &bench.path().join("out"));
        command.args(["--targets", "native"]).arg(toml(bench)).current_dir(self.dir.path());
        let cargo = Path::new(env!("CARGO")).parent().unwrap().display();
        command.env("PATH", format!("{cargo}:{}", std::env::var("PATH").unwrap()));
        command.env("REAL_BOOTRACE", env!("CARGO_BIN_EXE_bootrace"));
        command
    }

    fn no_checkout_is_left(&self) {
        assert_eq!(self.git(&["worktree", "list"]).lines().count(), 1);
        assert!(!self.dir.path().join(".git/worktrees").exists());
        for new in builds().difference(&self.builds) {
            assert!(!new.join("tree").exists(), "{}", new.display());
        }
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        for new in builds().difference(&self.builds) {
            let _ = fs::remove_dir_all(new);
        }
    }
}

const MAIN: &str = "use std::{env, os::unix::process::CommandExt, process::Command};\n\
    fn main() { panic!(\"{}\", Command::new(env::var_os(\"REAL_BOOTRACE\").unwrap()).args(env::args_os().skip(1)).exec()); }\n";

/// All that is built from revisions on this host.
fn builds() -> BTreeSet<PathBuf> {
    let cache = std::env::var("BOOTRACE_CACHE").unwrap_or_else(|_| "/var/cache/bootrace".into());
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let builds = Path::new(&cache).join("builds");
    list(builds.clone()).chain(list(builds.join("clones"))).filter(|path| !path.ends_with("clones")).collect()
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn revisions_are_built_once_and_run_whoever_owns_the_clone() {
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let clone = Clone::new();
    let second = clone.git(&["rev-parse", "HEAD"]);
    // What git calls dubious to root.
    clone.give_to(65534);
    let first_time = ran(clone.ab("HEAD~1", "rev:HEAD", &bench));
    assert_eq!(first_time.code, Some(0), "{}{}", first_time.stdout, first_time.stderr);
    assert_eq!(first_time.stderr.matches("built ").count(), 2, "{}", first_time.stderr);
    let record = record(&bench.path().join("out"));
    assert_eq!(record["sides"][1]["commit"], second.as_str());
    assert!(record["sides"][1]["program"].as_str().unwrap().ends_with(&format!("/builds/{second}/bootrace")));
    clone.no_checkout_is_left();

    let again = ran(clone.ab("HEAD", "HEAD~1", &bench));
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert!(!again.stderr.contains("build"), "{}", again.stderr);
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_revision_that_does_not_build_is_said_with_cargos_words_and_leaves_no_checkout() {
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let clone = Clone::new();
    clone.write("src/main.rs", "fn main() { no_such_function() }\n");
    let broken = clone.commit("broken");
    ran(clone.ab("HEAD", "HEAD~1", &bench))
        .fails(1, &[&broken, "cargo", "cannot find function `no_such_function`"]);
    clone.no_checkout_is_left();
    assert!(!bench.path().join("out").exists());
}

/// A cargo that does what it is told, for who builds and how long it takes.
fn with_cargo(command: &mut Command, dir: &Path, script: &str) {
    let cargo = dir.join("cargo");
    fs::write(&cargo, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", dir.display()));
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn who_calls_by_sudo_has_their_clone_built_as_themselves() {
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let clone = Clone::new();
    clone.give_to(65534);
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = clone.ab("HEAD", "HEAD~1", &bench);
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    let script = "test $(id -u):$(id -g) = 65534:65534\nmkdir -p $CARGO_TARGET_DIR\n\
        printf '#!/bin/sh\\nexec \"$REAL_BOOTRACE\" \"$@\"\\n' >$CARGO_TARGET_DIR/x\n\
        printf '{\"target\":{\"name\":\"bootrace\"},\"executable\":\"%s\"}\\n' $CARGO_TARGET_DIR/x";
    with_cargo(&mut command, tools.path(), script);
    let ran = ran(command);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    clone.no_checkout_is_left();
    // Nothing in the clone has become root's.
    let found = Command::new("find").arg(clone.dir.path()).args(["-user", "0"]).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_build_that_is_ended_leaves_no_checkout_and_no_cargo() {
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let clone = Clone::new();
    let tools = tempfile::tempdir().unwrap();
    let pid = tools.path().join("pid");
    let mut command = clone.ab("HEAD", "HEAD~1", &bench);
    with_cargo(
        &mut command,
        tools.path(),
        &format!("sleep 600 &\necho $! >{}.new\nmv {0}.new {0}\nwait", pid.display()),
    );
    let mut run = Run(command.stderr(Stdio::null()).spawn().unwrap());
    let begin = Instant::now();
    while !pid.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "cargo was not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill("-TERM", &run.0.id().to_string());
    assert_eq!(run.wait().code(), Some(143));
    let sleeps = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let gone = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    assert!(gone(sleeps), "what cargo started goes on");
    clone.no_checkout_is_left();
}
