//! The system calls that the standard library has no safe function for; all `unsafe` code of the agent is here.
#![expect(
    unsafe_code,
    reason = "the agent links the C library alone, so that it is small and starts at once"
)]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    mem::MaybeUninit,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::Path,
    process::Command,
    ptr,
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

/// A child that ended and was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitedChild {
    pub pid: u32,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// User and system time of it and of its own reaped children.
    pub cpu: Duration,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec.max(0) as u64, time.tv_usec.clamp(0, 999_999) as u32 * 1000)
}

/// Reaps one child that has ended; `None` when none has. `block`: waits for one, and `None` means no child is left.
pub fn reap(block: bool) -> Option<ExitedChild> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let flags = if block { 0 } else { libc::WNOHANG };
    // SAFETY: both pointers are to live, writable memory of the right type.
    let pid = unsafe { libc::wait4(-1, &mut status, flags, usage.as_mut_ptr()) };
    if pid <= 0 {
        return None;
    }
    // SAFETY: all-zero is a valid rusage, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    Some(ExitedChild {
        pid: pid as u32,
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
    })
}

/// User and system time of all children reaped so far.
///
/// # Errors
/// When getrusage fails.
pub fn reaped_cpu() -> io::Result<Duration> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to live, writable memory; all-zero is a valid rusage.
    let usage = unsafe {
        check(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()))?;
        usage.assume_init()
    };
    Ok(duration(usage.ru_utime) + duration(usage.ru_stime))
}

/// Sends SIGKILL to a process, or with a negative pid to a process group; -1: to all but PID 1.
pub fn kill(pid: i32) {
    // SAFETY: no memory is involved. A process that has ended already is no error here.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Asks systemd, as PID 1, to end the system at once: its SIGRTMIN+14, "poweroff.target, forced".
pub fn ask_init_to_end() {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(1, libc::SIGRTMIN() + 14) };
}

/// Makes a write to a stream without a reader an error; by default it ends the process.
#[cfg_attr(test, allow(dead_code, reason = "only the program's own start needs it"))]
pub fn ignore_broken_pipes() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Sheds what a bare process inherits and a container does not: open files, ignored and blocked signals (nohup's,
/// say), the session with its terminal and Ctrl-C.
pub fn reset_process_state() {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS];
    // SAFETY: the agent has opened nothing above standard error yet. The set is initialised before it is used;
    // signals with handlers of the Rust runtime keep them. Failures are harmless: setsid of a session leader,
    // close_range of a kernel before 5.9.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        libc::setsid();
        for signal in (1..32).filter(|signal| !kept.contains(signal)) {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Sets the inherited attributes of the workload to one value on every target, whatever the agent itself inherited:
/// file mode mask, supplementary groups (none), niceness, and the limit of open files.
pub fn same_start() {
    let files = libc::rlimit { rlim_cur: 1024, rlim_max: 16 * 1024 };
    // The kernel's struct sigaction: no handler, flags, restorer or mask.
    let default = [0u64; 4];
    // SAFETY: the limit and the action are live. Without the right to change one, it stays.
    unsafe {
        // The C libraries' own signals, to which their functions refuse access; glibc's posix_spawn leaves one ignored.
        for signal in 32..=34 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), 8usize);
        }
        libc::umask(0o022);
        libc::setgroups(0, ptr::null());
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files);
    }
}

/// Takes a variable out of this process's environment, and out of the memory that `/proc/self/environ` shows. Call it
/// before there are other threads.
pub fn take_variable(name: &CStr) -> Option<String> {
    // SAFETY: no other thread reads or writes the environment. The value is a NUL-terminated string in writable memory.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        let text = CStr::from_ptr(value).to_string_lossy().into_owned();
        ptr::write_bytes(value, 0, libc::strlen(value));
        libc::unsetenv(name.as_ptr());
        Some(text)
    }
}

/// The header of capget(2) and capset(2), and their data: two words of 32 bits for each set.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Limits the privileges of all programs that this thread starts from now on: no capability but the `granted` ones, a
/// bit each, and none gained by executing a file. This process keeps its own.
///
/// # Errors
/// When the kernel refuses, or root does not have a granted capability itself.
pub fn limit_privileges(granted: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    // SAFETY: no memory is involved but the header and the data, which are live and of the kernel's layout.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // Another user's programs have no capability, and gain none.
        if libc::geteuid() != 0 {
            return Ok(());
        }
        // Programs that root executes have these too, whatever the bounding set is.
        let header = CapabilityHeader { version: VERSION_3, pid: 0 };
        let mut words = [CapabilityWord::default(); 2];
        let checked = |result: libc::c_long| check(result as libc::c_int);
        checked(libc::syscall(libc::SYS_capget, &raw const header, words.as_mut_ptr()))?;
        words.iter_mut().for_each(|word| word.inheritable = 0);
        checked(libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()))?;
    }
    for number in 0..u64::BITS {
        // SAFETY: no memory is involved.
        let ask = |what| check(unsafe { libc::prctl(what, libc::c_ulong::from(number), 0, 0, 0) });
        let is_granted = granted >> number & 1 == 1;
        let result = ask(if is_granted { libc::PR_CAPBSET_READ } else { libc::PR_CAPBSET_DROP });
        let lacking =
            |why| io::Error::new(io::ErrorKind::PermissionDenied, format!("capability {number}: {why}"));
        match result {
            Ok(1) => {}
            Ok(_) if is_granted => {
                return Err(lacking("it is granted, and this instance's root does not have it"));
            }
            Ok(_) => {}
            // This kernel has no more of them.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            // It is dropped already.
            Err(_) if ask(libc::PR_CAPBSET_READ).is_ok_and(|has| has == 0) => {}
            Err(_) => return Err(lacking("the agent may not drop it")),
        }
    }
    Ok(())
}

/// Makes a command run as another user, who also owns the pipes of its output and can so open `/dev/stdout`.
pub fn run_as(command: &mut Command, uid: u32, gid: u32, groups: Vec<u32>) {
    let change = move || {
        // SAFETY: only system calls, on a live list; the descriptors are this child's standard streams.
        unsafe {
            check(libc::fchown(1, uid, gid))?;
            check(libc::fchown(2, uid, gid))?;
            check(libc::setgroups(groups.len(), groups.as_ptr()))?;
            check(libc::setgid(gid))?;
            check(libc::setuid(uid)).map(drop)
        }
    };
    // SAFETY: between fork and exec it makes only system calls, and allocates nothing.
    unsafe { command.pre_exec(change) };
}

/// Makes orphans of the workload children of this process, as PID 1 adopts them, so that the agent sees, reaps and
/// kills them.
///
/// # Errors
/// When the kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

static CHILD_EVENT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_child(_: libc::c_int) {
    // SAFETY: errno's location is valid in this thread; write is async-signal-safe, and 1 is 8
    // bytes of live memory. errno is restored for the interrupted code.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let one = 1u64;
        libc::write(CHILD_EVENT.load(Ordering::Relaxed), (&raw const one).cast(), 8);
        *errno = saved;
    }
}

/// An eventfd that becomes readable whenever a child ends. A handler and not a signalfd: that
/// needs SIGCHLD blocked, and the workload would inherit the mask. Called once.
///
/// # Errors
/// When the kernel refuses an eventfd or a handler.
pub fn child_events() -> io::Result<File> {
    // SAFETY: the descriptor is new and has no other owner; the action is fully initialised.
    unsafe {
        let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
        let event = File::from_raw_fd(fd);
        CHILD_EVENT.store(fd, Ordering::Relaxed);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_child as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
        check(libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut()))?;
        Ok(event)
    }
}

/// One descriptor to wait for, and its events.
pub fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Waits for an event; a time-out of `None` waits for ever. After a signal it returns without an event.
///
/// # Errors
/// When poll fails, signals aside.
pub fn poll(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let millis = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: pointer and length are of one live slice.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, millis) }) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// Makes this end of a pipe non-blocking; the other end is another open file, and stays blocking.
///
/// # Errors
/// When fcntl fails.
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: no memory is involved.
    unsafe {
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(())
}

/// A new non-blocking inotify instance.
///
/// # Errors
/// When the user has too many of them.
pub fn inotify() -> io::Result<File> {
    // SAFETY: the descriptor is new and has no other owner.
    unsafe { Ok(File::from_raw_fd(check(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?)) }
}

/// Watches for names that appear in a directory, and for the directory's own end. Returns the watch.
///
/// # Errors
/// When there is no such directory, or the user has too many watches.
pub fn watch_directory(inotify: &File, dir: &Path) -> io::Result<i32> {
    let events =
        libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_ONLYDIR;
    let dir = c_path(dir)?;
    // SAFETY: the path is a live, NUL-terminated string.
    check(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), dir.as_ptr(), events) })
}

/// Removes a watch.
pub fn unwatch(inotify: &File, watch: i32) {
    // SAFETY: no memory is involved. The watch may have gone with its directory.
    unsafe { libc::inotify_rm_watch(inotify.as_raw_fd(), watch) };
}

/// `uname -r`.
///
/// # Errors
/// When uname fails.
pub fn kernel_release() -> io::Result<String> {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: all-zero is a valid utsname, and the kernel terminates each field.
    unsafe {
        check(libc::uname(name.as_mut_ptr()))?;
        let name = name.assume_init();
        Ok(CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned())
    }
}

/// Bytes of a page.
pub fn page_size() -> u64 {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as u64
}

/// CPU time of this process since its creation, ended threads included.
///
/// # Errors
/// When the clock can't be read.
pub fn process_cpu() -> io::Result<Duration> {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Takes a file's clean pages out of the page cache.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_page_cache(file: &File) -> io::Result<()> {
    // SAFETY: no memory is passed.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Whether the kernel has a file's first page in its page cache; the mapping reads nothing.
///
/// # Errors
/// When the file can't be mapped, or mincore fails.
pub fn first_page_is_cached(file: &File) -> io::Result<bool> {
    let (size, mut cached) = (page_size() as usize, 0_u8);
    // SAFETY: only this function has the mapping, and never touches it; `cached` has a byte for its one page.
    unsafe {
        let null = std::ptr::null_mut();
        let page = libc::mmap(null, size, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let result = check(libc::mincore(page, size, &raw mut cached));
        libc::munmap(page, size);
        result?;
    }
    Ok(cached & 1 == 1)
}

/// Writes the dirty pages of a file's file system out.
///
/// # Errors
/// When the disk reports an error.
pub fn sync_file_system(file: &File) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syncfs(file.as_raw_fd()) }).map(drop)
}

/// Size of the file system at a path, in bytes.
///
/// # Errors
/// When there is nothing at the path.
pub fn file_system_bytes(path: &Path) -> io::Result<u64> {
    let path = c_path(path)?;
    // SAFETY: all zeros is a valid value of this plain struct.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a live, NUL-terminated string, and the struct is live.
    check(unsafe { libc::statvfs(path.as_ptr(), &raw mut about) })?;
    Ok(about.f_blocks.saturating_mul(about.f_frsize))
}

/// Whether permissions and mount let this process write there.
pub fn may_write(path: &Path) -> bool {
    // SAFETY: the path is a live, NUL-terminated string.
    c_path(path).is_ok_and(|path| unsafe { libc::access(path.as_ptr(), libc::W_OK) } == 0)
}

/// Time since the kernel's start, suspend included.
///
/// # Errors
/// When the clock can't be read.
pub fn uptime() -> io::Result<Duration> {
    clock(libc::CLOCK_BOOTTIME)
}

/// CLOCK_MONOTONIC, the clock of systemd's time stamps.
///
/// # Errors
/// When the clock can't be read.
pub fn monotonic() -> io::Result<Duration> {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(id: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    check(unsafe { libc::clock_gettime(id, &mut time) })?;
    Ok(Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32))
}

/// Clock ticks of `/proc/PID/stat` in a second.
pub fn ticks_per_second() -> u64 {
    // SAFETY: no memory is involved.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64
}

/// Calls `mount(2)`; `data` is mount(8)'s `-o`.
///
/// # Errors
/// When a text has a NUL byte, or the kernel refuses.
pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let c = |text: &str| c_path(Path::new(text));
    let (source, target, kind, data) = (c(source)?, c(target)?, c(kind)?, c(data)?);
    // SAFETY: all four are live, NUL-terminated strings.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    })?;
    Ok(())
}

/// Loads a kernel module from a file.
///
/// # Errors
/// When the kernel refuses: EEXIST for a loaded module.
pub fn load_module(file: &File) -> io::Result<()> {
    // SAFETY: the parameters are a live, empty, NUL-terminated string.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    check(result as libc::c_int).map(drop)
}

/// Sets the hostname of this UTS namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are of one live string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// A network interface, addressed by its name.
pub struct Interface {
    socket: OwnedFd,
    request: libc::ifreq,
}

impl Interface {
    /// An interface by name, shorter than 16 bytes; a missing one fails in the other methods.
    ///
    /// # Errors
    /// When there is no socket for it.
    pub fn new(name: &str) -> io::Result<Self> {
        // SAFETY: the socket is new and has no other owner; all-zero is a valid request.
        let (socket, mut request) = unsafe {
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
            let socket = OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?);
            (socket, std::mem::zeroed::<libc::ifreq>())
        };
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Interface { socket, request })
    }

    /// Gets or sets an attribute by an `ifreq`.
    fn ask(&self, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: `what` is one of SIOC[GS]IF*, which read and write nothing but the live request.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), what as _, &raw mut *request) }).map(drop)
    }

    /// Brings it up; the kernel then gives the loopback interface 127.0.0.1.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn up(&self) -> io::Result<()> {
        let mut request = self.request;
        self.ask(libc::SIOCGIFFLAGS as _, &mut request)?;
        // SAFETY: the kernel has filled in this field of the union.
        unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
        self.ask(libc::SIOCSIFFLAGS as _, &mut request)
    }

    /// Sets its address and netmask.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn set_address(&self, address: Ipv4Addr, netmask: Ipv4Addr) -> io::Result<()> {
        let mut request = self.request;
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.ask(libc::SIOCSIFADDR as _, &mut request)?;
        request.ifr_ifru.ifru_netmask = socket_address(netmask);
        self.ask(libc::SIOCSIFNETMASK as _, &mut request)
    }

    /// Makes a neighbour on its network the default gateway.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn route_by(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // SAFETY: all-zero is a valid route; the kernel only reads it.
        unsafe {
            let mut route: libc::rtentry = std::mem::zeroed();
            route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
            route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
            route.rt_gateway = socket_address(gateway);
            route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
            check(libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route)).map(drop)
        }
    }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // After the port.
    for (to, from) in data[2..].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

/// A netlink socket on which the kernel reports new devices.
///
/// # Errors
/// When the kernel refuses the socket.
pub fn device_events() -> io::Result<OwnedFd> {
    // SAFETY: the socket is new and has no other owner; the address is fully initialised.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = check(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT))?;
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = 1;
        let length = size_of_val(&address) as libc::socklen_t;
        check(libc::bind(fd, (&raw const address).cast(), length))?;
        Ok(socket)
    }
}

/// Whether the other side of a virtio-serial port is not yet connected: the kernel reports POLLHUP until it is.
///
/// # Errors
/// When poll fails.
pub fn hung_up(port: &File) -> io::Result<bool> {
    let mut fds = [readable(port.as_raw_fd())];
    poll(&mut fds, Some(Duration::ZERO))?;
    Ok(fds[0].revents & libc::POLLHUP != 0)
}

/// Ends the machine; returns only if the kernel refuses.
pub fn power_off() {
    // SAFETY: no memory is involved.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

/// Miri runs these too: they need no system call that it lacks.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_out_of_the_environment() {
        let name = c"BOOTRACE_TAKEN";
        // SAFETY: both are C strings, and no other test touches the environment.
        assert_eq!(unsafe { libc::setenv(name.as_ptr(), c"a secret".as_ptr(), 1) }, 0);
        assert_eq!(take_variable(name).as_deref(), Some("a secret"));
        assert_eq!(take_variable(name), None);
    }

    #[test]
    fn an_address_lies_after_the_port() {
        let address = socket_address(Ipv4Addr::new(192, 168, 1, 250));
        let data = address.sa_data.map(|byte| byte as u8);
        assert_eq!(data, [0, 0, 192, 168, 1, 250, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn clocks_go_on_and_a_page_is_a_power_of_two() {
        let before = monotonic().unwrap();
        assert!(monotonic().unwrap() >= before);
        assert!(page_size().is_power_of_two());
    }
}
