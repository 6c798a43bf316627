//! A part of an instance is killed: QEMU, the container, its shim, the agent, the workload. The run goes on.

use std::{fs, io::Write, os::unix::net::UnixStream, process::Command, thread, time::Duration};

use bootrace_agent::protocol::AGENT_PATH;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};

use crate::{
    case::{HELLO, PATIENCE, Row, Running, SETTLING, Then, WORKING, all_hold},
    killed::each_step_lasts,
};

/// What the host's process `pid` is: its parent and its command line.
fn process(pid: u32) -> Option<(u32, String)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some((parent, String::from_utf8_lossy(&line).replace('\0', " ")))
}

/// The first process that is wanted, as soon as there is one: other programs start it.
fn find(wanted: impl Fn(u32, &str) -> bool) -> (u32, u32) {
    for _ in 0..PATIENCE.as_millis() {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some((parent, line)) = process(pid)
                && wanted(parent, &line)
            {
                return (pid, parent);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("there is no such process");
}

/// Kills exactly this process.
pub fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// The pid of the only agent that runs on the host, and its parent's.
fn agent() -> (u32, u32) {
    find(|_, line| line.starts_with(AGENT_PATH))
}

fn kill_agent(_: &mut Running) {
    kill(agent().0);
}

fn kill_shim(_: &mut Running) {
    kill(agent().1);
}

/// The workload, or the command of its work, which only one of the two has in its command line.
fn kill_workload(_: &mut Running) {
    let agent = agent().0;
    kill(find(|parent, line| parent == agent && (line.contains("infinity"))).0);
}

fn kill_work(_: &mut Running) {
    let agent = agent().0;
    kill(find(|parent, line| parent == agent && line.starts_with("sleep 0.3")).0);
}

fn kill_container(running: &mut Running) {
    assert!(Command::new("docker").args(["kill", &running.instance]).output().unwrap().status.success());
}

/// Writes into the agent's end of the control channel, as an agent would that somebody took over.
fn speak_nonsense(_: &mut Running) {
    let agent = pidfd_open(Pid::from_raw(agent().0 as i32).unwrap(), PidfdFlags::empty()).unwrap();
    let ends = (0..64).filter_map(|number| pidfd_getfd(&agent, number, PidfdGetfdFlags::empty()).ok());
    let mut ends =
        ends.map(UnixStream::from).filter(|end| end.peer_addr().is_ok_and(|peer| !peer.is_unnamed()));
    ends.next().expect("the agent has connected to a socket with a name").write_all(&[0xff; 64]).unwrap();
}

/// The pid of the domain's QEMU.
pub fn qemu(running: &Running) -> u32 {
    fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", running.instance)).unwrap().trim().parse().unwrap()
}

fn kill_qemu(running: &mut Running) {
    kill(qemu(running));
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_part_that_is_killed_costs_one_sample_and_the_run_goes_on() {
    type Inject = fn(&mut Running);
    const BEFORE: &str = "the workload ended before it was ready: killed by signal 9";
    const WHILE: &str = "the workload ended while it was measured: killed by signal 9";
    const NONSENSE: &[&str] = &["control stream: a frame of 4294967295 bytes is over the limit"];
    const CLOSED: &str = "the instance ended: its control channel closed";
    let rows: [(_, _, _, Inject, &'static [&'static str]); 12] = [
        ("the workload killed", "native", HELLO, kill_workload, &[BEFORE]),
        ("the workload killed", "native", SETTLING, kill_workload, &[WHILE]),
        ("the workload killed", "native", WORKING, kill_workload, &[WHILE]),
        (
            "the work command killed",
            "native",
            WORKING,
            kill_work,
            &["the work command failed: killed by signal 9"],
        ),
        ("the agent killed", "native", SETTLING, kill_agent, &[CLOSED]),
        ("the workload killed", "docker", HELLO, kill_workload, &[BEFORE]),
        ("the workload killed", "docker", SETTLING, kill_workload, &[WHILE]),
        (
            "the work command killed",
            "docker",
            WORKING,
            kill_work,
            &["the work command failed: killed by signal 9"],
        ),
        ("the agent killed", "docker", SETTLING, kill_agent, &[CLOSED]),
        ("docker kill", "docker", WORKING, kill_container, &[CLOSED]),
        ("the shim killed", "docker", SETTLING, kill_shim, &[CLOSED]),
        ("the agent says nonsense", "native", SETTLING, speak_nonsense, NONSENSE),
    ];
    let row = |fault, target, at, inject: Inject, says| {
        Row::new(fault, target, each_step_lasts(target), at, inject).ends(Some(1), says, 2, Then::Clean)
    };
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(fault, target, at, inject, says)| row(fault, target, (1, at), inject, says))
        .collect();
    // How the agent ended, or that Docker removes the container, is known or not yet.
    rows.iter_mut().for_each(|row| row.varies = row.says == [CLOSED]);
    // Of three VMs, two say the same as the first and the second of two.
    let died: &[_] = &["libvirt reports: the domain stopped: QEMU died"];
    for at in [HELLO, WORKING] {
        let mut row = row("QEMU killed", "libvirt", (0, at), kill_qemu, died);
        row.scenario = row.scenario.replace("samples = 3", "samples = 2");
        rows.push(Row { kept: 1, ..row });
    }
    all_hold("Parts of an instance killed", &rows);
}
