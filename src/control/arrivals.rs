//! The connections to an instance's socket, until one of them is its agent: the first whose first frame has the nonce.
//!
//! Anyone else is refused and costs the agent nothing: no connection waits for another one, and reading never blocks.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use bootrace_agent::protocol::{FrameError, FromAgent, MAX_FRAME, read_frame};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::sockopt::socket_peercred,
};

use super::{nonce::Nonce, timestamp::Timestamp};

/// Most connections that may be silent at a time; another one is refused.
const MOST: usize = 16;

/// The rule for admission to one instance's channel.
pub struct Door<'a> {
    pub socket: &'a Path,
    pub nonce: &'a Nonce,
    /// The frame with the agent's first message.
    pub greeting: &'a [u8],
    /// Whether each connection gets it before its first frame.
    pub at_once: bool,
}

/// The instance's own connection.
pub struct Admitted {
    pub stream: UnixStream,
    /// Host pid of the other end.
    pub pid: u32,
    pub first: FromAgent,
    /// When the first frame was complete.
    pub at: Timestamp,
    /// The rest of the greeting, to be sent now.
    pub unsent: Vec<u8>,
}

impl Door<'_> {
    /// Waits for the agent; `None` if the harness's own connection, which it hands to a bare process's agent, has ended.
    /// `refused` gets the reason for each refusal.
    ///
    /// # Errors
    /// When the listener fails or is shut down, or the harness's own connection has another frame.
    pub fn admit(
        &self,
        listener: &UnixListener,
        mut refused: impl FnMut(String),
    ) -> Result<Option<Admitted>, FrameError> {
        let own = std::process::id();
        let mut arrivals: Vec<Arrival> = Vec::new();
        loop {
            let streams = arrivals.iter().map(|arrival| PollFd::new(&arrival.stream, PollFlags::IN));
            let mut fds: Vec<_> = [PollFd::new(listener, PollFlags::IN)].into_iter().chain(streams).collect();
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                result => result.map_err(io::Error::from)?,
            };
            let eventful: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            // Backwards, since a removal moves those behind it.
            for index in (0..arrivals.len()).rev().filter(|index| eventful[index + 1]) {
                let frame = arrivals[index].first_frame();
                let at = Timestamp::now();
                let why = match frame {
                    Ok(None) => continue,
                    Ok(Some(first)) if first.nonce().is_some_and(|nonce| self.nonce.is(nonce)) => {
                        let Arrival { stream, pid, unsent, .. } = arrivals.swap_remove(index);
                        stream.set_nonblocking(false)?;
                        return Ok(Some(Admitted { stream, pid, first, at, unsent }));
                    }
                    Ok(Some(_)) => "its first frame does not have the instance's nonce".to_owned(),
                    Err(FrameError::Truncated) if arrivals[index].pid == own => return Ok(None),
                    Err(error) if arrivals[index].pid == own => return Err(error),
                    Err(FrameError::Truncated) => "it has ended before its first frame".to_owned(),
                    Err(error) => error.to_string(),
                };
                let stranger = arrivals.swap_remove(index);
                refused(format!("process {} of user {}: {why}", stranger.pid, stranger.uid));
            }
            if eventful[0] {
                match self.arrival(listener.accept()?.0, arrivals.len())? {
                    Ok(arrival) => arrivals.push(arrival),
                    Err(why) => refused(why),
                }
            }
        }
    }

    /// A new connection; else why it is refused.
    fn arrival(&self, stream: UnixStream, silent: usize) -> io::Result<Result<Arrival, String>> {
        let peer = socket_peercred(&stream)?;
        let (uid, pid) = (peer.uid.as_raw(), peer.pid.as_raw_pid().unsigned_abs());
        let is_owner = || fs::symlink_metadata(self.socket).is_ok_and(|socket| socket.uid() == uid);
        if uid != 0 && !is_owner() {
            return Ok(Err(format!("process {pid} of user {uid}: this user may not connect")));
        }
        if silent >= MOST {
            return Ok(Err(format!(
                "process {pid} of user {uid}: {silent} others are connected and say nothing"
            )));
        }
        stream.set_nonblocking(true)?;
        let mut arrival = Arrival { stream, pid, uid, frame: Vec::new(), unsent: self.greeting.to_vec() };
        if self.at_once {
            // As much as the socket takes: a stranger need not read. If its end has closed, the next read says so.
            let sent = arrival.stream.write(&arrival.unsent).unwrap_or(0);
            arrival.unsent.drain(..sent);
        }
        Ok(Ok(arrival))
    }
}

/// A connection whose first frame is not complete.
struct Arrival {
    stream: UnixStream,
    pid: u32,
    uid: u32,
    frame: Vec<u8>,
    unsent: Vec<u8>,
}

impl Arrival {
    /// Reads what is there, and nothing beyond the first frame; `None` until that is complete.
    fn first_frame(&mut self) -> Result<Option<FromAgent>, FrameError> {
        let mut piece = [0; 4096];
        loop {
            let whole = match self.frame.first_chunk() {
                None => 4,
                Some(length) => match u32::from_le_bytes(*length) as usize {
                    length if length > MAX_FRAME => return Err(FrameError::TooLarge(length)),
                    length => 4 + length,
                },
            };
            let missing = whole - self.frame.len();
            if missing == 0 {
                return read_frame(&mut self.frame.as_slice());
            }
            match self.stream.read(&mut piece[..missing.min(4096)]) {
                Ok(0) => return Err(FrameError::Truncated),
                Ok(n) => self.frame.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Err(FrameError::Truncated),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
