//! What an agent answers beside the workload: identity, readings, work; and what it makes of noise.

mod common;

use std::{fs, path::Path, time::Instant};

use bootrace_agent::{
    BUILD,
    isolation::{Introspect, NAMES},
    protocol::{
        Account, COW_PATH, FromAgent, Identity, MAX_FRAME, Readings, Ready, ToAgent, VERSION, Work, WorkDone,
    },
};
use common::{Agent, number_in, runs, until};
use sha2::{Digest, Sha256};

fn sha256(path: impl AsRef<Path>) -> Option<String> {
    Some(Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn identity(agent: &mut Agent) -> Identity {
    agent.send(&ToAgent::Identify);
    match agent.receive() {
        Some(FromAgent::Identity(identity)) => identity,
        other => panic!("Identity was expected, not {other:?}"),
    }
}

fn account(agent: &mut Agent) -> Account {
    agent.send(&ToAgent::Account);
    match agent.receive() {
        Some(FromAgent::Account(account)) => account,
        other => panic!("Account was expected, not {other:?}"),
    }
}

fn readings(agent: &mut Agent) -> Readings {
    agent.send(&ToAgent::Read);
    match agent.receive() {
        Some(FromAgent::Readings(readings)) => readings,
        other => panic!("Readings was expected, not {other:?}"),
    }
}

fn work(agent: &mut Agent, command: &str) -> WorkDone {
    let argv = ["sh", "-c", command].map(String::from).into();
    agent.send(&ToAgent::Work(Work { argv, env: vec![] }));
    assert_eq!(agent.receive(), Some(FromAgent::WorkStarted));
    match agent.receive() {
        Some(FromAgent::WorkDone(done)) => done,
        other => panic!("WorkDone was expected, not {other:?}"),
    }
}

#[test]
fn hello_names_version_build_and_the_running_kernel() {
    let agent = Agent::new();
    let kernel = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap().trim().to_owned();
    assert_eq!((agent.hello.version, agent.hello.build.as_str()), (VERSION, BUILD));
    assert_eq!(agent.hello.kernel_release, kernel("osrelease"));
    assert_eq!(agent.hello.boot_id, kernel("random/boot_id"));
}

#[test]
fn identity_has_the_digests_of_both_executables_and_the_argv_that_the_kernel_has() {
    let mut agent = Agent::new();
    agent.start(&["sleep", "1000"], Ready::Line("x".into()));
    let identity = identity(&mut agent);
    assert_eq!(identity.agent_digest, sha256(env!("CARGO_BIN_EXE_bootrace-agent")));
    assert_eq!(identity.workload_digest, sha256("/bin/sleep"));
    assert_eq!(identity.argv, ["sleep", "1000"]);
    assert_eq!(identity.boot_id, agent.hello.boot_id);
}

#[test]
fn identity_of_a_workload_that_has_ended_is_that_of_its_executable() {
    let mut agent = Agent::new();
    agent.start(&["true", "--argument"], Ready::Exit(0));
    agent.ready();
    agent.exited();
    let identity = identity(&mut agent);
    assert_eq!(identity.workload_digest, sha256("/bin/true"));
    assert_eq!(identity.argv, ["true", "--argument"]);
}

#[test]
fn identity_without_a_workload_leaves_it_out() {
    let identity = identity(&mut Agent::new());
    assert_eq!((identity.workload_digest, identity.argv.len()), (None, 0));
    assert!(identity.agent_digest.is_some());
}

#[test]
fn readings_sum_all_processes_below_the_agent_and_are_null_when_there_are_none() {
    let mut agent = Agent::new();
    assert_eq!(readings(&mut agent).workload_rss, None);
    // A shell that holds 64 MiB, below another one.
    let hog = "sh -c 'held=$(head -c 67108864 /dev/zero | tr \"\\0\" x); echo ready; sleep 1000; :' & wait";
    agent.start(&["sh", "-c", hog], Ready::Line("^ready$".into()));
    agent.ready();
    let rss = readings(&mut agent).workload_rss.unwrap();
    assert!((64 << 20..1 << 30).contains(&rss), "{rss}");
}

#[test]
fn readings_count_the_cpu_of_those_that_run_and_of_those_that_have_ended() {
    let mut agent = Agent::new();
    let before = readings(&mut agent).workload_cpu_ns.unwrap();
    // The loop's child process ends before the line comes; the shell itself runs on.
    let command = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo ready; exec sleep 1000";
    agent.start(&["sh", "-c", command], Ready::Line("ready".into()));
    agent.ready();
    let running = readings(&mut agent).workload_cpu_ns.unwrap();
    assert!(running > before, "{running} after {before}");
    let burnt = work(&mut agent, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done").cpu_ns;
    let ended = readings(&mut agent).workload_cpu_ns.unwrap();
    assert!(ended >= running + burnt, "{ended}, {running} and {burnt}");
}

#[test]
fn work_is_timed_from_exec_to_its_end_beside_a_workload_that_goes_on() {
    let mut agent = Agent::with("echo ready; exec sleep infinity", Ready::Line("ready".into()));
    let pid = agent.workload();
    agent.ready();
    let before = Instant::now();
    let done = work(&mut agent, "echo working; sleep 0.1; exit 5");
    let around = before.elapsed().as_nanos() as u64;
    assert!((100_000_000..=around).contains(&done.wall_ns), "{} of {around}", done.wall_ns);
    assert!(done.cpu_ns < done.wall_ns, "it slept");
    assert_eq!((done.exit.code, done.exit.output.as_str()), (Some(5), "working\n"));
    assert!(runs(pid));
}

#[test]
fn work_of_a_missing_program_fails_and_the_next_one_runs() {
    let mut agent = Agent::new();
    agent.send(&ToAgent::Work(Work { argv: vec!["no-such-benchmark".into()], env: vec![] }));
    assert!(agent.failed().contains("no-such-benchmark"));
    assert_eq!(work(&mut agent, "true").exit.code, Some(0));
}

#[test]
fn requests_are_answered_in_order() {
    let mut agent = Agent::new();
    for token in [1, u64::MAX, 0] {
        agent.send(&ToAgent::Ping { token });
    }
    for token in [1, u64::MAX, 0] {
        assert_eq!(agent.receive(), Some(FromAgent::Pong { token }));
    }
}

#[test]
fn a_bad_frame_is_answered_with_failed_and_ends_agent_and_workload() {
    let oversized = (MAX_FRAME as u32 + 1).to_le_bytes();
    let noise = [&b"\x04\0\0\0null"[..], b"\x03\0\0\0\xff\xfe\xfd", b"\0\0\0\0", &oversized];
    for bytes in noise {
        let mut agent = Agent::new();
        let file = agent.scratch.path("pid");
        let command = format!("echo $$ > {}; exec sleep infinity", file.display());
        agent.start(&["sh", "-c", &command], Ready::Line("x".into()));
        let pid = number_in(&file);
        agent.send_bytes(bytes);
        let error = agent.failed();
        assert!(error.contains("control stream"), "{error}");
        assert_eq!(agent.receive(), None);
        assert_eq!(agent.wait().code(), Some(1), "for {bytes:?}");
        assert!(!runs(pid));
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let mut agent = Agent::new();
    agent.send_bytes(b"\x10\0\0\0half");
    assert_eq!(agent.hang_up().code(), Some(1));
}

#[test]
fn the_inside_view_equals_proc_and_a_process_is_found_by_pid_and_start() {
    let mut agent = Agent::with("echo ready; exec sleep infinity", Ready::Line("ready".into()));
    let pid = agent.workload();
    agent.ready();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let mut look = |started_ticks| {
        agent.send(&ToAgent::Introspect(Introspect { pid: std::process::id(), started_ticks }));
        match agent.receive() {
            Some(FromAgent::Isolation(isolation)) => isolation,
            other => panic!("Isolation was expected, not {other:?}"),
        }
    };
    let seen = look(ticks);
    assert!(seen.sees_process && seen.process.is_workload);
    assert!(!look(ticks + 1).sees_process);
    let own = |kind: &str| {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
        let number = seen.namespaces.iter().find(|(name, _)| name == kind).unwrap().1;
        assert_eq!(link, format!("{kind}:[{number}]"));
    };
    ["pid", "net", "mnt"].into_iter().for_each(own);
    assert!(seen.processes.unwrap() > 2);
    assert!(seen.devices.names.len() <= NAMES && seen.devices.count.unwrap() > 3);
    assert_eq!(seen.process.uid, Some(own_uid()));
}

/// The effective user of this test.
fn own_uid() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_write_to_a_file_that_the_image_has_not_fails_and_makes_none() {
    let mut agent = Agent::new();
    agent.send(&ToAgent::Write { at: 0 });
    assert_eq!(agent.receive(), Some(FromAgent::WriteStarted));
    let error = agent.failed();
    assert!(error.contains(COW_PATH) && error.contains("No such file"), "{error}");
    assert!(!Path::new(COW_PATH).exists());
    agent.send(&ToAgent::IsCached);
    assert_eq!(agent.receive(), Some(FromAgent::Cached(None)));
}

#[test]
fn the_workloads_surroundings_are_its_own_and_not_the_agents() {
    let surroundings = |agent: &mut Agent| {
        agent.send(&ToAgent::Survey);
        match agent.receive() {
            Some(FromAgent::Surroundings(found)) => found,
            other => panic!("Surroundings were expected, not {other:?}"),
        }
    };
    let mut agent = Agent::new();
    assert!(!surroundings(&mut agent).contains_key("environment"), "nothing runs yet");
    let script = "cd /usr; umask 027; ulimit -n 99; trap '' HUP; exec <&-; echo ready; exec sleep infinity";
    agent.start(&["sh", "-c", script], Ready::Line("^ready$".into()));
    agent.ready();
    let found = surroundings(&mut agent);
    assert!(found["environment"].contains(" PATH"), "{found:#?}");
    for (name, value) in [
        ("directory", "/usr"),
        ("umask", "0027"),
        ("limit.open_files", "99"),
        ("signals", "blocked 0, ignored 1"),
        ("streams", "closed pipe pipe"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
}

#[test]
fn the_output_so_far_is_reported_also_a_line_without_an_end() {
    let mut agent = Agent::new();
    assert_eq!(account(&mut agent).output, None);
    agent
        .start(&["sh", "-c", "printf '10%%\\rready\\r'; exec sleep infinity"], Ready::Line("^ready$".into()));
    let output = until("its output", || account(&mut agent).output.filter(|output| !output.is_empty()));
    assert_eq!(output, "10%\rready\r");
    let argv = ["sh", "-c", "echo work; exec sleep infinity"].map(str::to_owned).to_vec();
    agent.send(&ToAgent::Work(Work { argv, env: Vec::new() }));
    assert_eq!(agent.receive(), Some(FromAgent::WorkStarted));
    until("the work command's output", || (account(&mut agent).output? == "work\n").then_some(()));
}

#[test]
fn this_kernels_kills_for_lack_of_memory_are_counted() {
    let mut agent = Agent::new();
    let counted = || {
        let text = fs::read_to_string("/proc/vmstat").unwrap();
        let line = text.lines().find(|line| line.starts_with("oom_kill ")).expect("this kernel counts them");
        line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    // Another program on this host may be killed meanwhile.
    let (before, reported, after) = (counted(), account(&mut agent).oom_kills, counted());
    assert!((before..=after).contains(&reported), "{reported} is not in {before}..={after}");
}
