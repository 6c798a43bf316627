//! One long run: bootrace's own memory, files, tasks, cgroups, logs and CPU time, round by round.
//!
//! A round is ten containers and a VM. `scripts/endurance` runs a hundred rounds; without it, there are three.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use bootrace::sample::Outcome;
use common::{Bench, left_over};

const CONTAINERS: usize = 10;
const MIB: u64 = 1 << 20;
/// The most memory that bootrace may hold, and the most that it may gain: it keeps all samples.
const MOST_MEMORY: u64 = 100_000_000;
const MOST_GAIN: u64 = 10 * MIB;
/// From so many rounds on the CPU time is judged: in fewer, the 10 ms in which the kernel counts it are too coarse.
const ENOUGH_FOR_DRIFT: usize = 100;
const MOST_DRIFT: f64 = 0.03;

/// What the kernel says of bootrace and the host at the end of a round.
#[derive(Clone, Debug, Default)]
struct Look {
    memory: u64,
    peak: u64,
    files: u64,
    tasks: u64,
    cgroups: u64,
    logs: u64,
    /// CPU time of bootrace and of the programs that it has run, in ticks.
    cpu: u64,
}

type Figure = fn(&Look) -> u64;

impl Look {
    fn at(pid: u32) -> Self {
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status")).unwrap();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let stat = fs::read_to_string(process.join("stat")).unwrap();
        // From the state on, which is field 3: utime, stime, cutime and cstime are fields 14 to 17.
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        let entries = |dir: &str| fs::read_dir(process.join(dir)).unwrap().count() as u64;
        Look {
            memory: kib("VmRSS:") * 1024,
            peak: kib("VmHWM:") * 1024,
            files: entries("fd"),
            tasks: entries("task"),
            cgroups: directories(Path::new("/sys/fs/cgroup")),
            logs: fs::read_dir("/var/log/libvirt/qemu")
                .unwrap()
                .flatten()
                .filter(|file| file.file_name().to_string_lossy().starts_with("bootrace-"))
                .count() as u64,
            cpu: fields.skip(11).take(4).map(|ticks| ticks.parse::<u64>().unwrap()).sum(),
        }
    }
}

/// All directories below one. Those that vanish meanwhile are none.
fn directories(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.map(|entry| 1 + directories(&entry.path())).sum()
}

/// The median of a figure.
fn median(looks: &[Look], figure: Figure) -> u64 {
    let mut values: Vec<u64> = looks.iter().map(figure).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Compares the last tenth of the rounds with the first; the first look is at the end of the warm-up. Prints all
/// figures and returns what is wrong.
fn judge(looks: &[Look]) -> Vec<String> {
    let rounds = looks.len() - 1;
    let tenth = (rounds / 10).max(1);
    let (first, last) = (&looks[1..=tenth], &looks[looks.len() - tenth..]);
    // What comes and goes with the instance that is under way.
    let figures: [(&str, Figure, u64); 5] = [
        ("memory in bytes", |look| look.memory, MOST_GAIN),
        ("open files", |look| look.files, 4),
        ("tasks", |look| look.tasks, 4),
        ("cgroups", |look| look.cgroups, 12),
        ("logs", |look| look.logs, 1),
    ];
    let mut wrong = Vec::new();
    println!("| figure | first {tenth} rounds | last {tenth} rounds |\n|---|--:|--:|");
    for (name, figure, most) in figures {
        let (before, after) = (median(first, figure), median(last, figure));
        println!("| {name} | {before} | {after} |");
        if after > before + most {
            wrong.push(format!("{name}: {before} in the first rounds, {after} in the last"));
        }
    }
    let peak = looks.iter().map(|look| look.peak).max().unwrap();
    println!("| peak of the memory in bytes | | {peak} |");
    if peak >= MOST_MEMORY {
        wrong.push(format!("peak of the memory: {peak} bytes"));
    }
    let before = looks[tenth].cpu - looks[0].cpu;
    let after = looks[rounds].cpu - looks[rounds - tenth].cpu;
    let drift = after as f64 / before.max(1) as f64 - 1.0;
    println!(
        "| own CPU time in ticks | {before} | {after} |\n\ndrift of the own CPU time: {:+.1} %",
        drift * 100.0
    );
    if rounds < ENOUGH_FOR_DRIFT {
        println!("(not judged: {rounds} rounds are fewer than {ENOUGH_FOR_DRIFT})");
    } else if drift.abs() > MOST_DRIFT {
        wrong.push(format!("own CPU time: {before} ticks in the first rounds, {after} in the last"));
    }
    wrong
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_long_run_costs_as_much_at_its_end_as_at_its_beginning() {
    let rounds = std::env::var("BOOTRACE_ENDURANCE_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let containers: String =
        (1..=CONTAINERS).map(|n| format!("[[target]]\nname = \"docker-{n}\"\nkind = \"docker\"\n")).collect();
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = {{ line = \"^ready$\" }}\n\
         [resources]\nmemory = \"128MiB\"\n\
         [sampling]\nsamples = {rounds}\nwarmup = 1\nsettle = \"0s\"\nidle = \"100ms\"\ntimeout = \"120s\"\n\
         {containers}[[target]]\nkind = \"libvirt\"\n"
    ));
    let before = directories(Path::new("/sys/fs/cgroup"));
    let mut child = bench.command(&[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut looks, mut said) = (Vec::new(), String::new());
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
        if line.trim_start().starts_with("round ") {
            looks.push(Look::at(child.id()));
        }
        said += &(line + "\n");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    let results = bench.results().unwrap();
    let bad: Vec<_> = results.samples.iter().filter(|sample| sample.outcome != Outcome::Ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(results.samples.len(), (rounds + 1) * (CONTAINERS + 1));
    assert_eq!(looks.len(), rounds + 1, "{said}");
    assert_eq!(judge(&looks), Vec::<String>::new());
    assert_eq!(left_over(), Vec::<String>::new());
    let after = directories(Path::new("/sys/fs/cgroup"));
    assert!(after <= before, "{before} cgroups before the run, {after} after it");
}

#[test]
fn growth_with_every_sample_is_found_and_a_steady_run_is_none() {
    let steady = |n: u64| Look {
        memory: 40 * MIB,
        peak: 45 * MIB,
        files: 20,
        tasks: 9,
        cgroups: 90,
        logs: 1,
        cpu: 50 * n,
    };
    let run = |rounds: u64, change: fn(&mut Look, u64)| {
        let looks = (0..=rounds).map(|n| {
            let mut look = steady(n);
            change(&mut look, n);
            look
        });
        judge(&looks.collect::<Vec<_>>())
    };
    assert_eq!(run(3, |_, _| {}), Vec::<String>::new());
    assert_eq!(run(100, |_, _| {}), Vec::<String>::new());
    // One for each container.
    let leaks: [fn(&mut Look, u64); 4] = [
        |look, n| look.files += 10 * n,
        |look, n| look.tasks += 10 * n,
        |look, n| look.cgroups += 10 * n,
        |look, n| look.logs += 10 * n,
    ];
    for leak in leaks {
        assert_eq!((run(3, leak).len(), run(100, leak).len()), (1, 1));
    }
    assert_eq!(run(100, |look, n| look.memory += n * MIB / 4).len(), 1);
    assert_eq!(run(3, |look, _| look.peak = MOST_MEMORY).len(), 1);
    // 0.06 % more with each round is 5 % between the tenths.
    assert_eq!(run(100, |look, n| look.cpu = 10_000 * n + 3 * n * n).len(), 1);
}
