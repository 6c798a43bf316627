//! Faults of the host: a full disk, a damaged cache, a second run, a stepped clock, a user without rights.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use jiff::Timestamp;
use rustix::process::Signal;

use bootrace_agent::{
    protocol::AGENT_PATH,
    reference::{READY, ReferenceWorkload},
};

use crate::{
    case::{Around, BEFORE, IDLING, Row, Running, SETTLING, Then, all_hold},
    common::{Bench, output_of},
    daemon::Own,
    killed::each_step_lasts,
};

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path, size: &str) -> Small {
        fs::create_dir_all(dir).unwrap();
        output_of(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "small", dir.to_str().unwrap()],
        );
        Small(dir.into())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        output_of("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

/// One that has no place for as many files as the image has, though for their bytes.
fn few_files(dir: &Path) -> Small {
    let small = Small::mount(dir, "200m");
    output_of("mount", &["-o", "remount,nr_inodes=120", dir.to_str().unwrap()]);
    small
}

/// Writes until the disk is full.
fn fill(dir: &Path) {
    let mut file = File::create(dir.join("fill")).unwrap();
    std::io::copy(&mut File::open("/dev/zero").unwrap(), &mut file).unwrap_err();
}

/// Empty files in the image.
const FILES: usize = 200;

/// An image of the agent alone, a file of 40 MB and many empty ones, and a workload in it.
fn of_a_tarball(target: &str) -> String {
    let workload = ReferenceWorkload::Delay { ns: 0 }.arguments().map(|word| format!("{word:?}")).join(", ");
    format!(
        "[image]\ntarball = \"root.tar\"\n[workload]\ncommand = [{AGENT_PATH:?}, {workload}]\n\
         ready = {{ line = \"^{READY}$\" }}\n[resources]\nmemory = \"128MiB\"\n\
         [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n[[target]]\nkind = \"{target}\"\n"
    )
}

fn make_tarball(bench: &Bench) {
    let root = bench.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=faults\n").unwrap();
    let noise = File::open("/dev/urandom").unwrap();
    for number in 0..FILES {
        fs::write(root.join(number.to_string()), "").unwrap();
    }
    let mut large = File::create(root.join("large")).unwrap();
    std::io::copy(&mut std::io::Read::take(noise, 40 << 20), &mut large).unwrap();
    output_of(
        "tar",
        &["-C", root.to_str().unwrap(), "-cf", bench.path().join("root.tar").to_str().unwrap(), "."],
    );
    fs::remove_dir_all(root).unwrap();
}

#[test]
#[ignore = "needs docker: scripts/test runs it"]
fn a_full_disk_is_named_and_leaves_what_was_there() {
    let out: Around = Some(Box::new(|bench, _| Box::new(Small::mount(&bench.path().join("out"), "4m"))));
    let cache: Around = Some(Box::new(|bench, command| {
        make_tarball(bench);
        let small = Small::mount(&bench.path().join("cache"), "60m");
        command.env("BOOTRACE_CACHE", bench.path().join("cache"));
        Box::new(small)
    }));
    let files: Around = Some(Box::new(|bench, command| {
        make_tarball(bench);
        let small = few_files(&bench.path().join("cache"));
        command.env("BOOTRACE_CACHE", bench.path().join("cache"));
        Box::new(small)
    }));
    let engine: Around = Some(Box::new(|bench, command| {
        make_tarball(bench);
        let small = Small::mount(&bench.path().join("data"), "30m");
        let own = Own::start_in(&bench.path().join("data"));
        command.env("BOOTRACE_CACHE", bench.path().join("cache")).env("DOCKER_HOST", own.address());
        Box::new((own, small))
    }));
    const FULL: &str = "No space left on device";
    let none = |_: &mut Running| {};
    let rows = [
        Row::new(
            "the disk of the results is full",
            "native",
            each_step_lasts("native"),
            (1, SETTLING),
            |run| {
                fill(&run.bench.path().join("out"));
            },
        )
        .ends(Some(1), &[FULL], 1, Then::Clean)
        .around(out),
        Row::new("the disk of the cache is full", "native", of_a_tarball("native"), (0, BEFORE), none)
            .ends(Some(1), &["bytes are free in the cache; fix: "], 0, Then::Clean)
            .around(cache)
            .varies(),
        Row::new(
            "the cache has no place for as many files",
            "native",
            of_a_tarball("native"),
            (0, BEFORE),
            none,
        )
        .ends(Some(1), &["can't be unpacked", FULL], 0, Then::Clean)
        .around(files)
        .varies(),
        Row::new("the disk of the engine is full", "docker", of_a_tarball("docker"), (0, BEFORE), none)
            .ends(Some(1), &["no space left on device"], 0, Then::Clean)
            .around(engine),
    ];
    all_hold("The host's disk", &rows);
}

/// The only entry of a directory.
fn only(dir: PathBuf) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    entry.clone()
}

fn damaged(fault: &str, says: &'static [&'static str], damage: fn(&Path)) -> Row {
    let around: Around = Some(Box::new(move |bench, command| {
        make_tarball(bench);
        let cache = bench.path().join("cache");
        let built = bench.command(&[]).env("BOOTRACE_CACHE", &cache).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        damage(&cache);
        command.env("BOOTRACE_CACHE", &cache);
        Box::new(())
    }));
    Row::new(fault, "native", of_a_tarball("native"), (0, BEFORE), |_| {})
        .ends(Some(0), says, 1, Then::Clean)
        .around(around)
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_damaged_cache_is_repaired() {
    let rows = [
        damaged("the base's archive is cut short", &[], |cache| {
            let tar = File::options().write(true).open(only(cache.join("bases")).join("base.tar")).unwrap();
            tar.set_len(1 << 20).unwrap();
        }),
        damaged("the image's tree has no manifest", &["unpacked it"], |cache| {
            fs::remove_file(only(cache.join("images")).join("tree/manifest.json")).unwrap();
        }),
        damaged("the image's tree is missing", &["unpacked it"], |cache| {
            fs::remove_dir_all(only(cache.join("images")).join("tree")).unwrap();
        }),
        damaged("a manifest of the image is cut short", &["unpacked it"], |cache| {
            let manifest = only(cache.join("images")).join("tree/manifest.json");
            File::options().write(true).open(manifest).unwrap().set_len(100).unwrap();
        }),
        damaged(
            "a byte of the base's archive has changed",
            &["was damaged and is removed now: try again"],
            |cache| {
                let archive = only(cache.join("bases")).join("base.tar");
                let mut tar = File::options().read(true).write(true).open(archive).unwrap();
                tar.seek(SeekFrom::Start(20 << 20)).unwrap();
                tar.write_all(b"changed").unwrap();
                fs::remove_dir_all(only(cache.join("images")).join("tree")).unwrap();
            },
        )
        .ends(Some(1), &["was damaged and is removed now: try again"], 0, Then::Clean),
    ];
    all_hold("The cache", &rows);
}

/// What podman keeps of imports in its temporary directory: files whose names begin with the call's.
fn archives_of_podman() -> BTreeSet<String> {
    let names = fs::read_dir("/var/tmp").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| !name.starts_with(".tmp")).collect()
}

/// A line of progress, at which the program is killed.
fn killed_at(line: &'static str, target: &'static str) -> Row {
    let own: Around = Some(Box::new(|bench, command| {
        make_tarball(bench);
        command.env("BOOTRACE_CACHE", bench.path().join("cache"));
        Box::new(())
    }));
    let mut row = Row::new(
        &format!("SIGKILL at {line:?}"),
        target,
        of_a_tarball(target),
        (0, BEFORE),
        move |running| {
            running.until(|said| said.contains(line));
            running.signal(Signal::KILL);
        },
    )
    .ends(None, &[], 0, Then::CleanAndRunAgain)
    .around(own);
    let before = archives_of_podman();
    row.left = Some(Box::new(move || archives_of_podman().difference(&before).cloned().collect()));
    row
}

#[test]
#[ignore = "needs docker and podman: scripts/test runs it"]
fn a_build_that_is_killed_is_made_anew() {
    let rows = [
        killed_at("making the root file system", "native"),
        killed_at("made the root file system", "native"),
        killed_at("unpacked it", "docker"),
        killed_at("unpacked it", "podman"),
    ];
    all_hold("Killed while an image is made", &rows);
}

/// Where the program's wall clock begins, in seconds.
const AHEAD: &str = "+7200";

/// The wall clock of the program alone is stepped, by a library before libc: a host's is everybody's.
fn stepped(fault: &str, target: &'static str, seconds: &'static str) -> Row {
    let around: Around = Some(Box::new(|bench, command| {
        let file = bench.path().join("clock");
        fs::write(&file, AHEAD).unwrap();
        command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", file);
        command
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
        Box::new(())
    }));
    Row::new(fault, target, each_step_lasts(target), (1, SETTLING), move |running| {
        let started = running.bench.results().unwrap().run.started_at.parse::<Timestamp>().unwrap();
        let ahead = started.duration_since(Timestamp::now());
        assert!(ahead.as_secs() > 3600, "the program has a clock of its own: {started}");
        fs::write(running.bench.path().join("clock"), seconds).unwrap();
    })
    .ends(Some(0), &[], 3, Then::Clean)
    .around(around)
}

fn faketime() -> PathBuf {
    let found = output_of("sh", &["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]);
    found.lines().next().unwrap().into()
}

#[test]
#[ignore = "needs docker: scripts/test runs it"]
fn a_stepped_wall_clock_changes_no_figure() {
    let rows = [
        stepped("the wall clock steps an hour back", "native", "+3600"),
        stepped("the wall clock steps a year on", "docker", "+31536000"),
    ];
    all_hold("The wall clock", &rows);
}

/// A copy of the program that every user can run, as user `nobody`.
fn ordinary(groups: &'static [&'static str]) -> Around {
    Some(Box::new(move |bench, command| {
        let open = fs::Permissions::from_mode(0o777);
        for dir in [bench.path(), &bench.path().join("out"), &bench.path().join("cache")] {
            fs::create_dir_all(dir).unwrap();
            fs::set_permissions(dir, open.clone()).unwrap();
        }
        let program = bench.path().join("bootrace");
        fs::copy(env!("CARGO_BIN_EXE_bootrace"), &program).unwrap();
        let mut user = Command::new("setpriv");
        let groups = groups
            .iter()
            .map(|group| output_of("getent", &["group", group]).split(':').nth(2).unwrap().to_owned());
        let groups: Vec<_> = groups.collect();
        let groups = if groups.is_empty() {
            "--clear-groups".into()
        } else {
            format!("--groups={}", groups.join(","))
        };
        user.args(["--reuid=65534", "--regid=65534", &groups, "--inh-caps=-all"]).arg(&program);
        user.args(command.get_args())
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        user.env("HOME", bench.path()).env("BOOTRACE_CACHE", bench.path().join("cache")).process_group(0);
        *command = user;
        Box::new(())
    }))
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_ordinary_user_reads_what_needs_root() {
    const USER: &[&str] = &["denied", "sudo"];
    let row = |fault: &str, target, groups, says| {
        Row::new(fault, target, each_step_lasts(target), (0, BEFORE), |_| {})
            .ends(Some(1), says, 0, Then::Clean)
            .around(ordinary(groups))
    };
    let rows = [
        row("run by an ordinary user", "native", &[], &["native target", "sudo"]),
        row("run by an ordinary user", "docker", &[], USER),
        row("run by an ordinary user", "libvirt", &[], &["connecting to libvirt at qemu:///system", "sudo"])
            .varies(),
        row("run by a member of the group docker", "docker", &["docker"], &["root"]),
        row("run by a member of the group libvirt", "libvirt", &["libvirt"], &["root"]).varies(),
    ];
    all_hold("Ordinary users", &rows);
}

/// Files of the program that use the wall clock: for names, dates and the age of files. None measures with it.
const WALL_CLOCK: [&str; 12] = [
    "crates/analysis/src/history/run.rs",
    "crates/report/src/export/prometheus.rs",
    "src/cli/ab/coordinator.rs",
    "src/cli/calibrate.rs",
    "src/cli/image.rs",
    "src/cli/resume.rs",
    "src/cli/run.rs",
    "src/doctor/trial.rs",
    "src/image/base.rs",
    "src/image/manifest.rs",
    "src/image/prune.rs",
    "src/image/stored.rs",
];

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn two_runs_at_once_both_go_well() {
    let other: Rc<RefCell<Option<Running>>> = Rc::default();
    let (started, ended) = (other.clone(), other);
    let around: Around = Some(Box::new(move |_, _| {
        let slow = each_step_lasts("native").replace("settle = \"200ms\"", "settle = \"3s\"");
        let bench = Bench::new(&format!("\n{}", slow.replace("samples = 3", "samples = 1")));
        // Runs of one scenario and seed that start in one second have one name, and the second is refused.
        let text = fs::read_to_string(bench.scenario()).unwrap();
        fs::write(bench.scenario(), text.replace("name = \"test\"", "name = \"other\"")).unwrap();
        let mut run = Running::start(bench, &[], |_, _| {});
        run.until_step(0, SETTLING);
        *started.borrow_mut() = Some(run);
        Box::new(())
    }));
    let mut row = Row::new("a second run", "native", each_step_lasts("native"), (0, IDLING), |_| {})
        .ends(Some(0), &[], 3, Then::Clean)
        .around(around);
    row.left = Some(Box::new(move || {
        let (code, said) = ended.borrow_mut().take().unwrap().end();
        if code == Some(0) { Vec::new() } else { said }
    }));
    all_hold("Two runs at once", &[row]);
}

/// A step would change the clock of the host for everybody, so this is a check of the sources.
#[test]
fn no_duration_is_of_the_wall_clock() {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join("src"), root.join("crates"), root.join("agent")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                dirs.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                if ["SystemTime", "jiff::", "CLOCK_REALTIME", "ClockId::Realtime"]
                    .iter()
                    .any(|w| text.contains(w))
                {
                    found.push(name);
                }
            }
        }
    }
    found.sort();
    assert_eq!(found, WALL_CLOCK, "say for each new one whether a stepped clock changes a figure");
}
