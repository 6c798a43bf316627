//! `bootrace ab` with git revisions of bootrace as sides: a small clone whose program is the one under test.

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
    Bench,
    ab::{Run, ab, kill, ran, record, scenario, toml},
    left_over,
};

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
            // A lock beside its directory is a file.
            let _ = fs::remove_dir_all(new).or_else(|_| fs::remove_file(new));
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
    let program = record["sides"][1]["program"].as_str().unwrap();
    assert!(program.contains(&format!("/builds/{second}-")) && program.ends_with("/bootrace"), "{program}");
    let new = bootrace::report::load(&bench.path().join("out/latest/new")).unwrap();
    let source = new.run.source.unwrap();
    assert_eq!((source.commit, source.dirty), (second.clone(), Some(false)));
    clone.no_checkout_is_left();

    let again = ran(clone.ab("HEAD", "HEAD~1", &bench));
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
    assert!(!again.stderr.contains("build"), "{}", again.stderr);
    // Built otherwise it is another one.
    let mut otherwise = clone.ab("HEAD", "HEAD", &bench);
    otherwise.env("RUSTFLAGS", "-Copt-level=1");
    let otherwise = ran(otherwise);
    assert_eq!(otherwise.stderr.matches("built ").count(), 1, "{}", otherwise.stderr);
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

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_build_ends_with_who_asked_for_it() {
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let clone = Clone::new();
    let tools = tempfile::tempdir().unwrap();
    let pid = tools.path().join("pid");
    let mut command = clone.ab("HEAD", "HEAD~1", &bench);
    with_cargo(
        &mut command,
        tools.path(),
        &format!("sleep 600 &\necho $$ $! >{}.new\nmv {0}.new {0}\nwait", pid.display()),
    );
    let mut run = Run(command.stderr(Stdio::null()).spawn().unwrap());
    let begin = Instant::now();
    while !pid.exists() {
        assert!(begin.elapsed() < Duration::from_secs(30), "cargo was not run");
        std::thread::sleep(Duration::from_millis(20));
    }
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
}
