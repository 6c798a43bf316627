//! Watches for the event that makes a workload ready.
//!
//! The kernel reports `exit`, `line` and `file` at once. It reports nothing when a port begins to listen, so `tcp`
//! tries to connect, by IPv4 and then by IPv6: every millisecond, or after twenty times the duration of the last try
//! where that is longer. So the tries take at most a twentieth of the workload's CPU, and their interval is the
//! resolution.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bootrace_agent::protocol::Ready;
use regex_lite::Regex;

use crate::sys;

/// Shortest time between two tries to connect.
const TCP_INTERVAL: Duration = Duration::from_millis(1);
/// Time between two tries, in durations of the last one.
const TCP_COST: u32 = 20;
/// Longest try. Loopback answers at once; only a full backlog delays an answer.
const TCP_TIMEOUT: Duration = Duration::from_millis(20);
/// Longest try before the workload starts; a port without an answer then counts as taken. On a busy host, a free
/// port's answer may be late.
const TCP_FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for IPv6, which many firewalls drop on every interface: a port without an answer is then watched by IPv4
/// alone, and this wait is part of each start-up.
const IPV6_FIRST_TIMEOUT: Duration = Duration::from_millis(200);
/// Most bytes of a line to match.
const MAX_LINE: usize = 64 * 1024;

/// The addresses of the loopback interface: a server may listen at one alone.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Why the agent can't watch for a readiness event; detected before the workload starts.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("watch for a line: {pattern:?} is not a regular expression: {error}")]
    Pattern { pattern: String, error: regex_lite::Error },
    #[error(
        "watch port {port}: something accepts connections on {address} before the workload has started, and would pass for it; stop that, or use another port",
        port = address.port()
    )]
    PortTaken { address: SocketAddr },
    #[error("watch port {port}: connect to 127.0.0.1: {error}; is the loopback interface up?")]
    Loopback { port: u16, error: io::Error },
    #[error(
        "watch for {0:?}: it exists before the workload has started; name a path that only the workload makes"
    )]
    FileExists(PathBuf),
    #[error("watch for {path:?}: {tried}: {error}")]
    File { path: PathBuf, tried: &'static str, error: io::Error },
}

/// A watch for one event; its methods return true once the event has happened.
#[derive(Debug)]
pub enum Watch {
    Exit(i32),
    Line(Lines),
    Tcp(Port),
    File(FileWatch),
}

impl Watch {
    /// Prepares the watch.
    ///
    /// # Errors
    /// When the event has already happened, or can't be watched for.
    pub fn new(ready: &Ready) -> Result<Self, WatchError> {
        match ready {
            Ready::Exit(code) => Ok(Watch::Exit(*code)),
            Ready::Line(pattern) => match Regex::new(pattern) {
                Ok(regex) => Ok(Watch::Line(Lines { regex, partial: Default::default() })),
                Err(error) => Err(WatchError::Pattern { pattern: pattern.clone(), error }),
            },
            Ready::Tcp(port) => {
                let [v4, v6] = LOOPBACK.map(|ip| SocketAddr::from((ip, *port)));
                match TcpStream::connect_timeout(&v4, TCP_FIRST_TIMEOUT) {
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(e) if e.kind() != io::ErrorKind::TimedOut => {
                        return Err(WatchError::Loopback { port: *port, error: e });
                    }
                    Ok(_) | Err(_) => return Err(WatchError::PortTaken { address: v4 }),
                }
                let answers = match TcpStream::connect_timeout(&v6, IPV6_FIRST_TIMEOUT) {
                    Ok(_) => return Err(WatchError::PortTaken { address: v6 }),
                    Err(e) => e.kind() == io::ErrorKind::ConnectionRefused,
                };
                Ok(Watch::port(if answers { vec![v4, v6] } else { vec![v4] }))
            }
            Ready::File(path) => FileWatch::new(Path::new("/").join(path)).map(Watch::File),
        }
    }

    /// A watch for a port that accepted connections before a pause.
    pub fn again(port: u16) -> Self {
        Watch::port(LOOPBACK.map(|ip| SocketAddr::from((ip, port))).into())
    }

    fn port(addresses: Vec<SocketAddr>) -> Self {
        Watch::Tcp(Port { addresses, due: Instant::now() })
    }

    /// Takes bytes of standard output (0) or standard error (1); `None` is the stream's end.
    pub fn output(&mut self, stream: usize, bytes: Option<&[u8]>) -> bool {
        match self {
            Watch::Line(lines) => lines.push(stream, bytes),
            _ => false,
        }
    }

    /// A descriptor that becomes readable when [`Watch::check`] should be called.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Watch::File(file) => Some(file.inotify.as_raw_fd()),
            _ => None,
        }
    }

    /// When [`Watch::check`] should be called at the latest.
    pub fn interval(&self) -> Option<Duration> {
        match self {
            Watch::Tcp(port) => Some(port.due.saturating_duration_since(Instant::now())),
            _ => None,
        }
    }

    /// Whether the event has happened.
    pub fn check(&mut self) -> bool {
        match self {
            Watch::Exit(_) | Watch::Line(_) => false,
            Watch::Tcp(port) => port.due <= Instant::now() && port.accepts(),
            Watch::File(file) => file.check(),
        }
    }

    /// Takes the workload's exit code, after all of its output.
    pub fn exited(&mut self, code: Option<i32>) -> bool {
        match self {
            Watch::Exit(wanted) => code == Some(*wanted),
            // The first process of a program that goes to the background exits when the program is ready.
            Watch::Tcp(port) => port.accepts(),
            _ => self.check(),
        }
    }
}

/// A port of the loopback addresses, and the time of the next try.
#[derive(Debug)]
pub struct Port {
    addresses: Vec<SocketAddr>,
    due: Instant,
}

impl Port {
    fn accepts(&mut self) -> bool {
        let begin = Instant::now();
        let accepts =
            self.addresses.iter().any(|address| TcpStream::connect_timeout(address, TCP_TIMEOUT).is_ok());
        let now = Instant::now();
        self.due = now + TCP_INTERVAL.max(TCP_COST * (now - begin));
        accepts
    }
}

/// The lines of two streams, and the pattern.
#[derive(Debug)]
pub struct Lines {
    regex: Regex,
    /// The incomplete last line of each stream.
    partial: [Vec<u8>; 2],
}

impl Lines {
    fn push(&mut self, stream: usize, bytes: Option<&[u8]>) -> bool {
        let partial = &mut self.partial[stream];
        let Some(bytes) = bytes else {
            // The end of a stream completes its last line.
            return !partial.is_empty() && line_matches(&self.regex, partial);
        };
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let (text, whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = MAX_LINE.saturating_sub(partial.len()).min(text.len());
            partial.extend_from_slice(&text[..room]);
            if whole {
                if line_matches(&self.regex, partial) {
                    return true;
                }
                partial.clear();
            }
        }
        false
    }
}

fn line_matches(regex: &Regex, line: &[u8]) -> bool {
    regex.is_match(&String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// A path that does not exist yet. It watches the deepest existing directory above it.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    inotify: File,
    watch: Option<i32>,
}

impl FileWatch {
    fn new(path: PathBuf) -> Result<Self, WatchError> {
        if path.symlink_metadata().is_ok() {
            return Err(WatchError::FileExists(path));
        }
        let failed = |tried, error| WatchError::File { path: path.clone(), tried, error };
        let inotify = sys::inotify().map_err(|e| failed("inotify", e))?;
        let mut watch = FileWatch { path: path.clone(), inotify, watch: None };
        watch.follow().map_err(|e| failed("watch the directory that it will be in", e))?;
        Ok(watch)
    }

    fn check(&mut self) -> bool {
        // The events' content doesn't matter: the path itself is checked.
        let mut events = [0; 4096];
        while matches!(self.inotify.read(&mut events), Ok(n) if n > 0) {}
        // Where the watch can't follow (the directories disappear), the workload is never ready,
        // and the harness reports its time-out.
        let _ = self.follow();
        self.path.symlink_metadata().is_ok()
    }

    /// Watches the deepest existing directory. It checks again after each new watch, since the next
    /// directory may have appeared in between. A directory that was removed and made again gets
    /// a new watch.
    fn follow(&mut self) -> io::Result<()> {
        loop {
            let deepest = self.path.ancestors().skip(1).find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
            let watch = sys::watch_directory(&self.inotify, deepest)?;
            match self.watch.replace(watch) {
                Some(old) if old == watch => return Ok(()),
                Some(old) => sys::unwatch(&self.inotify, old),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pattern: &str) -> Watch {
        Watch::new(&Ready::Line(pattern.into())).unwrap()
    }

    /// An address of ::1 that answers nobody, as behind a firewall: its queue of connections is full.
    #[expect(unsafe_code, reason = "the standard library has no way to shorten the queue of a listener")]
    fn silent() -> (std::net::TcpListener, Vec<TcpStream>) {
        let server = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        // SAFETY: a valid descriptor.
        assert_eq!(unsafe { libc::listen(server.as_raw_fd(), 0) }, 0);
        let address = server.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, TCP_TIMEOUT).ok();
        let waiting = std::iter::from_fn(connect).take(100).collect();
        (server, waiting)
    }

    #[test]
    fn where_ipv6_is_silent_a_port_is_watched_by_ipv4_alone() {
        let (server, _waiting) = silent();
        let port = server.local_addr().unwrap().port();
        let mut watch = Watch::new(&Ready::Tcp(port)).unwrap();
        drop(server);
        let _later = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port));
        assert!(!watch.check(), "nobody listens on IPv4");
        let _server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(watch.exited(None));
    }

    #[test]
    fn a_line_counts_when_it_is_whole_and_not_before() {
        let mut watch = lines("^ready$");
        assert!(!watch.output(0, Some(b"not ready\nrea")));
        assert!(!watch.output(0, Some(b"dy")));
        assert!(watch.output(0, Some(b"\n")));
    }

    #[test]
    fn the_two_streams_have_lines_of_their_own() {
        let mut watch = lines("^ready$");
        assert!(!watch.output(0, Some(b"rea")));
        assert!(!watch.output(1, Some(b"dy\n")));
        assert!(watch.output(1, Some(b"ready\r\n")));
    }

    #[test]
    fn the_end_of_a_stream_makes_its_last_line_whole() {
        let mut watch = lines("ready");
        assert!(!watch.output(1, Some(b"ready")));
        assert!(watch.output(1, None));
    }

    #[test]
    fn of_a_long_line_only_the_beginning_is_looked_at_and_kept() {
        let mut watch = lines("ready");
        for _ in 0..100 {
            assert!(!watch.output(0, Some(&[b'x'; 4096])));
        }
        let Watch::Line(kept) = &watch else { unreachable!("made by lines()") };
        assert_eq!(kept.partial[0].len(), MAX_LINE);
        assert!(!watch.output(0, Some(b"ready\n")));
        assert!(watch.output(0, Some(b"ready\n")));
    }

    #[test]
    fn invalid_utf8_is_no_obstacle() {
        assert!(lines("ready").output(0, Some(b"\xff\xferead\xffready\n")));
    }
}
