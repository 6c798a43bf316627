//! The event that makes a workload ready, watched for beside it.
//!
//! `exit`, `line` and `file` are events of the kernel and seen at once. There is none for a port
//! that begins to listen, so `tcp` tries to connect: every millisecond, or after twenty times what a try
//! took where that is more, so that trying takes at most a twentieth of the workload's CPU. That is its
//! resolution.

use std::{
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bootrace_agent::protocol::Ready;
use regex_lite::Regex;

use crate::sys;

/// Shortest time between two tries to connect.
const TCP_INTERVAL: Duration = Duration::from_millis(1);
/// Time between two tries in units of what the last one took.
const TCP_COST: u32 = 20;
/// Loopback answers at once; only a full backlog keeps a try waiting, and it may not keep us.
const TCP_TIMEOUT: Duration = Duration::from_millis(20);
/// Of the one try before the workload starts, after which a port without an answer counts as taken. A busy host is
/// late with the answer of a free one, too.
const TCP_FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a line is looked at, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Why a readiness event can't be watched for; found before the workload starts.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("watch for a line: {pattern:?} is not a regular expression: {error}")]
    Pattern { pattern: String, error: regex_lite::Error },
    #[error(
        "watch port {0}: something accepts connections on 127.0.0.1:{0} before the workload has started, and would pass for it; stop that, or use another port"
    )]
    PortTaken(u16),
    #[error("watch port {port}: connect to 127.0.0.1: {error}; is the loopback interface up?")]
    Loopback { port: u16, error: io::Error },
    #[error(
        "watch for {0:?}: it exists before the workload has started; name a path that only the workload makes"
    )]
    FileExists(PathBuf),
    #[error("watch for {path:?}: {tried}: {error}")]
    File { path: PathBuf, tried: &'static str, error: io::Error },
}

/// A watch for one event; each question is answered with true once it has happened.
#[derive(Debug)]
pub enum Watch {
    Exit(i32),
    Line(Lines),
    Tcp(Port),
    File(FileWatch),
}

impl Watch {
    /// Gets ready to watch, and makes sure that the event hasn't happened already.
    pub fn new(ready: &Ready) -> Result<Self, WatchError> {
        match ready {
            Ready::Exit(code) => Ok(Watch::Exit(*code)),
            Ready::Line(pattern) => match Regex::new(pattern) {
                Ok(regex) => Ok(Watch::Line(Lines { regex, partial: Default::default() })),
                Err(error) => Err(WatchError::Pattern { pattern: pattern.clone(), error }),
            },
            Ready::Tcp(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                match TcpStream::connect_timeout(&address, TCP_FIRST_TIMEOUT) {
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                        Ok(Watch::Tcp(Port { address, due: Instant::now() }))
                    }
                    Err(e) if e.kind() != io::ErrorKind::TimedOut => {
                        Err(WatchError::Loopback { port: *port, error: e })
                    }
                    Ok(_) | Err(_) => Err(WatchError::PortTaken(*port)),
                }
            }
            Ready::File(path) => FileWatch::new(Path::new("/").join(path)).map(Watch::File),
        }
    }

    /// Of a port that accepted connections before, and may have to be waited for once more.
    pub fn again(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Watch::Tcp(Port { address, due: Instant::now() })
    }

    /// Something was written on standard output (0) or standard error (1); `None`: that has ended.
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

    /// Looks whether the event has happened.
    pub fn check(&mut self) -> bool {
        match self {
            Watch::Exit(_) | Watch::Line(_) => false,
            Watch::Tcp(port) => port.due <= Instant::now() && port.accepts(),
            Watch::File(file) => file.check(),
        }
    }

    /// The workload ended with this code, all of its output seen.
    pub fn exited(&mut self, code: Option<i32>) -> bool {
        match self {
            Watch::Exit(wanted) => code == Some(*wanted),
            // A program that goes to the background exits in its first process when it is ready.
            Watch::Tcp(port) => port.accepts(),
            _ => self.check(),
        }
    }
}

/// A port of the loopback interface, and when it is tried next.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    due: Instant,
}

impl Port {
    fn accepts(&mut self) -> bool {
        let begin = Instant::now();
        let accepts = TcpStream::connect_timeout(&self.address, TCP_TIMEOUT).is_ok();
        let now = Instant::now();
        self.due = now + TCP_INTERVAL.max(TCP_COST * (now - begin));
        accepts
    }
}

/// Lines of two streams, and what they must match.
#[derive(Debug)]
pub struct Lines {
    regex: Regex,
    /// The beginning of the line that isn't whole yet, per stream.
    partial: [Vec<u8>; 2],
}

impl Lines {
    fn push(&mut self, stream: usize, bytes: Option<&[u8]>) -> bool {
        let partial = &mut self.partial[stream];
        let Some(bytes) = bytes else {
            // The end of a stream makes its last line whole.
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

/// A path that is to appear. What is watched is the deepest directory on the way that exists.
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
        // What happened doesn't matter: the path is looked at itself.
        let mut events = [0; 4096];
        while matches!(self.inotify.read(&mut events), Ok(n) if n > 0) {}
        // Where the watch can't follow (the directories are being taken away), the workload is
        // never ready, and the harness's time-out says so.
        let _ = self.follow();
        self.path.symlink_metadata().is_ok()
    }

    /// Watches the deepest directory that exists. Looks again after each new watch, since the next
    /// directory may have come between looking and watching. A directory that was removed and
    /// made again has a new watch.
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
