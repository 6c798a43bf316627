//! `bootrace ab` with git revisions as sides: of a user's project, and of a small clone that builds the bootrace under test.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    Ran,
    ab::{Run, ab, kill, ran, record},
    left_over,
};

/// A git repository with commits to compare; its A/Bs write into a folder of their own.
struct Clone {
    dir: tempfile::TempDir,
    out: tempfile::TempDir,
    builds: BTreeSet<PathBuf>,
}

/// The scenario in each clone.
const SCENARIO: &str = "bench/startup.toml";

impl Clone {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let clone = Clone { dir, out: tempfile::tempdir().unwrap(), builds: builds() };
        clone.git(&["init", "--quiet"]);
        clone
    }

    /// The project of the CI recipe: its `[build]` makes the root file system. The second commit is slower.
    fn of_project() -> Self {
        let clone = Clone::empty();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/example");
        for path in ["app.c", "bench/build", SCENARIO] {
            clone.write(path, &fs::read_to_string(from.join(path)).unwrap());
        }
        clone.executable("bench/build");
        clone.write(".gitignore", "root.tar\n");
        clone.commit("first");
        clone.work_takes(300);
        clone.commit("second");
        clone
    }

    fn work_takes(&self, ms: u32) {
        let source = fs::read_to_string(self.dir.path().join("app.c")).unwrap();
        let (before, after) = source.split_once("#define WORK_MS ").unwrap();
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        self.write("app.c", &format!("{before}#define WORK_MS {ms}{after}"));
    }

    fn executable(&self, path: &str) {
        fs::set_permissions(self.dir.path().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A package that is called bootrace, and whose program is the one under test.
    fn of_bootrace() -> Self {
        let clone = Clone::empty();
        clone
            .write("Cargo.toml", "[package]\nname = \"bootrace\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
        clone.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"bootrace\"\nversion = \"0.0.0\"\n");
        clone.write("src/main.rs", MAIN);
        clone.write(SCENARIO, SELF);
        clone.commit("first");
        clone.write("src/main.rs", &MAIN.replace("panic!(\"{}", "panic!(\"of the second commit {}"));
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
    fn ab(&self, base: &str, new: &str) -> Command {
        let mut command = ab(base, new, self.out.path());
        command.args(["--targets", "native"]).current_dir(self.dir.path());
        let cargo = Path::new(env!("CARGO")).parent().unwrap().display();
        command.env("PATH", format!("{cargo}:{}", std::env::var("PATH").unwrap()));
        command.env("REAL_BOOTRACE", env!("CARGO_BIN_EXE_bootrace"));
        command
    }

    fn ab_of_scenario(&self, base: &str, new: &str) -> Command {
        let mut command = self.ab(base, new);
        command.arg(SCENARIO);
        command
    }

    fn median_ms(&self, side: &str) -> u64 {
        let results = bootrace::report::load(&self.out.path().join("latest").join(side)).unwrap();
        let samples = results.samples.iter().filter(|s| !s.warmup);
        let mut all: Vec<u64> = samples.map(|s| s.timeline_ns.startup().unwrap()).collect();
        all.sort_unstable();
        all[all.len() / 2] / 1_000_000
    }

    fn no_checkout_is_left(&self) {
        assert_eq!(self.git(&["worktree", "list"]).lines().count(), 1);
        assert!(!self.dir.path().join(".git/worktrees").exists());
        for new in builds().difference(&self.builds) {
            for side in ["base", "new"] {
                assert!(!new.join(side).exists(), "{}/{side}", new.display());
            }
        }
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        for new in builds().difference(&self.builds) {
            // A lock beside its directory is a file.
            let _ = fs::remove_dir_all(new).or_else(|_| fs::remove_file(new));
        }
    }
}

const MAIN: &str = "use std::{env, os::unix::process::CommandExt, process::Command};\n\
    fn main() { panic!(\"{}\", Command::new(env::var_os(\"REAL_BOOTRACE\").unwrap()).args(env::args_os().skip(1)).exec()); }\n";

/// Its `[build]` makes the bootrace that measures.
const SELF: &str = r#"
name = "self"
[build]
command = ["cargo", "build", "--release", "--locked"]
program = "target/release/bootrace"
keep = "target"
[image]
suite = "debian/bookworm"
[workload]
command = ["sh", "-c", "echo ready; exec sleep infinity"]
ready = { line = "ready" }
[sampling]
samples = 2
warmup = 0
settle = "0s"
idle = "0s"
[[target]]
kind = "native"
"#;

/// All that is built from revisions on this host.
fn builds() -> BTreeSet<PathBuf> {
    let cache = std::env::var("BOOTRACE_CACHE").unwrap_or_else(|_| "/var/cache/bootrace".into());
    let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let builds = Path::new(&cache).join("builds");
    list(builds.clone()).chain(list(builds.join("clones"))).filter(|path| !path.ends_with("clones")).collect()
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn two_commits_of_a_users_project_are_built_and_compared() {
    let clone = Clone::of_project();
    let [first, second] = ["HEAD~1", "HEAD"].map(|revision| clone.git(&["rev-parse", revision]));
    // What is not committed is in no revision.
    clone.work_takes(20_000);
    let run = |base: &str, new: &str, scenario: &[&str]| {
        let mut command = clone.ab(base, new);
        command.args(["--samples", "3", "--warmup", "0"]).args(scenario);
        let ran = ran(command);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        clone.no_checkout_is_left();
        ran
    };
    let revisions = run("HEAD~1", "HEAD", &[SCENARIO]);
    assert_eq!(revisions.stderr.matches("built ").count(), 2, "{}", revisions.stderr);
    assert!(clone.median_ms("new") > clone.median_ms("base") + 150, "{}", revisions.stdout);
    let record = record(clone.out.path());
    let this = fs::canonicalize(env!("CARGO_BIN_EXE_bootrace")).unwrap();
    for (side, commit) in [(0, &first), (1, &second)] {
        let side = &record["sides"][side];
        assert_eq!(
            [&side["commit"], &side["scenario"], &side["program"]],
            [commit.as_str(), SCENARIO, this.to_str().unwrap()]
        );
    }
    let new = bootrace::report::load(&clone.out.path().join("latest/new")).unwrap();
    assert_eq!(new.run.source.map(|source| (source.commit, source.dirty)), Some((second, Some(false))));

    // The last commit against what the user has built: that is left as it is.
    clone.work_takes(600);
    assert!(Command::new(clone.dir.path().join("bench/build")).status().unwrap().success());
    let dirty = run("HEAD", SCENARIO, &[]);
    assert_eq!(dirty.stderr.matches("built ").count(), 1, "{}", dirty.stderr);
    assert!(clone.median_ms("new") > clone.median_ms("base") + 150, "{}", dirty.stdout);
    assert!(clone.dir.path().join("bench/root.tar").exists());
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_run_builds_its_clone_only_where_that_is_asked_for() {
    let clone = Clone::of_project();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
        command.args(["run", SCENARIO, "--targets", "native", "--samples", "1", "--warmup", "0", "--out"]);
        command.arg(clone.out.path()).args(arguments).current_dir(clone.dir.path());
        command.env_remove("SUDO_UID");
        Ran::new(command.output().unwrap(), None)
    };
    run(&[]).fails(2, &["root.tar"]);
    assert!(!clone.dir.path().join("bench/root.tar").exists());
    let built = run(&["--build"]);
    assert_eq!(built.code, Some(0), "{}{}", built.stdout, built.stderr);
    clone.write("bench/build", "#!/bin/sh\necho no compiler here >&2\nexit 7\n");
    run(&["--build"]).fails(1, &["bench/build", "exit status: 7", "no compiler here"]);
    fs::rename(clone.dir.path().join(".git"), clone.dir.path().join("no-git")).unwrap();
    run(&["--build"]).fails(2, &["git clone", "leave --build out"]);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_revision_without_the_scenario_is_a_wrong_command_line_before_anything_is_built() {
    let clone = Clone::of_project();
    let first = clone.git(&["rev-parse", "--short=12", "HEAD~1"]);
    clone.git(&["mv", SCENARIO, "bench/other.toml"]);
    clone.commit("renamed");
    let fails = |base: &str, new: &str, scenario: &[&str], signs: &[&str]| {
        let mut command = clone.ab(base, new);
        command.args(scenario);
        let ran = ran(command);
        ran.fails(2, signs);
        assert!(!ran.stderr.contains("building"), "{}", ran.stderr);
        clone.no_checkout_is_left();
        assert_eq!(fs::read_dir(clone.out.path()).unwrap().count(), 0);
    };
    let none = format!("HEAD~2 ({first}), has no scenario bench/other.toml: No such file");
    fails("HEAD~2", "HEAD", &["bench/other.toml"], &["the base side", &none, "fix: commit it there"]);
    fails("HEAD~1", "HEAD", &[SCENARIO], &["the new side", "has no scenario bench/startup.toml"]);
    // A name is a file of the clone's too.
    fails("HEAD~1", "HEAD", &["redis"], &["the base side", "has no scenario scenarios/redis.toml"]);
    fails("HEAD~1", "HEAD", &[], &["needs a scenario of the clone", "bench/startup.toml"]);
    fails("HEAD~1", "HEAD", &["/etc/x.toml"], &["/etc/x.toml is outside of the clone"]);

    std::os::unix::fs::symlink("/etc/passwd", clone.dir.path().join(SCENARIO)).unwrap();
    clone.commit("leads out");
    fails("HEAD~2", "HEAD", &[SCENARIO], &["the new side", "a symbolic link leads out of the checkout"]);
    fs::remove_file(clone.dir.path().join(SCENARIO)).unwrap();
    clone.write(SCENARIO, "name = 1\n");
    clone.commit("wrong");
    fails("HEAD~3", "HEAD", &[SCENARIO], &["the new side", "reading the scenario", "startup.toml:1:8: name"]);
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn bootraces_of_revisions_are_built_once_and_measure_whoever_owns_the_clone() {
    let clone = Clone::of_bootrace();
    let second = clone.git(&["rev-parse", "HEAD"]);
    // What git calls dubious to root.
    clone.give_to(65534);
    let first_time = ran(clone.ab_of_scenario("HEAD~1", "rev:HEAD"));
    assert_eq!(first_time.code, Some(0), "{}{}", first_time.stdout, first_time.stderr);
    assert_eq!(first_time.stderr.matches("built ").count(), 2, "{}", first_time.stderr);
    let record = record(clone.out.path());
    assert_eq!(record["sides"][1]["commit"], second.as_str());
    let program = record["sides"][1]["program"].as_str().unwrap();
    assert!(program.contains(&format!("/builds/{second}-")) && program.ends_with("/bootrace"), "{program}");
    // The second build starts with the folder of the first, and is no copy of it.
    let has_mark = |side: usize| {
        let program = fs::read(record["sides"][side]["program"].as_str().unwrap()).unwrap();
        program.windows(20).any(|bytes| bytes == b"of the second commit")
    };
    assert_eq!([has_mark(0), has_mark(1)], [false, true]);
    let new = bootrace::report::load(&clone.out.path().join("latest/new")).unwrap();
    let source = new.run.source.unwrap();
    assert_eq!((source.commit, source.dirty), (second.clone(), Some(false)));
    clone.no_checkout_is_left();
    // cargo's folder is kept for the next build.
    let kept =
        builds().difference(&clone.builds).find(|new| new.extension().is_some_and(|e| e == "kept")).cloned();
    let kept = fs::read_dir(kept.unwrap()).unwrap().next().unwrap().unwrap().path();
    assert!(kept.join("release/bootrace").exists());

    let again = ran(clone.ab_of_scenario("HEAD", "HEAD~1"));
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert!(!again.stderr.contains("building"), "{}", again.stderr);
    // Built otherwise it is another one.
    let mut otherwise = clone.ab_of_scenario("HEAD", "HEAD");
    otherwise.env("RUSTFLAGS", "-Copt-level=1");
    let otherwise = ran(otherwise);
    assert_eq!(otherwise.stderr.matches("built ").count(), 1, "{}", otherwise.stderr);

    // A scenario that this bootrace can't read is for the one that is built; a program is of both sides or of neither.
    clone.write(SCENARIO, &SELF.replace("[[target]]", "[of_another_version]\n[[target]]"));
    clone.commit("another version");
    ran(clone.ab_of_scenario("HEAD~1", "HEAD")).fails(2, &["could not be prepared", "of_another_version"]);
    clone.write(SCENARIO, &SELF.replace("program = ", "# program = "));
    clone.commit("no program");
    ran(clone.ab_of_scenario("HEAD~2", "HEAD")).fails(2, &["give both or neither a program"]);
    clone.write(SCENARIO, &SELF.replace("release/bootrace", "release/no-such"));
    clone.commit("another program");
    let signs = ["made no target/release/no-such", "fix: correct program or command"];
    ran(clone.ab_of_scenario("HEAD", "HEAD")).fails(1, &signs);
    clone.no_checkout_is_left();
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_build_that_fails_is_said_with_its_own_words_and_leaves_no_checkout() {
    let clone = Clone::of_bootrace();
    clone.write("src/main.rs", "fn main() { no_such_function() }\n");
    let broken = clone.commit("broken");
    let fails = |signs: &[&str]| {
        ran(clone.ab_of_scenario("HEAD", "HEAD~1")).fails(1, signs);
        clone.no_checkout_is_left();
        assert_eq!(fs::read_dir(clone.out.path()).unwrap().count(), 0);
    };
    fails(&[
        &broken[..12],
        "cargo build --release",
        "exit status: 101",
        "cannot find function `no_such_function`",
    ]);
    for (command, sign) in
        [("no-such-program", "fix: install it"), ("./Cargo.toml", "fix: make it executable")]
    {
        clone.write(SCENARIO, &SELF.replace("cargo", command));
        clone.commit(command);
        fails(&[command, "does not start", sign]);
    }
    // Nothing in the output acts on a terminal, and no more than its end is shown.
    let loud = r#"["sh", "-c", "yes x | head -n 100000; printf '\\033[2J the end'; exit 3"]"#;
    clone.write(SCENARIO, &SELF.replace(r#"["cargo", "build", "--release", "--locked"]"#, loud));
    clone.commit("loud");
    let ran = ran(clone.ab_of_scenario("HEAD", "HEAD"));
    ran.fails(1, &["exit status: 3", " the end"]);
    assert!(ran.stderr.len() < 2000 && !ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
}

/// A cargo that runs the given script, which records its user and takes its time.
fn with_cargo(command: &mut Command, dir: &Path, script: &str) {
    let cargo = dir.join("cargo");
    fs::write(&cargo, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", dir.display()));
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_sudo_users_clone_is_built_as_that_user() {
    let clone = Clone::of_bootrace();
    clone.give_to(65534);
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = clone.ab_of_scenario("HEAD", "HEAD~1");
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    let script = "test $(id -u):$(id -g) = 65534:65534\ntest -z \"$CARGO_TARGET_DIR\"\nmkdir -p target/release\n\
        printf '#!/bin/sh\\nexec \"$REAL_BOOTRACE\" \"$@\"\\n' >target/release/bootrace\nchmod +x target/release/bootrace";
    with_cargo(&mut command, tools.path(), script);
    let ran = ran(command);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    clone.no_checkout_is_left();
    // Nothing in the clone has become root's.
    let found = Command::new("find").arg(clone.dir.path()).args(["-user", "0"]).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

/// An A/B whose first build sleeps, and the file in which that build has written these pids.
fn long_build(clone: &Clone, tools: &Path, pids: &str) -> (Run, PathBuf) {
    let file = tools.join("pid");
    let mut command = clone.ab_of_scenario("HEAD", "HEAD~1");
    let script = format!("sleep 600 &\necho {pids} >{}.new\nmv {0}.new {0}\nwait", file.display());
    with_cargo(&mut command, tools, &script);
    let run = Run(command.stderr(Stdio::null()).spawn().unwrap());
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "cargo was not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    (run, file)
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_build_that_is_ended_leaves_no_checkout_and_no_cargo() {
    let clone = Clone::of_bootrace();
    let tools = tempfile::tempdir().unwrap();
    let (mut run, pid) = long_build(&clone, tools.path(), "$!");
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

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_build_ends_when_bootrace_ends() {
    let clone = Clone::of_bootrace();
    let tools = tempfile::tempdir().unwrap();
    let (mut run, pid) = long_build(&clone, tools.path(), "$$ $!");
    kill("-KILL", &run.0.id().to_string());
    run.wait();
    // cargo and its compilers, by their supervisor.
    for process in fs::read_to_string(&pid).unwrap().split_whitespace() {
        let begin = Instant::now();
        while fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begin.elapsed() < Duration::from_secs(60), "process {process} goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let clean = |arguments: &[&str]| {
        let output = common::bootrace(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(clean(&["clean", "--dry-run"]).contains("would remove checkout "));
    let said = clean(&["clean"]);
    assert!(
        said.contains("removed checkout ") && said.contains(clone.dir.path().to_str().unwrap()),
        "{said}"
    );
    clone.no_checkout_is_left();
}
