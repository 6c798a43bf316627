//! Runs programs that end when this process ends, together with all processes that they have started.
//!
//! A supervisor stands between this process and the program: a fork of this process that only waits. It is the
//! subreaper of all processes that the program starts, so it finds each of them even in another session and after the
//! death of its parent. It has one end of a pipe and this process the other, which the kernel closes when this process
//! dies. Then, or when the program has ended, the supervisor ends all remaining processes.
#![expect(unsafe_code, reason = "fork, and what a forked process may do before it executes a program")]

use std::{
    ffi::c_int,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::Duration,
};

/// The time between SIGTERM and SIGKILL, in which a program cleans up.
pub const GRACE: Duration = Duration::from_secs(20);
/// How long the supervisor waits for killed processes: one that hangs in the kernel may never end.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Keeps the program running. When it is dropped, the supervisor sends SIGTERM to the program, and SIGKILL after
/// [`GRACE`].
#[derive(Debug)]
pub struct Lifeline {
    _end: OwnedFd,
}

/// Makes `command` run under a supervisor in a process group of their own. The supervisor's exit status is the
/// program's. `held` stays open in the supervisor too: it keeps a lock on an open file until all processes of the
/// program have ended.
///
/// # Errors
/// When no pipe can be created.
pub fn supervise(command: &mut Command, held: Option<OwnedFd>) -> io::Result<Lifeline> {
    let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let held = held.map(|fd| (fd.as_raw_fd(), fd));
    command.process_group(0);
    // SAFETY: the closure, and the supervisor that never returns from it, make system calls only, on memory of their
    // own stack: they allocate nothing and take no lock that another thread may have held at the fork.
    unsafe {
        command.pre_exec(move || become_program(theirs.as_raw_fd(), held.as_ref().map(|(fd, _)| *fd)));
    }
    Ok(Lifeline { _end: ours })
}

/// Forks: the child returns and becomes the program, the parent is the supervisor and exits.
fn become_program(pipe: RawFd, held: Option<RawFd>) -> io::Result<()> {
    // SAFETY: plain system calls on valid arguments; in the child of a fork, where no other thread is.
    unsafe {
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1))?;
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &all, &mut before))?;
        let program = check(libc::fork())?;
        if program != 0 {
            supervisor(pipe, held, program);
        }
        // In case somebody kills the supervisor.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()))?;
    }
    Ok(())
}

/// # Safety
/// Only in a process of one thread, which ends here.
unsafe fn supervisor(pipe: RawFd, held: Option<RawFd>, program: libc::pid_t) -> ! {
    // SAFETY: as in `become_program`; what is closed is used by nobody else in this process.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"bootrace-super".as_ptr());
        libc::chdir(c"/".as_ptr());
        // Closes the program's ends of pipes, its input, and this process's locks.
        close_all_but(pipe, held);
        let mut child_ended = std::mem::zeroed();
        libc::sigemptyset(&mut child_ended);
        libc::sigaddset(&mut child_ended, libc::SIGCHLD);
        let signals = libc::signalfd(-1, &child_ended, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        let mut family = Family { program, status: None, signals };
        if !family.wait(Some(pipe), None) {
            libc::kill(0, libc::SIGTERM);
            family.wait(None, Some(GRACE));
        }
        family.kill();
        let status = family.status.unwrap_or(libc::SIGKILL);
        if libc::WIFSIGNALED(status) {
            die_of(libc::WTERMSIG(status));
        }
        libc::_exit(libc::WEXITSTATUS(status));
    }
}

/// The program and the orphans that the supervisor has adopted.
struct Family {
    program: libc::pid_t,
    /// The program's status from `waitpid`; `None` until it has ended.
    status: Option<c_int>,
    /// Becomes readable when a child ends.
    signals: RawFd,
}

impl Family {
    /// Waits until the program ends (true), or until `pipe` is closed or `patience` has passed (false).
    unsafe fn wait(&mut self, pipe: Option<RawFd>, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| now() + patience);
        loop {
            // SAFETY: as in `supervisor`.
            unsafe { self.reap() };
            if self.status.is_some() {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            // SAFETY: as in `supervisor`.
            let closed = unsafe { self.pause(pipe, left) };
            if closed {
                return false;
            }
        }
    }

    /// Kills all remaining processes, generation by generation: orphans become the supervisor's own children.
    unsafe fn kill(&mut self) {
        let deadline = now() + AFTER_KILL;
        // SAFETY: as in `supervisor`.
        while unsafe { self.reap() } && now() < deadline {
            // SAFETY: as in `supervisor`.
            unsafe {
                kill_children();
                self.pause(None, Some(Duration::from_millis(100)));
            }
        }
    }

    /// Reaps children that have ended. Returns whether any are left.
    unsafe fn reap(&mut self) -> bool {
        loop {
            let mut status = 0;
            // SAFETY: `status` is valid for the call.
            match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
                0 => return true,
                ended if ended > 0 => {
                    if ended == self.program {
                        self.status = Some(status);
                    }
                }
                _ => return false,
            }
        }
    }

    /// Waits until a child ends or `most` has passed. Returns true when the other end of `pipe` is closed.
    unsafe fn pause(&self, pipe: Option<RawFd>, most: Option<Duration>) -> bool {
        let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // `poll` ignores a negative descriptor.
        let mut polled = [entry(self.signals), entry(pipe.unwrap_or(-1))];
        let most = most.map_or(-1, |most| most.as_millis().max(1) as c_int);
        // SAFETY: the array and the buffer are valid for the calls.
        unsafe {
            libc::poll(polled.as_mut_ptr(), 2, most);
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            libc::read(self.signals, (&raw mut info).cast(), size_of::<libc::signalfd_siginfo>());
        }
        polled[1].revents != 0
    }
}

/// Kills the children that the kernel lists, as many as fit. Without such a list it kills the whole group, this process
/// included.
unsafe fn kill_children() {
    let mut list = [0_u8; 4096];
    // SAFETY: the buffer is valid for the call, the path is a C string.
    let read = unsafe {
        let file = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let read = libc::read(file, list.as_mut_ptr().cast(), list.len());
        libc::close(file);
        read
    };
    if read < 0 {
        // SAFETY: a system call without memory.
        unsafe { libc::kill(0, libc::SIGKILL) };
    }
    let mut pid: libc::pid_t = 0;
    // A number that is cut off at the end has no space after it, and is skipped.
    for byte in &list[..usize::try_from(read).unwrap_or(0)] {
        match byte {
            b'0'..=b'9' => pid = pid.saturating_mul(10).saturating_add((byte - b'0').into()),
            _ => {
                if pid > 1 {
                    // SAFETY: a child that is not waited for keeps its number.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                pid = 0;
            }
        }
    }
}

unsafe fn close_all_but(pipe: RawFd, held: Option<RawFd>) {
    let held = held.unwrap_or(pipe);
    let mut from = 0;
    for kept in [pipe.min(held), pipe.max(held)] {
        if kept > from {
            // SAFETY: nobody uses what is closed.
            unsafe { libc::syscall(libc::SYS_close_range, from, kept - 1, 0) };
        }
        from = kept + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, from, c_int::MAX, 0) };
}

/// Ends this process with the signal that ended the program, without a core dump.
unsafe fn die_of(signal: c_int) -> ! {
    // SAFETY: plain system calls on valid arguments.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::signal(signal, libc::SIG_DFL);
        let mut it = std::mem::zeroed();
        libc::sigemptyset(&mut it);
        libc::sigaddset(&mut it, signal);
        libc::kill(libc::getpid(), signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &it, std::ptr::null_mut());
        libc::_exit(128 + signal)
    }
}

/// The monotonic clock.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::unix::process::ExitStatusExt, process::Stdio};

    use super::*;

    /// A shell with its standard output in a pipe to this process.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Reads until all processes that have the writing end have ended.
    fn until_all_are_gone(mut file: impl Read) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_programs_end_is_the_supervisors_and_a_failed_start_is_an_error() {
        let end = |script: &str| {
            let mut command = shell(script);
            let _lifeline = supervise(&mut command, None).unwrap();
            command.status().unwrap()
        };
        assert!(end("exit 0").success());
        assert_eq!(end("exit 37").code(), Some(37));
        assert_eq!(end("kill -KILL $$").signal(), Some(libc::SIGKILL));
        assert_eq!(end("kill -PIPE $$").signal(), Some(libc::SIGPIPE));
        let mut missing = Command::new("/no/such/program");
        let _lifeline = supervise(&mut missing, None).unwrap();
        assert_eq!(missing.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_program_that_ends_takes_its_running_children_with_it() {
        // An orphan in its own session, with the shell's standard output.
        let mut command = shell("exec 9>&1; said=$(setsid sh -c 'sleep 1000 >&9 & echo begun'); echo $said");
        let _lifeline = supervise(&mut command, None).unwrap();
        let mut child = command.spawn().unwrap();
        // Blocks for good if a process still has this pipe open.
        let said = until_all_are_gone(child.stdout.take().unwrap());
        assert!(child.wait().unwrap().success());
        assert_eq!(said, "begun\n");
    }

    #[test]
    fn without_its_lifeline_a_program_cleans_up_and_then_nothing_is_left_of_it() {
        let script = "setsid sleep 1000 & trap 'echo cleaned up; exit 3' TERM; echo begun; sleep 1000 & wait";
        let mut command = shell(script);
        let lifeline = supervise(&mut command, None).unwrap();
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut begun = [0; 6];
        stdout.read_exact(&mut begun).unwrap();
        drop(lifeline);
        assert_eq!(until_all_are_gone(stdout), "cleaned up\n");
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_held_descriptor_stays_open_until_all_of_the_programs_processes_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = shell("setsid sleep 1000 & exec cat");
        command.stdin(Stdio::piped());
        let _lifeline = supervise(&mut command, Some(writer.into())).unwrap();
        let mut child = command.spawn().unwrap();
        drop(command);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        rustix::io::ioctl_fionbio(&reader, false).unwrap();
        drop(child.stdin.take());
        assert_eq!(until_all_are_gone(reader), "");
        child.wait().unwrap();
    }

    #[test]
    fn the_supervisor_has_nothing_open_but_its_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let _ours = File::create(dir.path().join("ours")).unwrap();
        let mut command = shell("echo; exec sleep 1000");
        let lifeline = supervise(&mut command, None).unwrap();
        let mut child = command.spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let open = || -> Vec<String> {
            let entries = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().flatten();
            entries
                .filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string()))
                .collect()
        };
        // The program may speak before its supervisor has come to watch it, which is the last that it opens.
        let deadline = now() + Duration::from_secs(60);
        while !open().iter().any(|name| name.contains("signalfd")) && now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let open = open();
        drop(lifeline);
        child.wait().unwrap();
        assert_eq!(open.len(), 2, "{open:?}");
        assert!(open.iter().any(|name| name.starts_with("pipe:")), "{open:?}");
        assert!(open.iter().any(|name| name.contains("signalfd")), "{open:?}");
    }
}
