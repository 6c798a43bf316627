//! What a workload may do: the agent limits its privileges, and it can't speak for the agent.

mod common;

use std::fs;

use bootrace_agent::protocol::{FromAgent, Ready, ToAgent, Work, Workload};
use common::{Agent, GRANTED, NONCE};

/// Prints a line of the process's status.
fn printing(key: &str) -> String {
    format!("grep '^{key}:' /proc/self/status | cut -f 2")
}

fn printed(command: &str) -> String {
    let mut agent = Agent::with(command, Ready::Line("never".into()));
    agent.exited().output.trim().to_owned()
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t0\t0\n")
}

fn work(agent: &mut Agent, command: &str) -> String {
    let argv = ["sh", "-c", command].map(String::from).into();
    agent.send(&ToAgent::Work(Work { argv, env: vec![] }));
    assert_eq!(agent.receive(), Some(FromAgent::WorkStarted));
    match agent.receive() {
        Some(FromAgent::WorkDone(done)) => done.exit.output.trim().to_owned(),
        other => panic!("WorkDone was expected, not {other:?}"),
    }
}

#[test]
fn a_workload_gains_no_privileges_and_has_the_granted_capabilities_alone() {
    assert_eq!(printed(&printing("NoNewPrivs")), "1");
    let granted = format!("{GRANTED:016x}");
    if is_root() {
        for set in ["CapBnd", "CapEff", "CapPrm"] {
            assert_eq!(printed(&printing(set)), granted, "{set}");
        }
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(printed(&printing(set)), "0".repeat(16), "{set}");
    }
}

#[test]
fn the_first_frame_has_the_nonce_and_nothing_that_the_workload_can_read() {
    let mut agent = Agent::with("env; exec sleep infinity", Ready::Line("PATH".into()));
    assert_eq!(agent.hello.nonce, NONCE);
    agent.ready();
    let (pid, workload) = (agent.pid(), agent.workload());
    for file in
        [format!("/proc/{pid}/environ"), format!("/proc/{pid}/cmdline"), format!("/proc/{workload}/environ")]
    {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(NONCE), "{file}: {text}");
    }
    let mut open: Vec<_> =
        fs::read_dir(format!("/proc/{workload}/fd")).unwrap().map(|fd| fd.unwrap().file_name()).collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    if is_root() {
        // The agent has capabilities that its workload lacks, which keeps all of its memory and files closed.
        let seen = work(&mut agent, &format!("cd /proc/{pid}; cat environ mem; readlink -v fd/0 exe"));
        assert_eq!(seen.matches("Permission denied").count(), 4, "{seen}");
    }
}

#[test]
fn the_first_message_after_a_restore_has_the_nonce_too() {
    let mut agent = Agent::with("echo ready; exec sleep infinity", Ready::Line("ready".into()));
    agent.ready();
    agent.send(&ToAgent::Check);
    assert_eq!(agent.receive(), Some(FromAgent::Awake { nonce: NONCE.into() }));
}

fn as_user(user: &str, command: &str) -> Agent {
    let mut agent = Agent::new();
    let argv = ["sh", "-c", command].map(String::from).into();
    let ready = Ready::Line("never".into());
    agent.send(&ToAgent::Start(Workload {
        argv,
        env: vec![],
        user: Some(user.into()),
        capabilities: GRANTED,
        ready,
    }));
    agent
}

#[test]
#[ignore = "needs root (another user): scripts/test runs it"]
fn a_workload_and_its_work_run_as_their_user_without_capabilities_and_write_to_their_streams() {
    let command =
        format!("id -u; id -g; id -G; echo $HOME $USER; {}; echo out > /dev/stdout", printing("CapEff"));
    let mut agent = as_user("nobody", &command);
    assert_eq!(agent.exited().output, "65534\n65534\n65534\n/nonexistent nobody\n0000000000000000\nout\n");
    assert_eq!(work(&mut agent, "id -u"), "65534");
    let mut agent = as_user("4242:4711", &command);
    assert_eq!(agent.exited().output, "4242\n4711\n4711\n/\n0000000000000000\nout\n");
}

#[test]
fn an_unknown_user_fails_with_its_name() {
    let error = as_user("no-such-user", "true").failed();
    assert!(error.contains("\"no-such-user\" (workload.user)") && error.contains("/etc/passwd"), "{error}");
}
