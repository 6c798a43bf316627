//! A child process for a job that may hang, crash or loop: it can't harm its parent.
//!
//! Why a process and no thread: only a signal gets a thread out of `KVM_RUN`, and its handler would be the whole
//! process's; a thread that hangs in the kernel keeps its process from ending; and a kernel that trips over a guest
//! kills the process that ran it. A process takes SIGKILL and nothing else.
//!
//! The parent gives the child no input, a file in memory as its output, and a process group of its own, so that a
//! terminal's signals don't reach it. The child then [confines](confine) itself. The parent limits its CPU time and
//! wall time, and reaps it. A file in memory keeps the child's output however the child ends, and needs no reader
//! meanwhile.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::FileExt,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, memfd_create},
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, getppid, getrlimit, pidfd_open,
        set_parent_process_death_signal, setrlimit,
    },
};

use crate::probe::process::CpuTime;

/// How long a killed child may take to end. After that a thread waits for it.
const GRACE: Duration = Duration::from_millis(500);
/// The shortest time between two readings of a child's CPU time.
const PAUSE: Duration = Duration::from_millis(1);
/// The most bytes that a child may write, and that its parent reads.
const MAX_OUTPUT: usize = 64 << 10;

/// A child's limits. The verdict depends on the CPU time: it is what the job needs, and no other process lengthens
/// it. The wall time bounds the parent's wait on a busy host, or with a kernel that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the child's first output on: the job's, without what starting a program takes.
    pub cpu: Duration,
    pub wall: Duration,
}

/// How a sandboxed child ended.
#[derive(Debug)]
pub enum End {
    /// With exit code 0.
    Done,
    /// The child used up its CPU time, and its parent killed it.
    Spent { cpu: Duration },
    /// The wall time passed first, and the parent killed the child: it waited for the processor, or for something in
    /// the kernel.
    Starved { wall: Duration, cpu: Duration },
    /// Another process or the kernel sent SIGKILL: a host does that when it has no memory left.
    Killed,
    /// In another way, such as by another signal.
    Died(String),
    /// The parent could not start a child.
    NotStarted(io::Error),
}

/// Runs `command` as a sandboxed child within `patience`. Returns what it wrote to standard output and standard error,
/// at most [`MAX_OUTPUT`] bytes, and how it ended. Returns half a second after `patience` at the latest.
pub fn run(command: Command, patience: Patience) -> (String, End) {
    let ran =
        memfd_create("bootrace-sandbox", MemfdFlags::CLOEXEC).map_err(io::Error::from).and_then(|output| {
            let output = File::from(output);
            let end = Child::start(command, &output)?.wait(patience, &output);
            Ok((read(&output), end))
        });
    ran.unwrap_or_else(|error| (String::new(), End::NotStarted(error)))
}

fn read(output: &File) -> String {
    let mut bytes = vec![0; MAX_OUTPUT];
    // A file in memory is read whole. If that fails, the child said nothing.
    let length = output.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Confines this process, which `parent` started as a sandboxed child. It dies with the parent's thread that started
/// it, leaves no core dump, writes no more than its parent reads, and holds no file that its parent inherited: if it
/// never ended, the reader of such a pipe would wait for it.
///
/// # Errors
/// When `parent` has ended.
pub fn confine(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before the call above.
    if getppid() != Some(parent) {
        return Err(io::Error::other(format!("process {} is not its parent", parent.as_raw_pid())));
    }
    lower(Resource::Core, 0)?;
    lower(Resource::Fsize, MAX_OUTPUT as u64)?;
    let first: libc::c_uint = 3;
    #[expect(unsafe_code, reason = "it closes descriptors that no value owns")]
    // SAFETY: nothing in this process uses a descriptor but the standard ones yet. A kernel before 5.9 can't do this:
    // files that the parent inherited stay open then.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0);
    }
    Ok(())
}

fn lower(resource: Resource, to: u64) -> io::Result<()> {
    let limit = getrlimit(resource);
    let current = limit.maximum.map_or(to, |maximum| maximum.min(to));
    Ok(setrlimit(resource, Rlimit { current: Some(current), ..limit })?)
}

struct Child {
    process: std::process::Child,
    /// Becomes readable when the process ends.
    handle: OwnedFd,
    /// `None` where it can't be read.
    cpu: Option<CpuTime>,
}

impl Child {
    fn start(mut command: Command, output: &File) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        let mut process = command.process_group(0).spawn()?;
        match pidfd_open(Pid::from_child(&process), PidfdFlags::empty()) {
            Ok(handle) => Ok(Child { handle, cpu: CpuTime::open(process.id()).ok(), process }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error.into())
            }
        }
    }

    fn wait(self, patience: Patience, output: &File) -> End {
        let begun = Instant::now();
        let mut cpu = Duration::ZERO;
        // The child's CPU time when its output began.
        let mut before = None;
        loop {
            // The job has one thread: it can't use up what is left any sooner.
            let soonest = before.map_or(PAUSE, |_| patience.cpu.saturating_sub(cpu).max(PAUSE));
            if self.ended_within(soonest.min(patience.wall.saturating_sub(begun.elapsed()))) {
                return self.reap();
            }
            if let Some(used) = self.cpu_time() {
                if before.is_none() && output.metadata().is_ok_and(|output| output.len() > 0) {
                    before = Some(used);
                }
                cpu = used.saturating_sub(before.unwrap_or_default());
            }
            if before.is_some() && cpu >= patience.cpu {
                self.kill();
                return End::Spent { cpu };
            }
            if begun.elapsed() >= patience.wall {
                self.kill();
                return End::Starved { wall: patience.wall, cpu };
            }
        }
    }

    fn reap(mut self) -> End {
        match self.process.wait() {
            Ok(status) if status.success() => End::Done,
            Ok(status) if status.signal() == Some(libc::SIGKILL) => End::Killed,
            Ok(status) => End::Died(match (status.signal(), status.code()) {
                (Some(signal), _) => format!("signal {signal} ended it"),
                (_, code) => format!("it ended with exit code {}", code.unwrap_or_default()),
            }),
            Err(error) => End::Died(format!("how it ended is unknown: {error}")),
        }
    }

    fn kill(mut self) {
        let _ = self.process.kill();
        if self.ended_within(GRACE) {
            let _ = self.process.wait();
            return;
        }
        // The kernel does not end it yet. A thread that sleeps until then costs nothing; without one the child stays a
        // zombie until this process ends.
        let _ = thread::Builder::new().name("reaper".into()).spawn(move || self.process.wait());
    }

    /// The CPU time that the process has used until now.
    fn cpu_time(&self) -> Option<Duration> {
        self.cpu.as_ref()?.read_ns().ok().map(Duration::from_nanos)
    }

    fn ended_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::from_borrowed_fd(self.handle.as_fd(), PollFlags::IN)], Some(&left)) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
