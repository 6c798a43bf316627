//! The agent's end of the control stream.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bootrace_agent::protocol::{self, FrameError, FromAgent, ToAgent};

/// Largest error text to send, in bytes: a hostile argv must not make its error's frame too large.
const MAX_ERROR: usize = 4096;

/// The stream to the harness: one reader, and writers in several threads.
#[derive(Debug)]
pub struct Channel {
    reader: File,
    writer: Writer,
    /// Gives a byte when the instance is requested; `None`: that was before the agent's start.
    go: Option<File>,
}

/// Sends whole frames; clones share one lock.
#[derive(Debug, Clone)]
pub struct Writer {
    stream: Arc<Mutex<File>>,
    /// The instance's nonce.
    nonce: Arc<str>,
}

impl Channel {
    /// A stream that is open for both directions, and the nonce by which the harness knows this agent.
    ///
    /// # Errors
    /// When the descriptor can't be duplicated.
    pub fn new(stream: OwnedFd, nonce: String) -> io::Result<Self> {
        let reader = File::from(stream);
        let writer = Writer { stream: Arc::new(Mutex::new(reader.try_clone()?)), nonce: nonce.into() };
        Ok(Channel { reader, writer, go: None })
    }

    /// Connects to the harness's socket.
    ///
    /// # Errors
    /// When the socket does not accept.
    pub fn connect(socket: &Path, nonce: String) -> io::Result<Self> {
        Channel::new(OwnedFd::from(UnixStream::connect(socket)?), nonce)
    }

    /// Standard input as the connected stream, and standard output for the signal to wait for. Programs that the agent
    /// starts get neither: each has its own streams.
    ///
    /// # Errors
    /// When a descriptor can't be duplicated.
    pub fn on_stdin(nonce: String) -> io::Result<Self> {
        let mut channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?, nonce)?;
        channel.go = Some(File::from(io::stdout().as_fd().try_clone_to_owned()?));
        Ok(channel)
    }

    /// Returns when the instance is requested.
    ///
    /// # Errors
    /// When the harness is gone.
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
    ///
    /// # Errors
    /// When the stream fails, and for a frame that is not a request.
    pub fn receive(&mut self) -> Result<Option<ToAgent>, FrameError> {
        protocol::read_frame(&mut self.reader)
    }
}

impl Writer {
    /// Sends one message.
    ///
    /// # Errors
    /// When the stream fails or the message is too large.
    pub fn send(&self, message: &FromAgent) -> Result<(), FrameError> {
        protocol::write_frame(&mut *self.stream.lock().unwrap_or_else(PoisonError::into_inner), message)
    }

    /// The nonce for messages that may be the first of their stream.
    pub fn nonce(&self) -> String {
        self.nonce.to_string()
    }

    /// Sends `Failed`, cut to a bounded length.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn fail(&self, error: impl ToString) -> Result<(), FrameError> {
        let mut error = error.to_string();
        if error.len() > MAX_ERROR {
            error.truncate(error.floor_char_boundary(MAX_ERROR));
            error.push_str("...");
        }
        self.send(&FromAgent::Failed { error, nonce: self.nonce() })
    }
}
