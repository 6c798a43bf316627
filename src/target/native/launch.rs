//! Launches the agent, in its cgroup and root from its first instruction on.
//!
//! If a running agent were moved into its cgroup, the memory that it had used before would stay charged to the
//! harness's. So it is created there: on version 1 as the child of a thread that has joined the cgroup; on version 2,
//! where single threads can't move, by the kernel itself.
//!
//! Until it executes the agent, the child shares the harness's memory, as with `vfork` and `posix_spawn`: after a fork
//! each page that the harness writes would fault once, during the measurement. The module makes the system call
//! itself, because neither of these can create a child in a version 2 cgroup (glibc before 2.39).
#![expect(
    unsafe_code,
    reason = "clone3 with shared memory, and what its child does before it executes the agent"
)]

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
    ptr, thread,
};

use bootrace_agent::protocol::{AGENT_PATH, NONCE_VARIABLE, ON_STDIN_FLAG};
use linux_raw_sys::general::{CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VFORK, CLONE_VM, clone_args};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
    thread::CpuSet,
};

use crate::control::Nonce;

/// A launched agent that waits for [`Agent::go`].
#[derive(Debug)]
pub struct Agent {
    /// Valid until it is reaped.
    pub pid: Pid,
    /// A pidfd, valid for ever.
    pub handle: OwnedFd,
    go: OwnedFd,
}

impl Agent {
    /// Lets it say hello and start its workload.
    ///
    /// # Errors
    /// When it has ended.
    pub fn go(&self) -> io::Result<()> {
        rustix::io::write(&self.go, b"!")?;
        Ok(())
    }
}

/// Executes the agent in `root` and `cgroups`, on `cpus`, with the harness at the other end of `channel` and its nonce.
///
/// # Errors
/// When a cgroup can't be joined, or the clone, chroot or exec fails.
pub fn launch(
    root: &Path,
    cgroups: &[PathBuf],
    cpus: CpuSet,
    channel: UnixStream,
    nonce: &Nonce,
) -> io::Result<Agent> {
    let unified = cgroups.iter().find(|dir| dir.join("cgroup.events").exists());
    let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = Child {
        root: CString::new(root.as_os_str().as_bytes())?,
        program: CString::new(AGENT_PATH)?,
        flag: CString::new(ON_STDIN_FLAG)?,
        nonce: CString::new(format!("{NONCE_VARIABLE}={}", nonce.text()))?,
        cpus,
        cgroup: unified.map(fs::File::open).transpose()?,
        channel,
        wait,
        null: fs::OpenOptions::new().write(true).open("/dev/null")?,
        errno: Cell::new(0),
        stack: vec![0; STACK / size_of::<u128>()],
    };
    let (pid, handle) = match child.cgroup {
        Some(_) => child.clone_into_agent(),
        None => {
            let join = |dir: &PathBuf| {
                let file = dir.join("tasks");
                fs::write(&file, "0")
                    .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", file.display())))
            };
            let launch = move || cgroups.iter().try_for_each(join).and_then(|()| child.clone_into_agent());
            let joined = thread::scope(|scope| {
                Ok(thread::Builder::new().name("launcher".into()).spawn_scoped(scope, launch)?.join())
            });
            joined.and_then(|ended| {
                ended.map_err(|_| io::Error::other("the thread that launches it panicked"))?
            })
        }
    }?;
    Ok(Agent { pid, handle, go })
}

/// All data that the child needs between clone and exec. It must not allocate: it shares the harness's memory.
struct Child {
    root: CString,
    program: CString,
    flag: CString,
    /// Its whole environment, which only root can read; the agent clears it.
    nonce: CString,
    cpus: CpuSet,
    /// The version 2 cgroup to be created in.
    cgroup: Option<fs::File>,
    /// Its end of the control channel, as its standard input.
    channel: UnixStream,
    /// The descriptor that [`Agent::go`] signals, as its standard output.
    wait: OwnedFd,
    null: fs::File,
    /// The errno of a failed step; 0 if none failed.
    errno: Cell<c_int>,
    /// Its stack until the exec, aligned for the ABI.
    stack: Vec<u128>,
}

/// Stack size in bytes: enough for a few system calls.
const STACK: usize = 32 << 10;

impl Child {
    /// Returns when the child has executed the agent. From then on only the agent has its end of the channel.
    fn clone_into_agent(self) -> io::Result<(Pid, OwnedFd)> {
        let mut handle: c_int = -1;
        let into_cgroup = if self.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
        let cgroup = self.cgroup.as_ref().map_or(0, |cgroup| cgroup.as_raw_fd().cast_unsigned());
        let arguments = clone_args {
            flags: u64::from(CLONE_VM | CLONE_VFORK | CLONE_PIDFD) | into_cgroup,
            pidfd: (&raw mut handle) as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
            stack: self.stack.as_ptr() as u64,
            stack_size: STACK as u64,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: u64::from(cgroup),
        };
        // A signal handler must not run in the child, which shares this memory. The agent unblocks signals again.
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
        // SAFETY: the kernel has just made this descriptor for this process.
        let handle = unsafe { OwnedFd::from_raw_fd(handle) };
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
        match self.errno.get() {
            0 => Ok((pid, handle)),
            errno => {
                // It had ended before this thread went on, so this does not block.
                waitpid(Some(pid), WaitOptions::empty())?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// The child's code.
///
/// # Safety
/// `child` is live until this process has executed another program or ended.
unsafe extern "C" fn execute(child: *const Child) -> ! {
    // SAFETY: only system calls, on strings and descriptors that `child` owns.
    unsafe {
        let child = &*child;
        let argv = [child.program.as_ptr(), child.flag.as_ptr(), ptr::null()];
        let env: [*const c_char; 2] = [child.nonce.as_ptr(), ptr::null()];
        let open = |from: c_int, to| libc::dup2(from, to) >= 0;
        let _ = open(child.channel.as_raw_fd(), 0)
            && open(child.wait.as_raw_fd(), 1)
            && open(child.null.as_raw_fd(), 2)
            && libc::sched_setaffinity(0, size_of::<CpuSet>(), (&raw const child.cpus).cast()) == 0
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

/// `clone3` with a child that calls `run` on its own stack. Returns the child's pid, or a negative errno.
///
/// In assembly, since a child that shares the memory must not return through this thread's frames.
///
/// # Safety
/// Only with CLONE_VM and CLONE_VFORK. `run` must touch only `data`.
unsafe fn clone_and_call(
    arguments: &clone_args,
    run: unsafe extern "C" fn(*const Child) -> !,
    data: *const Child,
) -> i64 {
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the child gets here with an empty stack of its own and leaves by `run`; the parent goes on at 2. All
    // registers that the kernel or the child changes are named.
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
            in("rsi") size_of::<clone_args>(),
            in("r8") data,
            in("r9") run,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
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
            in("x1") size_of::<clone_args>(),
            in("x3") data,
            in("x4") run,
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent,
        probe::cgroup,
        scenario::{Bytes, Resources},
        target::native::groups,
    };
    use bootrace_agent::protocol::{FromAgent, read_frame};

    /// A root with nothing but the agent, and what it says in its hello.
    fn agent_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join(AGENT_PATH.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, agent::EXECUTABLE).unwrap();
        fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let boot_id = root.path().join("proc/sys/kernel/random/boot_id");
        fs::create_dir_all(boot_id.parent().unwrap()).unwrap();
        fs::write(boot_id, "here").unwrap();
        root
    }

    fn launch_in(root: &Path, cgroups: &[PathBuf]) -> io::Result<(Agent, UnixStream)> {
        let cpus = rustix::thread::sched_getaffinity(None).unwrap();
        let (ours, its) = UnixStream::pair().unwrap();
        Ok((launch(root, cgroups, cpus, its, &Nonce::random()?)?, ours))
    }

    fn no_child_is_left() -> bool {
        fs::read_to_string("/proc/thread-self/children").is_ok_and(|children| children.is_empty())
    }

    #[test]
    #[ignore = "needs root (chroot): scripts/test runs it"]
    fn a_root_without_an_agent_is_an_error_and_leaves_no_process() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(launch_in(root.path(), &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(no_child_is_left());
    }

    /// Checks with the kernel: with CLONE_INTO_CGROUP in too small a type, the child was in no cgroup of its own. In
    /// the guest of `in_guest` it checks only version 2.
    #[test]
    #[ignore = "needs root (cgroups, chroot): scripts/test runs it"]
    fn a_bare_process_is_in_its_cgroups_which_have_its_limit() {
        let instance = format!("bootrace-test-launch-{}", std::process::id());
        let memory = Bytes(64 << 20);
        let mut cgroups = Vec::new();
        groups::make(&instance, &Resources { memory, ..Resources::default() }, &mut cgroups).unwrap();
        let root = agent_root();
        let (agent, mut stream) = launch_in(root.path(), &cgroups).unwrap();
        let pid = agent.pid.as_raw_pid().unsigned_abs();
        let listed = cgroups.iter().all(|dir| cgroup::pids(dir).unwrap() == [pid]);
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let limits =
            cgroups.iter().flat_map(|dir| ["memory.max", "memory.limit_in_bytes"].map(|name| dir.join(name)));
        let limits: Vec<_> = limits.filter_map(|file| fs::read_to_string(file).ok()).collect();

        stream.set_nonblocking(true).unwrap();
        let early = read_frame::<FromAgent>(&mut stream);
        stream.set_nonblocking(false).unwrap();
        agent.go().unwrap();
        let hello = read_frame::<FromAgent>(&mut stream);
        groups::kill(&cgroups[0], Some(pid)).unwrap();
        let ended = waitpid(Some(agent.pid), WaitOptions::NOHANG).unwrap();
        cgroups.iter().for_each(|dir| groups::remove(dir).unwrap());

        assert!(listed && own.contains(&instance), "{cgroups:?} don't have {pid}, which is in {own}");
        assert_eq!(limits, [format!("{}\n", memory.0)]);
        assert!(early.is_err(), "it speaks before it may: {early:?}");
        assert!(matches!(hello, Ok(Some(FromAgent::Hello(_)))), "{hello:?}");
        assert!(ended.is_some(), "it is not killed with its cgroup");
    }

    /// The flag works on version 2's hierarchy of a host with both, though that limits nothing there.
    #[test]
    #[ignore = "needs root (cgroups, chroot): scripts/test runs it"]
    fn the_kernel_puts_an_agent_into_a_cgroup_of_version_2_as_it_makes_it() {
        let hierarchy = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let Some(unified) = hierarchy.into_iter().find(|dir| dir.join("cgroup.procs").exists()) else {
            panic!(
                "no hierarchy of version 2 is mounted here: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
            );
        };
        let dir = unified.join(format!("bootrace-test-launch-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let root = agent_root();
        let (agent, _stream) = launch_in(root.path(), std::slice::from_ref(&dir)).unwrap();
        let listed = cgroup::pids(&dir).unwrap();
        crate::sys::processes::end(&agent.handle).unwrap();
        waitpid(Some(agent.pid), WaitOptions::NOHANG).unwrap().unwrap();
        fs::remove_dir(&dir).unwrap();
        assert_eq!(listed, [agent.pid.as_raw_pid().unsigned_abs()]);
    }
}
