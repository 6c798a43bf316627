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
const GRACE: Duration = Duration::from_millis(500);
/// Between two readings of a job's CPU time, at the least.
const PAUSE: Duration = Duration::from_millis(1);

/// How much a job gets. The CPU time is what it needs, and what it can be judged by: no other process lengthens it.
/// The wall time bounds our own waiting; on a busy host, or with a kernel that hangs, it ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub cpu: Duration,
    pub wall: Duration,
}

/// How a sandboxed job ended.
#[derive(Debug)]
pub enum End {
    Done,
    /// It has used up its CPU time, and was killed.
    Spent {
        cpu: Duration,
    },
    /// It was killed before it had its CPU time: it waited for the processor, or for something in the kernel.
    Starved {
        wall: Duration,
        cpu: Duration,
    },
    /// By SIGKILL and not by us: so ends what a host has no memory for.
    Killed,
    /// It ended in another way, such as by another signal.
    Died(String),
    /// There was no process to be had.
    NotStarted(io::Error),
}

/// What a sandboxed job may write to and its maker reads.
///
/// # Safety
/// All zeros is a valid value, it can be written to while others read it (it is made of atomics), and it needs
/// no drop.
pub unsafe trait Slate: Sync {}

/// A [`Slate`] that a sandboxed process shares with its maker.
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
/// `patience` and half a second more, whatever the job does.
///
/// The job must make system calls only, in one thread: see the module's own words.
pub fn run<T: Slate>(patience: Patience, job: impl FnOnce(&T)) -> Result<(Shared<T>, End), io::Error> {
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
    fn wait(self, patience: Patience) -> End {
        let begun = Instant::now();
        let mut cpu = Duration::ZERO;
        loop {
            // One thread can't use up what it has left any sooner.
            let soonest = patience.cpu.saturating_sub(cpu).max(PAUSE);
            if self.ended_within(soonest.min(patience.wall.saturating_sub(begun.elapsed()))) {
                return match self.reap() {
                    Ok(0) => End::Done,
                    Ok(status) if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL => {
                        End::Killed
                    }
                    Ok(status) if libc::WIFSIGNALED(status) => {
                        End::Died(format!("signal {} ended it", libc::WTERMSIG(status)))
                    }
                    Ok(status) => End::Died(format!("it ended with status {status:#x}")),
                    Err(error) => End::Died(format!("how it ended is unknown: {error}")),
                };
            }
            cpu = self.cpu().unwrap_or(cpu);
            if cpu >= patience.cpu {
                self.kill();
                return End::Spent { cpu };
            }
            if begun.elapsed() >= patience.wall {
                self.kill();
                return End::Starved { wall: patience.wall, cpu };
            }
        }
    }

    fn kill(self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        if self.ended_within(GRACE) {
            let _ = self.reap();
            return;
        }
        // The kernel does not let it go. A thread that sleeps until it does costs nothing, and no process of
        // ours hangs on it; without a thread it stays a zombie until we end.
        let _ = thread::Builder::new().name("reaper".into()).spawn(move || self.reap());
    }

    /// The CPU time that it has used until now.
    fn cpu(&self) -> Option<Duration> {
        /// Of the kernel's clocks of a process: its CPU time, to the nanosecond.
        const CPUCLOCK_SCHED: libc::clockid_t = 2;
        let mut time = MaybeUninit::<libc::timespec>::zeroed();
        // SAFETY: it is ours to write to; the pid is our child's, which is not reaped yet.
        let time = unsafe {
            let clock = !self.pid << 3 | CPUCLOCK_SCHED;
            (libc::clock_gettime(clock, time.as_mut_ptr()) == 0).then(|| time.assume_init())?
        };
        Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
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

    /// Its wait status.
    fn reap(&self) -> io::Result<libc::c_int> {
        let mut status = 0;
        // SAFETY: the status is ours to write to; the pid is our child's, whom nobody else waits for.
        while unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(status)
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
    /// Longer than any job here takes on any host.
    const ENOUGH: Patience = Patience { cpu: Duration::from_secs(60), wall: Duration::from_secs(60) };

    /// None is left of the sandboxed processes of this thread.
    fn no_child_is_left() -> bool {
        // SAFETY: asks for no status, and children of other threads are not meant.
        let found =
            unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) };
        found < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD)
    }

    #[test]
    fn a_job_that_ends_leaves_what_it_found() {
        let (slate, end) = run(ENOUGH, |slate: &AtomicU64| slate.store(7, Ordering::Relaxed)).unwrap();
        assert!(matches!(end, End::Done), "{end:?}");
        assert_eq!(slate.load(Ordering::Relaxed), 7);
        assert!(no_child_is_left());
    }

    #[test]
    fn a_job_that_computes_for_ever_is_ended_when_its_cpu_time_is_used_and_what_it_found_is_kept() {
        let job = |slate: &AtomicU64| {
            loop {
                slate.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (slate, end) = run(Patience { cpu: SHORT, ..ENOUGH }, job).unwrap();
        let End::Spent { cpu } = end else { panic!("{end:?}") };
        assert!(cpu >= SHORT);
        let reached = slate.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20));
        assert_eq!((reached > 0, slate.load(Ordering::Relaxed)), (true, reached), "it still runs");
        assert!(no_child_is_left());
    }

    #[test]
    fn a_job_that_sleeps_in_the_kernel_is_ended() {
        // Long enough for the process to come to its sleep on a busy host.
        let patience = Patience { wall: SHORT * 5, ..ENOUGH };
        let (slate, end) = run(patience, |slate: &AtomicU64| {
            loop {
                slate.fetch_add(1, Ordering::Relaxed);
                // SAFETY: waits for no file, for ever.
                unsafe { libc::poll(ptr::null_mut(), 0, -1) };
            }
        })
        .unwrap();
        let End::Starved { wall, .. } = end else { panic!("{end:?}") };
        assert_eq!(wall, patience.wall);
        assert_eq!(slate.load(Ordering::Relaxed), 1, "it went to sleep once, and never woke up");
        assert!(no_child_is_left());
    }

    /// What was taken for a KVM that does not work: 400 ms were over, and it had been given 106 ms of them.
    #[test]
    fn a_job_that_the_host_is_too_busy_for_is_given_its_cpu_time_however_long_that_takes() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let spin = || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop()
            }
        };
        let job = |slate: &AtomicU64| {
            // SAFETY: asks for the thread's own CPU time.
            let used = || unsafe {
                let mut time = MaybeUninit::<libc::timespec>::zeroed();
                libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
                let time = time.assume_init();
                Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
            };
            while used() < SHORT {}
            slate.store(1, Ordering::Relaxed);
        };
        let others = 4 * thread::available_parallelism().unwrap().get();
        let begun = Instant::now();
        let (slate, end) = thread::scope(|scope| {
            (0..others).for_each(|_| drop(scope.spawn(spin)));
            let ran = run(Patience { cpu: SHORT * 2, ..ENOUGH }, job);
            stop.store(true, Ordering::Relaxed);
            ran.unwrap()
        });
        assert!(matches!(end, End::Done), "{end:?} after {:?}", begun.elapsed());
        assert_eq!(slate.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_job_that_crashes_or_panics_or_is_killed_is_named_and_the_caller_lives() {
        let by = |signal| {
            let job = |_: &AtomicU64| {
                // SAFETY: nothing is; this process is there to die of it. No handler of the caller's is in its way.
                unsafe {
                    let (mut none, no_action) = (MaybeUninit::uninit(), libc::SIG_DFL);
                    libc::sigemptyset(none.as_mut_ptr());
                    libc::signal(signal, no_action);
                    libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
                    libc::kill(libc::getpid(), signal)
                };
            };
            run(ENOUGH, job).unwrap().1
        };
        let end = by(libc::SIGKILL);
        assert!(matches!(end, End::Killed), "{end:?}");
        let end = by(libc::SIGBUS);
        assert!(matches!(&end, End::Died(why) if why == "signal 7 ended it"), "{end:?}");
        let (_, end) = run(ENOUGH, |_: &AtomicU64| std::panic::resume_unwind(Box::new(()))).unwrap();
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
        let (slate, end) = run(ENOUGH, |slate: &AtomicI32| {
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
            let (slate, end) = run(ENOUGH, |slate: &AtomicU64| slate.store(n, Ordering::Relaxed)).unwrap();
            assert!(matches!(end, End::Done), "{end:?}");
            assert_eq!(slate.load(Ordering::Relaxed), n);
        };
        thread::scope(|scope| (1..9).for_each(|n| drop(scope.spawn(move || one(n)))));
    }
}
