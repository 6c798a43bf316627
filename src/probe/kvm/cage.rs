//! A process of its own for what may hang, crash or never come back.
//!
//! Why a process and no thread: a thread in `KVM_RUN` can only be got out of it by a signal, whose handler is
//! the whole process's; one that hangs in the kernel keeps its process from ending; and a kernel that trips
//! over a guest kills who ran it. A process takes SIGKILL and nothing else, and what is left of it is no part
//! of us.
//!
//! The process is a bare `clone` of the caller, without an `exec` (a library has no program of its own to
//! run). In a caller with threads only system calls are safe in it: so its job allocates nothing, takes no
//! lock, and leaves what it found in memory that both share. It is invisible to the caller otherwise: it
//! sends no SIGCHLD, no `wait` of the caller's sees it (its exit signal is none), it holds no file of the
//! caller's, blocks all signals, and ends with the thread that made it.

use std::{
    io,
    mem::MaybeUninit,
    ops::Deref,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    ptr, thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

/// How long a killed process gets to be gone before it is left to a thread that waits for it.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// How a caged job ended.
#[derive(Debug)]
pub enum End {
    Done,
    /// It was not done in time, and was killed; `cpu`: what it used, unknown if it did not die.
    Late {
        patience: Duration,
        cpu: Option<Duration>,
    },
    /// It ended in another way, such as by a signal.
    Died(String),
    /// There was no process to be had.
    NotStarted(io::Error),
}

/// What a caged job may write to and its maker reads.
///
/// # Safety
/// All zeros is a valid value, it can be written to while others read it (it is made of atomics), and it needs
/// no drop.
pub unsafe trait Slate: Sync {}

/// A [`Slate`] that a caged process shares with its maker.
pub struct Shared<T: Slate>(ptr::NonNull<T>);

impl<T: Slate> Shared<T> {
    fn new() -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, anywhere.
        let at = unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared(ptr::NonNull::new(at.cast()).expect("mmap gives no page at 0 unasked")))
    }
}

impl<T: Slate> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped for as long as we live, zeroed at first, and the trait promises the rest.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Slate> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: it is our mapping, and nobody borrows from it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// Runs `job` in a process of its own, for no longer than `patience`, and gives what it wrote. Returns within
/// `patience` and a twentieth of a second more, whatever the job does.
///
/// The job must make system calls only: see the module's own words.
pub fn run<T: Slate>(patience: Duration, job: impl FnOnce(&T)) -> Result<(Shared<T>, End), io::Error> {
    let slate = Shared::new()?;
    let end = match start(|| job(&slate)) {
        Ok(child) => child.wait(patience),
        Err(error) => End::NotStarted(error),
    };
    Ok((slate, end))
}

struct Child {
    pid: libc::pid_t,
    handle: OwnedFd,
}

fn start(job: impl FnOnce()) -> io::Result<Child> {
    let maker = rustix::process::getpid();
    let mut handle: libc::c_int = -1;
    // Blocked from before its first instruction: a handler of ours must never run in it.
    let before = block_all_signals();
    // SAFETY: without CLONE_VM this is a fork: the child goes on with a copy of our memory and stack, and does
    // nothing but system calls, until it ends in `become_caged`. Its exit signal, the lowest byte, is none.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, libc::CLONE_PIDFD as libc::c_ulong, 0, &raw mut handle, 0, 0)
    };
    if pid == 0 {
        become_caged(maker, job);
    }
    let error = io::Error::last_os_error();
    // SAFETY: it is this thread's own mask that is put back.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Child { pid: pid as libc::pid_t, handle: unsafe { OwnedFd::from_raw_fd(handle) } })
}

fn block_all_signals() -> libc::sigset_t {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first call fills in the one, the second the other.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

/// The child's whole life.
fn become_caged(maker: rustix::process::Pid, job: impl FnOnce()) -> ! {
    /// A panic must not unwind into the copy of the caller.
    struct NoWayOut;
    impl Drop for NoWayOut {
        fn drop(&mut self) {
            // SAFETY: ends this process, which runs none of the caller's clean-up.
            unsafe { libc::_exit(1) }
        }
    }
    let _guard = NoWayOut;
    // SAFETY: system calls on this process alone, whose descriptors are copies that nothing here uses.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // It may have died before it could be told.
        if libc::getppid() != maker.as_raw_pid() {
            libc::_exit(1);
        }
        // Were it never to end, whoever reads from one of the caller's pipes would wait for it.
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
    }
    job();
    // SAFETY: as in the guard.
    unsafe { libc::_exit(0) }
}

impl Child {
    fn wait(self, patience: Duration) -> End {
        if self.ended_within(patience) {
            return match self.reap() {
                Ok((0, _)) => End::Done,
                Ok((status, _)) if libc::WIFSIGNALED(status) => {
                    End::Died(format!("signal {} ended it", libc::WTERMSIG(status)))
                }
                Ok((status, _)) => End::Died(format!("it ended with status {status:#x}")),
                Err(error) => End::Died(format!("how it ended is unknown: {error}")),
            };
        }
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        if self.ended_within(GRACE) {
            let cpu = self.reap().ok().map(|(_, cpu)| cpu);
            return End::Late { patience, cpu };
        }
        // The kernel does not let it go. A thread that sleeps until it does costs nothing, and no process of
        // ours hangs on it; without a thread it stays a zombie until we end.
        let _ = thread::Builder::new().name("reaper".into()).spawn(move || self.reap());
        End::Late { patience, cpu: None }
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

    /// Its wait status and the CPU time that it used.
    fn reap(&self) -> io::Result<(libc::c_int, Duration)> {
        let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
        // SAFETY: both are ours to write to; the pid is our child's, whom nobody else waits for.
        while unsafe { libc::wait4(self.pid, &raw mut status, libc::__WALL, usage.as_mut_ptr()) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // SAFETY: all zeros was valid already.
        let usage = unsafe { usage.assume_init() };
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Ok((status, time(usage.ru_utime) + time(usage.ru_stime)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

    use super::*;

    // SAFETY: an atomic, for which zero is a value, and without a drop.
    unsafe impl Slate for AtomicU64 {}
    // SAFETY: likewise.
    unsafe impl Slate for AtomicI32 {}

    const SHORT: Duration = Duration::from_millis(60);

    /// None is left of the caged processes of this thread.
    fn no_child_is_left() -> bool {
        // SAFETY: asks for no status, and children of other threads are not meant.
        let found =
            unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) };
        found < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
    }

    #[test]
    fn a_job_that_ends_leaves_what_it_found() {
        let (slate, end) = run(SHORT * 50, |slate: &AtomicU64| slate.store(7, Ordering::Relaxed)).unwrap();
        assert!(matches!(end, End::Done), "{end:?}");
        assert_eq!(slate.load(Ordering::Relaxed), 7);
        assert!(no_child_is_left());
    }

    #[test]
    fn a_job_that_computes_for_ever_is_ended_and_what_it_found_until_then_is_kept() {
        let job = |slate: &AtomicU64| {
            loop {
                slate.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (slate, end) = run(SHORT, job).unwrap();
        let End::Late { cpu: Some(cpu), .. } = end else { panic!("{end:?}") };
        assert!(cpu > Duration::ZERO);
        let reached = slate.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20));
        assert_eq!((reached > 0, slate.load(Ordering::Relaxed)), (true, reached), "it still runs");
        assert!(no_child_is_left());
    }

    #[test]
    fn a_job_that_sleeps_in_the_kernel_is_ended() {
        // Long enough for the process to come to its sleep on a busy host.
        let (slate, end) = run(SHORT * 5, |slate: &AtomicU64| {
            loop {
                slate.fetch_add(1, Ordering::Relaxed);
                // SAFETY: waits for no file, for ever.
                unsafe { libc::poll(ptr::null_mut(), 0, -1) };
            }
        })
        .unwrap();
        let End::Late { patience, cpu: Some(_) } = end else { panic!("{end:?}") };
        assert_eq!(patience, SHORT * 5);
        assert_eq!(slate.load(Ordering::Relaxed), 1, "it went to sleep once, and never woke up");
        assert!(no_child_is_left());
    }

    #[test]
    fn a_job_that_crashes_or_panics_is_named_and_the_caller_lives() {
        let (_, end) = run(SHORT * 50, |_: &AtomicU64| {
            // SAFETY: nothing is; this process is there to die of it.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        })
        .unwrap();
        assert!(matches!(&end, End::Died(why) if why == "signal 9 ended it"), "{end:?}");
        let (_, end) = run(SHORT * 50, |_: &AtomicU64| std::panic::resume_unwind(Box::new(()))).unwrap();
        assert!(matches!(&end, End::Died(why) if why == "it ended with status 0x100"), "{end:?}");
        assert!(no_child_is_left());
    }

    #[test]
    fn it_holds_no_file_of_the_callers_and_the_callers_signals_are_as_before() {
        let mask = || {
            let mut now = MaybeUninit::uninit();
            // SAFETY: only asks.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), now.as_mut_ptr());
                (0..64).filter(|&n| libc::sigismember(now.as_ptr(), n) == 1).collect::<Vec<_>>()
            }
        };
        let before = mask();
        let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&pipe);
        let (slate, end) = run(SHORT * 50, |slate: &AtomicI32| {
            // SAFETY: asks about a number.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            slate.store(flags, Ordering::Relaxed);
        })
        .unwrap();
        assert!(matches!(end, End::Done), "{end:?}");
        assert_eq!(slate.load(Ordering::Relaxed), -1, "the pipe is open in it");
        assert_eq!(mask(), before);
    }

    #[test]
    fn many_threads_can_do_so_at_once() {
        let one = |n| {
            let (slate, end) =
                run(SHORT * 100, |slate: &AtomicU64| slate.store(n, Ordering::Relaxed)).unwrap();
            assert!(matches!(end, End::Done), "{end:?}");
            assert_eq!(slate.load(Ordering::Relaxed), n);
        };
        thread::scope(|scope| (1..9).for_each(|n| drop(scope.spawn(move || one(n)))));
    }
}
