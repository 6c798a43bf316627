//! From nothing to an executed agent, in its cgroup and root from its first instruction on.
//!
//! Moving a process that runs already into a cgroup takes the kernel ten milliseconds and more (it waits
//! for every CPU), which is many times what starting a bare process takes. So the cgroup is joined
//! before: on version 1 by a thread of ours, whose children are born there; on version 2, where
//! threads can't be moved alone, the kernel puts the child there as it makes it.
//!
//! The child borrows our memory until it has executed the agent, as with `vfork` and `posix_spawn`: copying the
//! page tables of a harness would cost more than all the rest of the start. It is a system call of our own because
//! neither of these can make a child in a version 2 cgroup (glibc before 2.39).

use std::{
    cell::Cell,
    ffi::{CString, c_char, c_int},
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    ptr,
    sync::mpsc,
    thread,
};

use bootrace_agent::protocol::{AGENT_PATH, ON_STDIN_FLAG};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

/// Of linux/sched.h. The libc crate declares it as a C int, in which it is 0: the child would be put nowhere.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process that was launched: its number is its own until it is reaped, its handle names it for ever.
#[derive(Debug)]
pub struct Launched {
    pub pid: Pid,
    pub handle: OwnedFd,
}

/// A thread that is ready to fork. Dropping it waits until the thread has ended: while it lives it is in the
/// instance's cgroups.
pub struct Launcher {
    go: Option<mpsc::Sender<()>>,
    launched: mpsc::Receiver<io::Result<Launched>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Launcher {
    /// Gets ready to execute the agent in `root` and `cgroups`, with the harness at the other end of `channel`.
    ///
    /// # Errors
    /// When a cgroup can't be joined.
    pub fn new(root: &Path, cgroups: &[PathBuf], cpus: CpuSet, channel: UnixStream) -> io::Result<Self> {
        let (go, wait) = mpsc::channel();
        let (report, launched) = mpsc::channel();
        let (joined, ready) = mpsc::channel();
        let child = Child::new(root, cgroups, channel)?;
        let joins = if child.cgroup.is_some() { Vec::new() } else { cgroups.to_vec() };
        let thread = thread::Builder::new().name("launcher".into()).spawn(move || {
            // The child inherits what this thread has.
            let joined_all = joins.iter().try_for_each(|dir| fs::write(dir.join("tasks"), "0"));
            let result = joined_all.and_then(|()| Ok(sched_setaffinity(None, &cpus)?));
            let failed = result.is_err();
            let _ = joined.send(result);
            if !failed && wait.recv().is_ok() {
                let _ = report.send(child.launch());
            }
        })?;
        let launcher = Launcher { go: Some(go), launched, thread: Some(thread) };
        ready.recv().map_err(io::Error::other)??;
        Ok(launcher)
    }

    /// Makes the process; returns once the agent is executed. Works once.
    ///
    /// # Errors
    /// When the clone, the chroot or the exec fails.
    pub fn launch(&self) -> io::Result<Launched> {
        let go = self.go.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        go.send(()).map_err(io::Error::other)?;
        self.launched.recv().map_err(io::Error::other)?
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.go = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// All that the child needs between clone and exec, where nothing may be allocated: our memory is its own, too.
struct Child {
    root: CString,
    program: CString,
    flag: CString,
    /// The version 2 cgroup to be born in.
    cgroup: Option<fs::File>,
    /// Its end of the control channel, as its standard input.
    channel: UnixStream,
    null: fs::File,
    /// Why it could not execute its program; 0 while nothing failed.
    errno: Cell<c_int>,
    /// What it runs on until then, aligned as a stack must be.
    stack: Vec<u128>,
}

/// For a handful of system calls.
const STACK: usize = 32 << 10;

impl Child {
    fn new(root: &Path, cgroups: &[PathBuf], channel: UnixStream) -> io::Result<Self> {
        let unified = cgroups.iter().find(|dir| dir.join("cgroup.events").exists());
        Ok(Child {
            root: CString::new(root.as_os_str().as_bytes())?,
            program: CString::new(AGENT_PATH)?,
            flag: CString::new(ON_STDIN_FLAG)?,
            cgroup: unified.map(fs::File::open).transpose()?,
            channel,
            null: fs::OpenOptions::new().write(true).open("/dev/null")?,
            errno: Cell::new(0),
            stack: vec![0; STACK / size_of::<u128>()],
        })
    }

    /// Returns when the child has executed the agent. Our end of its channel is closed then: only the agent holds it.
    fn launch(self) -> io::Result<Launched> {
        let mut handle: c_int = -1;
        // SAFETY: clone_args is plain integers, for which zero means none.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = u64::from((libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD).cast_unsigned());
        arguments.pidfd = (&raw mut handle) as u64;
        arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
        arguments.stack = self.stack.as_ptr() as u64;
        arguments.stack_size = STACK as u64;
        if let Some(cgroup) = &self.cgroup {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
        }
        // A handler of ours must not run in the child, in our memory; the agent lets signals in again.
        let before = block_all_signals();
        // SAFETY: the child has a stack of its own, makes only system calls on what `self` owns, and this thread
        // waits in the kernel until it has executed another program or ended.
        let pid = unsafe { clone_and_call(&arguments, execute, ptr::from_ref(&self)) };
        // SAFETY: it is this thread's own mask that is put back.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        if pid < 0 {
            return Err(io::Error::from_raw_os_error(-pid));
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let handle = unsafe { OwnedFd::from_raw_fd(handle) };
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        match self.errno.get() {
            0 => Ok(Launched { pid, handle }),
            errno => {
                // It ended before this thread went on, so this does not wait.
                rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// What the child does.
unsafe extern "C" fn execute(child: *const Child) -> ! {
    unsafe {
        let child = &*child;
        let argv = [child.program.as_ptr(), child.flag.as_ptr(), ptr::null()];
        let env: [*const c_char; 1] = [ptr::null()];
        let open = |from: c_int, to| libc::dup2(from, to) >= 0;
        let null = child.null.as_raw_fd();
        let _ = open(child.channel.as_raw_fd(), 0)
            && (1..3).all(|to| open(null, to))
            && libc::chroot(child.root.as_ptr()) == 0
            && libc::chdir(c"/".as_ptr()) == 0
            && libc::execve(child.program.as_ptr(), argv.as_ptr(), env.as_ptr()) == 0;
        child.errno.set(*libc::__errno_location());
        libc::_exit(127)
    }
}

fn block_all_signals() -> libc::sigset_t {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the first call makes `all` a set, the second one makes `before` one.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

/// `clone3`, whose child calls `run` on the stack that it is given. Returns the child's pid, or an errno below 0.
///
/// In assembly, since a child that shares our memory must not return through our frames.
///
/// # Safety
/// With CLONE_VM and CLONE_VFORK; `run` must touch nothing but what `data` is made for.
unsafe fn clone_and_call(
    arguments: &libc::clone_args,
    run: unsafe extern "C" fn(*const Child) -> !,
    data: *const Child,
) -> i64 {
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            in("r8") data,
            in("r9") run,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x3",
            "blr x4",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") ptr::from_ref(arguments) => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x3") data,
            in("x4") run,
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent, probe::cgroup};

    /// A root with nothing but the agent, which serves a stream whose other end is ours.
    fn agent_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join(AGENT_PATH.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, agent::EXECUTABLE).unwrap();
        fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        root
    }

    fn launcher(root: &Path, cgroups: &[PathBuf]) -> (Launcher, UnixStream) {
        let cpus = rustix::thread::sched_getaffinity(None).unwrap();
        let (ours, its) = UnixStream::pair().unwrap();
        (Launcher::new(root, cgroups, cpus, its).unwrap(), ours)
    }

    fn no_child_is_left() -> bool {
        fs::read_to_string("/proc/thread-self/children").is_ok_and(|children| children.is_empty())
    }

    #[test]
    #[ignore = "needs root (chroot): scripts/test runs it"]
    fn a_root_without_an_agent_is_an_error_and_leaves_no_process() {
        let root = tempfile::tempdir().unwrap();
        let (launcher, _stream) = launcher(root.path(), &[]);
        assert_eq!(launcher.launch().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(launcher);
        assert!(no_child_is_left());
    }

    /// Of the kernel: the number that libc gives in a type that can't hold it moved nobody anywhere.
    #[test]
    #[ignore = "needs root (cgroups, chroot): scripts/test runs it"]
    fn the_agent_is_born_in_its_cgroup_on_each_version_that_this_host_has() {
        let hierarchy = cgroup::hierarchy().unwrap();
        // Of a hybrid host both: the flag works on version 2's hierarchy though it limits nothing there.
        let mut roots = vec![hierarchy.memory.unwrap()];
        let unified = PathBuf::from("/sys/fs/cgroup/unified");
        roots.extend(unified.join("cgroup.procs").exists().then_some(unified));
        let root = agent_root();
        for at in roots {
            let dir = at.join(format!("bootrace-test-launch-{}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            let (launcher, stream) = launcher(root.path(), std::slice::from_ref(&dir));
            let launched = launcher.launch().unwrap();
            let listed = cgroup::pids(&dir).unwrap();
            let own = fs::read_to_string(format!("/proc/{}/cgroup", launched.pid.as_raw_pid())).unwrap();
            drop(stream);
            let ended = rustix::process::waitpid(Some(launched.pid), rustix::process::WaitOptions::empty());
            drop(launcher);
            fs::remove_dir(&dir).unwrap();
            let pid = launched.pid.as_raw_pid().unsigned_abs();
            assert!(listed.contains(&pid), "{} has {listed:?}, and not {pid}", dir.display());
            let name = dir.file_name().unwrap().to_str().unwrap();
            assert!(own.lines().any(|line| line.ends_with(name)), "{name}: {own}");
            ended.unwrap();
        }
    }
}
