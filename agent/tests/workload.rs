//! The workload: the agent starts it, watches for readiness, reports its end and ends its processes.

mod common;

use std::{fs, net::TcpListener, process::Command};

use bootrace_agent::protocol::{MAX_FRAME, OUTPUT_TAIL, Ready, ToAgent};
use common::{Agent, number_in, runs, until};

fn line(pattern: &str) -> Ready {
    Ready::Line(pattern.into())
}

/// A port that is free, at least until somebody else takes it.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn a_line_on_standard_output_makes_ready_and_the_workload_goes_on() {
    let mut agent = Agent::with("echo not yet; echo ready; exec sleep infinity", line("^ready$"));
    let pid = agent.workload();
    assert!(agent.ready() > 0);
    assert!(runs(pid));
    assert!(agent.is_silent());
}

#[test]
fn a_line_on_standard_error_makes_ready_once() {
    let mut agent = Agent::with("echo ready >&2; echo ready; echo ready", line("ready"));
    agent.ready();
    assert_eq!(agent.exited().code, Some(0));
    assert!(agent.is_silent());
}

#[test]
fn exit_with_the_expected_code_is_ready_and_then_exited() {
    let mut agent = Agent::with("echo bye; exit 7", Ready::Exit(7));
    agent.ready();
    let exit = agent.exited();
    assert_eq!((exit.code, exit.signal, exit.output.as_str()), (Some(7), None, "bye\n"));
}

#[test]
fn exit_with_another_code_is_never_ready() {
    let mut agent = Agent::with("exit 3", Ready::Exit(0));
    assert_eq!(agent.exited().code, Some(3));
    assert!(agent.is_silent());
}

#[test]
fn a_workload_that_is_killed_tells_the_signal() {
    let mut agent = Agent::with("kill -9 $$", line("never"));
    let exit = agent.exited();
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
}

#[test]
fn a_workload_that_dies_before_it_is_ready_says_why() {
    let mut agent = Agent::with("echo 'no config' >&2; exit 1", line("^ready$"));
    let exit = agent.exited();
    assert_eq!((exit.code, exit.output.as_str()), (Some(1), "no config\n"));
    assert!(agent.is_silent());
}

#[test]
fn a_port_that_accepts_makes_ready() {
    let port = free_port();
    let mut agent = Agent::new();
    agent.start(&["sleep", "infinity"], Ready::Tcp(port));
    let pid = agent.workload();
    assert!(agent.is_silent(), "nobody listens yet");
    let _server = TcpListener::bind(("127.0.0.1", port)).unwrap();
    agent.ready();
    assert!(runs(pid));
}

#[test]
fn a_port_that_is_taken_already_is_a_failure_and_nothing_is_started() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut agent = Agent::with("sleep infinity", Ready::Tcp(port));
    let error = agent.failed();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("before the workload"), "{error}");
    assert!(agent.is_silent());
}

#[test]
fn a_file_makes_ready_wherever_on_its_way_the_directories_come_from() {
    let mut agent = Agent::new();
    let dir = agent.scratch.path("a");
    let path = dir.join("b/c/ready");
    let dir = dir.display();
    // The first directory is made, removed and made again; one comes by renaming.
    let command = format!(
        "sleep 0.05; mkdir -p {dir}/b; sleep 0.05; rm -r {dir}; mkdir -p {dir}/x/c; mv {dir}/x {dir}/b; \
         sleep 0.05; echo almost > {dir}/b/c/other; mv {dir}/b/c/other {dir}/b/c/ready; exec sleep infinity"
    );
    agent.start(&["sh", "-c", &command], Ready::File(path.display().to_string()));
    assert!(agent.ready() >= 150_000_000, "it can't be ready before it has slept");
    assert!(path.exists());
}

#[test]
fn a_file_that_is_there_already_is_a_failure() {
    let error = Agent::with("sleep infinity", Ready::File("/proc/version".into())).failed();
    assert!(error.contains("/proc/version") && error.contains("before the workload"), "{error}");
}

#[test]
fn a_regular_expression_that_is_none_is_a_failure_before_anything_starts() {
    let mut agent = Agent::with("sleep infinity", line("(unclosed"));
    let error = agent.failed();
    assert!(error.contains("(unclosed"), "{error}");
    assert!(agent.is_silent());
}

#[test]
fn a_missing_program_is_named_with_where_it_was_sought() {
    let mut agent = Agent::new();
    agent.start(&["no-such-server", "--fast"], line("x"));
    let error = agent.failed();
    assert!(error.contains("no-such-server") && error.contains("/usr/local/sbin:"), "{error}");
    assert!(agent.is_silent());
}

#[test]
fn a_program_that_cannot_be_executed_is_named_with_the_reason() {
    for (path, reason) in [("/no/such/program", "No such file"), ("/etc/passwd", "Permission denied")] {
        let mut agent = Agent::new();
        agent.start(&[path], line("x"));
        let error = agent.failed();
        assert!(error.contains(path) && error.contains(reason), "{error}");
    }
}

#[test]
fn an_error_about_a_huge_argument_still_fits_a_frame() {
    let mut agent = Agent::new();
    agent.start(&["x".repeat(MAX_FRAME - 1000).as_str()], line("x"));
    assert!(agent.failed().len() < 8192);
}

#[test]
fn the_environment_is_path_and_the_scenarios_variables_only() {
    let mut agent = Agent::new();
    agent.start(&["env"], Ready::Exit(0));
    agent.ready();
    let output = agent.exited().output;
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["GREETING=hi", format!("PATH={}", bootrace_agent::protocol::PATH).as_str()]);
}

#[test]
fn a_workload_inherits_no_descriptor_no_blocked_signal_and_no_process_group() {
    let mut agent = Agent::new();
    let status = "ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5 /proc/$$/stat; echo $$";
    agent.start(&["sh", "-c", status], Ready::Exit(0));
    agent.ready();
    let output = agent.exited().output;
    let words: Vec<_> = output.split_whitespace().collect();
    // ls has its three streams and the directory that it reads.
    assert_eq!((words[0], words[5]), ("4", words[6]), "{output}");
    assert_eq!((words[1], words[3]), ("SigBlk:", "SigIgn:"), "{output}");
    // Real-time signals (32 and up) are left as they are: the C library keeps two for itself.
    let classic = |mask| u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff;
    assert_eq!((classic(words[2]), classic(words[4])), (0, 0), "{output}");
}

#[test]
fn a_flood_of_output_never_blocks_the_workload_and_its_end_is_kept() {
    let mut agent = Agent::with("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end", line("^end$"));
    agent.ready();
    let exit = agent.exited();
    assert_eq!(exit.code, Some(0));
    assert_eq!(exit.output.len(), OUTPUT_TAIL);
    assert!(exit.output.ends_with("x\nend\n"));
}

#[test]
fn a_second_workload_is_refused() {
    let mut agent = Agent::with("sleep infinity", line("x"));
    agent.start(&["true"], line("x"));
    assert!(agent.failed().contains("only one"));
}

#[test]
fn orphans_are_adopted_and_reaped() {
    let mut agent = Agent::new();
    let file = agent.scratch.path("pid");
    // The inner shell ends at once, and its child becomes an orphan that soon ends, too.
    let command =
        format!("(sh -c 'echo $$ > {}; sleep 0.2' &) ; echo ready; exec sleep infinity", file.display());
    agent.start(&["sh", "-c", &command], line("ready"));
    agent.ready();
    let orphan = number_in(&file);
    until("the orphan's zombie is gone", || (!fs::exists(format!("/proc/{orphan}")).unwrap()).then_some(()));
    assert!(agent.is_silent());
}

#[test]
fn end_of_stream_kills_the_workload_its_children_and_those_that_left_its_session() {
    for stop in [false, true] {
        let mut agent = Agent::new();
        let file = agent.scratch.path("pid");
        let daemon =
            format!("setsid sh -c 'trap \"\" TERM HUP; echo $$ > {}; sleep 100; true' &", file.display());
        let command = format!("({daemon}) ; echo ready; sleep 100; true");
        agent.start(&["sh", "-c", &command], line("ready"));
        let pid = agent.workload();
        agent.ready();
        let daemon = number_in(&file);
        assert!(runs(pid) && runs(daemon));
        let status = if stop {
            agent.send(&ToAgent::Stop);
            assert_eq!(agent.receive(), None);
            agent.wait()
        } else {
            agent.hang_up()
        };
        assert!(status.success());
        assert!(!runs(pid) && !runs(daemon), "nothing may be left when the agent has ended");
    }
}

#[test]
fn a_program_that_goes_to_the_background_is_ready_when_its_first_process_exits() {
    let mut agent = Agent::new();
    let file = agent.scratch.path("up");
    let command = format!("touch {}; sleep 100 & exit 0", file.display());
    agent.start(&["sh", "-c", &command], Ready::File(file.display().to_string()));
    agent.ready();
    assert_eq!(agent.exited().code, Some(0));
}

#[test]
fn an_agent_without_a_harness_reports_its_attempts() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bootrace-agent")).arg("/no/such/control.sock").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("/no/such/control.sock"), "{error}");
}
