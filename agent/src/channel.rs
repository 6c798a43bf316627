//! The control stream as the agent holds it.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bootrace_agent::protocol::{self, FrameError, FromAgent, ToAgent};

/// Largest error text sent, in bytes: a hostile argv must not make the frame that reports it too large.
const MAX_ERROR: usize = 4096;

/// The stream to the harness: one reader, and writers in several threads.
#[derive(Debug)]
pub struct Channel {
    reader: File,
    writer: Writer,
    /// What says that the instance is requested; `None`: it was before we were started.
    go: Option<File>,
}

/// Sends whole frames; clones share one lock.
#[derive(Debug, Clone)]
pub struct Writer(Arc<Mutex<File>>);

impl Channel {
    /// A stream that is open for both directions.
    pub fn new(stream: OwnedFd) -> io::Result<Self> {
        let reader = File::from(stream);
        let writer = Writer(Arc::new(Mutex::new(reader.try_clone()?)));
        Ok(Channel { reader, writer, go: None })
    }

    /// Connects to the harness's socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Channel::new(OwnedFd::from(UnixStream::connect(socket)?))
    }

    /// The stream that whoever started us has connected already, and what to wait for on standard output. No program
    /// that we start gets them: each has streams of its own.
    pub fn on_stdin() -> io::Result<Self> {
        let mut channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        channel.go = Some(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        Ok(channel)
    }

    /// Returns when the instance is requested.
    ///
    /// # Errors
    /// When it never will be: the harness is gone.
    pub fn wait(&mut self) -> io::Result<()> {
        self.go.take().map_or(Ok(()), |mut go| go.read_exact(&mut [0]))
    }

    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Reads one whole frame; `None` at the end of the stream. Blocks within a frame, since the
    /// harness writes each at once.
    pub fn receive(&mut self) -> Result<Option<ToAgent>, FrameError> {
        protocol::read_frame(&mut self.reader)
    }
}

impl Writer {
    pub fn send(&self, message: &FromAgent) -> Result<(), FrameError> {
        protocol::write_frame(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), message)
    }

    /// Sends `Failed`, cut to a bounded length.
    pub fn fail(&self, error: impl ToString) -> Result<(), FrameError> {
        let mut error = error.to_string();
        if error.len() > MAX_ERROR {
            error.truncate(error.floor_char_boundary(MAX_ERROR));
            error.push_str("...");
        }
        self.send(&FromAgent::Failed { error })
    }
}
