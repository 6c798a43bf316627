//! From nothing to an executed agent, in its cgroup and root from its first instruction on.
//!
//! Moving a process that runs already into a cgroup takes the kernel ten milliseconds and more (it waits
//! for every CPU), which is many times what starting a bare process takes. So the cgroup is joined
//! before: on version 1 by a thread of ours, whose children are born there; on version 2, where
//! threads can't be moved alone, the kernel puts the child there as it makes it.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use bootrace_agent::protocol::AGENT_PATH;
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Pid,
    thread::{CpuSet, sched_setaffinity},
};

/// A thread that is ready to fork. Dropping it waits until the thread has ended: while it lives it is in the
/// instance's cgroups.
pub struct Launcher {
    go: Option<mpsc::Sender<()>>,
    launched: mpsc::Receiver<io::Result<Pid>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Launcher {
    /// Gets ready to execute the agent in `root` and `cgroups`.
    ///
    /// # Errors
    /// When a cgroup can't be joined.
    pub fn new(root: &Path, cgroups: &[PathBuf], cpus: CpuSet) -> io::Result<Self> {
        let (go, wait) = mpsc::channel();
        let (report, launched) = mpsc::channel();
        let (joined, ready) = mpsc::channel();
        let child = Child::new(root, cgroups)?;
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

    /// Forks; returns once the agent is executed.
    ///
    /// # Errors
    /// When the fork, the chroot or the exec fails.
    pub fn launch(&self) -> io::Result<Pid> {
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

/// All that the child needs between fork and exec, where nothing may be allocated.
struct Child {
    root: CString,
    program: CString,
    /// The version 2 cgroup to be born in.
    cgroup: Option<fs::File>,
    null: fs::File,
}

impl Child {
    fn new(root: &Path, cgroups: &[PathBuf]) -> io::Result<Self> {
        let unified = cgroups.iter().find(|dir| dir.join("cgroup.events").exists());
        Ok(Child {
            root: CString::new(root.as_os_str().as_bytes())?,
            program: CString::new(AGENT_PATH)?,
            cgroup: unified.map(fs::File::open).transpose()?,
            null: fs::OpenOptions::new().read(true).write(true).open("/dev/null")?,
        })
    }

    fn launch(&self) -> io::Result<Pid> {
        // Closed by a successful exec; else the error comes through it.
        let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;
        // Safety: clone_args is plain integers, for which zero means none.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.exit_signal = libc::SIGCHLD as u64;
        if let Some(cgroup) = &self.cgroup {
            arguments.flags = libc::CLONE_INTO_CGROUP as u64;
            arguments.cgroup = cgroup.as_raw_fd() as u64;
        }
        let size = size_of::<libc::clone_args>();
        // Safety: without CLONE_VM this is a fork; the child makes only system calls until it has
        // executed another program or ended.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) } {
            0 => unsafe { self.execute(report.as_raw_fd()) },
            -1 => Err(io::Error::last_os_error()),
            pid => {
                drop(report);
                let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidData)?;
                match read_failure(failure) {
                    None => Ok(pid),
                    Some(error) => {
                        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
                        Err(error)
                    }
                }
            }
        }
    }

    /// # Safety
    /// To be called in a child process only.
    unsafe fn execute(&self, report: RawFd) -> ! {
        let null = self.null.as_raw_fd();
        let argv = [self.program.as_ptr(), std::ptr::null()];
        let env = [std::ptr::null()];
        unsafe {
            let dup = |to| libc::dup2(null, to) >= 0;
            let _ = (0..3).all(dup)
                && libc::chroot(self.root.as_ptr()) == 0
                && libc::chdir(c"/".as_ptr()) == 0
                && libc::execve(self.program.as_ptr(), argv.as_ptr(), env.as_ptr()) == 0;
            let code = (*libc::__errno_location()).to_ne_bytes();
            libc::write(report, code.as_ptr().cast(), code.len());
            libc::_exit(127)
        }
    }
}

/// Waits for the exec; what the child wrote, if anything, is why it failed.
fn read_failure(pipe: OwnedFd) -> Option<io::Error> {
    let mut code = [0; 4];
    match io::Read::read(&mut fs::File::from(pipe), &mut code) {
        Ok(4) => Some(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
        Ok(_) => None,
        Err(error) => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root (chroot): scripts/test runs it"]
    fn a_root_without_an_agent_is_an_error_and_leaves_no_process() {
        let root = tempfile::tempdir().unwrap();
        let cpus = rustix::thread::sched_getaffinity(None).unwrap();
        let launcher = Launcher::new(root.path(), &[], cpus).unwrap();
        assert_eq!(launcher.launch().unwrap_err().kind(), io::ErrorKind::NotFound);
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        assert_eq!(children, "");
    }
}
