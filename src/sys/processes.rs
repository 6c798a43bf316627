//! Processes, found in `/proc` and killed by pidfd: a pid may have passed to another process by the time of the signal.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// How long a killed process may take to end: one that waits for a dead disk or NFS server may never end.
const KILL_TIMEOUT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// How long processes that start others may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A handle of the process that has this pid now; `None` if there is none. Check after this that it is the right one.
pub fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Kills a process and waits for its end.
///
/// # Errors
/// When it has not ended after 30 s.
pub fn end(handle: &OwnedFd) -> io::Result<()> {
    send_kill(handle)?;
    wait(handle)
}

/// Sends SIGKILL. Succeeds if the process has ended already.
///
/// # Errors
/// When this process may not signal it.
pub fn send_kill(handle: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Waits for the end of a process that was killed.
///
/// # Errors
/// When it has not ended after 30 s.
pub fn wait(handle: &OwnedFd) -> io::Result<()> {
    let mut gone = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut gone, Some(&KILL_TIMEOUT)))? {
        0 => Err(io::Error::other(format!(
            "it was killed and has not ended within {} s: it waits in the kernel, for a disk or a server maybe",
            KILL_TIMEOUT.tv_sec
        ))),
        _ => Ok(()),
    }
}

/// This process, as a name that no other one gets: its pid and its start, in ticks since the host's boot.
pub fn identity() -> String {
    let pid = std::process::id();
    format!("{pid}-{}", started(pid).unwrap_or_default())
}

/// Whether the process of an [`identity`] still runs.
pub fn is_identity_alive(identity: &str) -> bool {
    let parts = identity.split_once('-').and_then(|(pid, start)| Some((pid.parse().ok()?, start)));
    parts.is_some_and(|(pid, start)| started(pid).is_some_and(|ticks| ticks == start))
}

fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, which may have blanks, ends before the third field.
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}

/// The ids of all processes but this one.
pub fn others() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = i32::try_from(std::process::id()).unwrap_or(0);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(move |pid| *pid != ours)
}

/// The root directory of a process; `None` if it is gone, or another user's.
pub fn root(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/root")).ok()
}

/// The paths of a process's cgroups, as `/proc/PID/cgroup` has them; empty if it is gone.
pub fn cgroups(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// The processes with their root in `dir`, or with it as their directory for temporary files; this process is not one.
pub fn working_in(dir: &Path) -> Vec<i32> {
    others().filter(|pid| works_in(*pid, dir)).collect()
}

/// Does not check the working directory: that may be the shell of a user who looks at it.
fn works_in(pid: i32, dir: &Path) -> bool {
    let named = [b"TMPDIR=", dir.as_os_str().as_bytes()].concat();
    let has = |environment: &[u8]| environment.split(|byte| *byte == 0).any(|setting| setting == named);
    root(pid).is_some_and(|root| root.starts_with(dir))
        || fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| has(&environment))
}

/// Kills the processes of [`working_in`] until there are none, also those that start meanwhile, and waits for their
/// end.
///
/// # Errors
/// When one can't be killed or has not ended after 30 s, or new ones start for a minute.
pub fn end_all_in(dir: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let opened: Vec<_> = working_in(dir).into_iter().map(|pid| (pid, open(pid))).collect();
        if opened.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > END_TIMEOUT {
            return Err(io::Error::other("processes in it still start new ones"));
        }
        for (pid, handle) in opened {
            // By now it may be another process's pid.
            if let Some(handle) = handle.filter(|_| works_in(pid, dir)) {
                end(&handle).map_err(|e| io::Error::new(e.kind(), format!("process {pid}: {e}")))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_of_one_process_and_not_of_the_next_one_with_its_pid() {
        let own = identity();
        let (pid, start) = own.split_once('-').unwrap();
        assert!(start.parse::<u64>().is_ok_and(|ticks| ticks > 0), "{own}");
        assert!(is_identity_alive(&own));
        for other in [format!("{pid}-{start}0"), pid.to_owned(), format!("x-{start}"), String::new()] {
            assert!(!is_identity_alive(&other), "{other}");
        }
    }
}
