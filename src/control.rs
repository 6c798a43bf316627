//! The host's side of the control channel: one unix socket per instance, one clock for all.
//!
//! The harness listens before it requests the instance. The first connection is the instance: the agent itself, or
//! QEMU for the virtio-serial port of a VM. A dedicated thread blocks in `read` and stamps each frame as soon as it is
//! complete, so that no event loop stands between an event and its timestamp.

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::AsFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bootrace_agent::protocol::{FrameError, FromAgent, ToAgent, read_frame, write_frame};
use rustix::net::{Shutdown, shutdown, sockopt::socket_peercred};
use tokio::sync::mpsc;

use crate::sys::sockets;

/// A timestamp of the host's CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Timestamp(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// Nanoseconds from `earlier` to this timestamp; 0 if it is not earlier.
    pub fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An event of the channel with its timestamp.
#[derive(Debug)]
pub struct Event {
    pub at: Timestamp,
    pub what: ChannelEvent,
}

#[derive(Debug)]
pub enum ChannelEvent {
    Said(FromAgent),
    /// The instance's end of the stream closed.
    Closed,
    /// The data does not follow the protocol; the thread reads no more.
    Broken(FrameError),
}

/// The number of frames that may wait for the runner. A guest that floods the channel blocks itself.
const BACKLOG: usize = 64;

/// The channel to one instance. Dropping it ends the stream; the agent then kills its workload and ends too.
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
}

/// State of the receiving thread and the owner.
#[derive(Debug)]
struct Shared {
    listener: UnixListener,
    /// The stream to the peer, and the peer's host pid.
    peer: OnceLock<(UnixStream, u32)>,
    dropped: AtomicBool,
}

impl Shared {
    /// Ends the stream. The owner calls it when it is dropped. The thread calls it after `accept`, since the owner may
    /// have been dropped just before. The second of the two calls ends the stream.
    fn hang_up(&self) {
        if let Some((stream, _)) = self.peer.get().filter(|_| self.dropped.load(Ordering::SeqCst)) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// When the host sends an instance its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// As soon as the stream is open, so that the measured path has no round trip of the harness.
    AtOnce,
    /// After the agent's hello. UEFI's driver of virtio-serial (`OvmfPkg/VirtioSerialDxe`, in OVMF since 2023) opens
    /// each port before, reads what waits there and drops it.
    AfterHello,
}

impl Control {
    /// Listens at `socket`, and sends `first` to the first peer that connects. Only root may connect, and the owner of the
    /// socket, to whom root may give it: libvirt gives it to QEMU's user.
    ///
    /// # Errors
    /// When the socket can't be made at that path.
    pub fn listen(socket: &Path, first: ToAgent, greeting: Greeting) -> io::Result<Self> {
        let listener = sockets::listen(socket)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
        let path = socket.to_owned();
        let shared = Arc::new(Shared { listener, peer: OnceLock::new(), dropped: AtomicBool::new(false) });
        let (sender, events) = mpsc::channel(BACKLOG);
        let its = shared.clone();
        thread::Builder::new().name("control".into()).spawn(move || {
            if let Err(error) = receive(&its, &path, &first, greeting, &sender) {
                let _ =
                    sender.blocking_send(Event { at: Timestamp::now(), what: ChannelEvent::Broken(error) });
            }
        })?;
        Ok(Control { shared, events })
    }

    /// Host pid of the process at the other end: the agent, or QEMU. `None` until the first frame arrives.
    pub fn peer(&self) -> Option<u32> {
        self.shared.peer.get().map(|(_, pid)| *pid)
    }

    /// The next event. Events keep their order and their timestamps however late they are read.
    pub async fn next(&mut self) -> Event {
        let ended = || Event { at: Timestamp::now(), what: ChannelEvent::Closed };
        self.events.recv().await.unwrap_or_else(ended)
    }

    /// # Errors
    /// When nobody has connected yet, or the stream is closed.
    pub fn send(&self, message: &ToAgent) -> Result<(), FrameError> {
        let (stream, _) = self.shared.peer.get().ok_or(FrameError::Io(ErrorKind::NotConnected.into()))?;
        write_frame(&mut &*stream, message)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Ordering::SeqCst);
        // Wakes an `accept` that still waits.
        let _ = shutdown(self.shared.listener.as_fd(), Shutdown::Both);
        self.shared.hang_up();
    }
}

/// The first connection of a process that may connect, and its host pid.
fn accept(listener: &UnixListener, socket: &Path) -> io::Result<(UnixStream, u32)> {
    loop {
        let (stream, _) = listener.accept()?;
        let peer = socket_peercred(&stream)?;
        let uid = peer.uid.as_raw();
        if uid == 0 || fs::symlink_metadata(socket).is_ok_and(|socket| socket.uid() == uid) {
            return Ok((stream, peer.pid.as_raw_pid().unsigned_abs()));
        }
        tracing::warn!("user {uid} may not connect to {}", socket.display());
    }
}

fn receive(
    shared: &Shared,
    socket: &Path,
    first: &ToAgent,
    greeting: Greeting,
    sender: &mpsc::Sender<Event>,
) -> Result<(), FrameError> {
    let (mut stream, pid) = accept(&shared.listener, socket)?;
    let _ = shared.peer.set((stream.try_clone()?, pid));
    shared.hang_up();
    let mut greeted = greeting == Greeting::AtOnce;
    if greeted {
        write_frame(&mut stream, first)?;
    }
    loop {
        let message = read_frame(&mut stream);
        let at = Timestamp::now();
        let mut refused = None;
        if !greeted && matches!(message, Ok(Some(_))) {
            greeted = true;
            refused = write_frame(&mut stream, first).err();
        }
        let what = match message {
            Ok(Some(message)) => ChannelEvent::Said(message),
            Ok(None) => ChannelEvent::Closed,
            Err(FrameError::Io(e)) if e.kind() == ErrorKind::ConnectionReset => ChannelEvent::Closed,
            Err(error) => ChannelEvent::Broken(error),
        };
        let last = !matches!(what, ChannelEvent::Said(_));
        if sender.blocking_send(Event { at, what }).is_err() || last {
            return Ok(());
        }
        match refused {
            // If the peer has gone, the next read reports its end.
            Some(FrameError::Io(e))
                if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Some(error) => return Err(error),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn connected() -> (Control, UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let control = Control::listen(&socket, ToAgent::Identify, Greeting::AtOnce).unwrap();
        let mut agent = UnixStream::connect(&socket).unwrap();
        assert_eq!(read_frame::<ToAgent>(&mut agent).unwrap(), Some(ToAgent::Identify));
        (control, agent, dir)
    }

    #[tokio::test]
    #[ignore = "needs root (another user): scripts/test runs it"]
    async fn another_user_can_neither_connect_nor_take_the_place_of_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket = dir.path().join("control.sock");
        let control = Control::listen(&socket, ToAgent::Identify, Greeting::AtOnce).unwrap();
        // Reads until the end of the stream: an agent would get its first message.
        let connect = || {
            let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => shift) or die qq($!\\n); \
                          print length(join '', <$s>)";
            let mut perl = std::process::Command::new("perl");
            std::os::unix::process::CommandExt::uid(&mut perl, 65534);
            let output = perl.args(["-e", script]).arg(&socket).output().unwrap();
            String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap()
        };
        assert_eq!(connect(), "Permission denied\n");
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(connect(), "0");
        assert_eq!(control.peer(), None);
        let mut agent = UnixStream::connect(&socket).unwrap();
        assert_eq!(read_frame::<ToAgent>(&mut agent).unwrap(), Some(ToAgent::Identify));
        assert_eq!(control.peer(), Some(std::process::id()));
    }

    #[tokio::test]
    async fn events_keep_their_order_and_time_until_they_are_asked_for() {
        let (mut control, mut agent, _dir) = connected();
        for token in 0..3 {
            write_frame(&mut agent, &FromAgent::Pong { token }).unwrap();
        }
        drop(agent);
        let mut last = None;
        for token in 0..3 {
            let event = control.next().await;
            assert!(matches!(event.what, ChannelEvent::Said(FromAgent::Pong { token: t }) if t == token));
            assert!(last < Some(event.at));
            last = Some(event.at);
        }
        assert!(matches!(control.next().await.what, ChannelEvent::Closed));
        assert_eq!(control.peer(), Some(std::process::id()));
    }

    #[tokio::test]
    async fn a_greeting_after_hello_is_not_sent_before() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let mut control = Control::listen(&socket, ToAgent::Identify, Greeting::AfterHello).unwrap();
        let mut agent = UnixStream::connect(&socket).unwrap();
        agent.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let early = read_frame::<ToAgent>(&mut agent);
        assert!(matches!(&early, Err(FrameError::Io(e)) if e.kind() == ErrorKind::WouldBlock), "{early:?}");
        agent.set_read_timeout(None).unwrap();
        for token in 0..2 {
            write_frame(&mut agent, &FromAgent::Pong { token }).unwrap();
            assert!(
                matches!(control.next().await.what, ChannelEvent::Said(FromAgent::Pong { token: t }) if t == token)
            );
        }
        assert_eq!(read_frame::<ToAgent>(&mut agent).unwrap(), Some(ToAgent::Identify));
        drop(control);
        // Once.
        assert!(matches!(read_frame::<ToAgent>(&mut agent), Ok(None)));
    }

    #[tokio::test]
    async fn noise_ends_the_channel_with_its_reason() {
        let (mut control, mut agent, _dir) = connected();
        agent.write_all(&[0xff; 64]).unwrap();
        assert!(matches!(control.next().await.what, ChannelEvent::Broken(FrameError::TooLarge(_))));
    }

    #[test]
    fn dropping_it_ends_the_stream_of_the_agent() {
        let (control, mut agent, _dir) = connected();
        drop(control);
        assert!(matches!(read_frame::<ToAgent>(&mut agent), Ok(None)));
    }
}
