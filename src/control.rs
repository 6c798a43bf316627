//! The host's side of the control channel: one unix socket per instance, one clock for all.
//!
//! The harness listens before it requests the instance. The first connection whose first frame has the instance's nonce
//! is the instance: the agent itself, or QEMU for the virtio-serial port of a VM. Nobody else may connect after it, and
//! who connects before it is refused. A dedicated thread waits for all this and stamps each frame as soon as it is
//! complete, so that no event loop stands between an event and its timestamp.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bootrace_agent::protocol::{FrameError, FromAgent, ToAgent, read_frame, write_frame};
use rustix::net::{Shutdown, shutdown};
use tokio::sync::mpsc;

use crate::sys::sockets;

mod arrivals;
mod nonce;
mod timestamp;

use arrivals::{Admitted, Door};
pub use nonce::Nonce;
pub use timestamp::Timestamp;

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
    /// How many connections were refused, and why the last one was.
    refused: Mutex<(u32, String)>,
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
    /// Listens at `socket` for the agent that has this nonce, and sends it `first`. Only root may connect, and the owner of
    /// the socket, to whom root may give it: libvirt gives it to QEMU's user.
    ///
    /// # Errors
    /// When the socket can't be made at that path, or the message is too large.
    pub fn listen(socket: &Path, nonce: Nonce, first: &ToAgent, greeting: Greeting) -> io::Result<Self> {
        let mut frame = Vec::new();
        write_frame(&mut frame, first).map_err(io::Error::other)?;
        let listener = sockets::listen(socket)?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
        let path = socket.to_owned();
        let shared = Arc::new(Shared {
            listener,
            peer: OnceLock::new(),
            refused: Mutex::default(),
            dropped: AtomicBool::new(false),
        });
        let (sender, events) = mpsc::channel(BACKLOG);
        let its = shared.clone();
        thread::Builder::new().name("control".into()).spawn(move || {
            let at_once = greeting == Greeting::AtOnce;
            let door = Door { socket: &path, nonce: &nonce, greeting: &frame, at_once };
            if let Err(error) = receive(&its, &door, &sender) {
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

    /// The connections that were refused so far, for an instance that does not come; `None` if there were none.
    pub fn refused(&self) -> Option<String> {
        let refused = self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = &*refused;
        match count {
            0 => None,
            1 => Some(format!("a connection to its socket was refused, {last}")),
            n => Some(format!("{n} connections to its socket were refused, the last one of {last}")),
        }
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

/// Admits the agent, and passes on what it says until its stream ends.
fn receive(shared: &Shared, door: &Door<'_>, sender: &mpsc::Sender<Event>) -> Result<(), FrameError> {
    let refuse = |why: String| {
        tracing::info!("refused a connection to {}: {why}", door.socket.display());
        let mut refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = (refused.0.saturating_add(1), why);
    };
    let Some(Admitted { mut stream, pid, first, at, unsent }) = door.admit(&shared.listener, refuse)? else {
        let _ = sender.blocking_send(Event { at: Timestamp::now(), what: ChannelEvent::Closed });
        return Ok(());
    };
    let _ = shared.peer.set((stream.try_clone()?, pid));
    shared.hang_up();
    let refused = stream.write_all(&unsent);
    // Nobody else may connect.
    let _ = shutdown(shared.listener.as_fd(), Shutdown::Both);
    if sender.blocking_send(Event { at, what: ChannelEvent::Said(first) }).is_err() {
        return Ok(());
    }
    match refused {
        // If the peer has gone, the next read reports its end.
        Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            return Err(e.into());
        }
        _ => {}
    }
    loop {
        let message = read_frame(&mut stream);
        let at = Timestamp::now();
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn listening(greeting: Greeting) -> (Control, Nonce, PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let nonce = Nonce::random().unwrap();
        let control = Control::listen(&socket, nonce.clone(), &ToAgent::Identify, greeting).unwrap();
        (control, nonce, socket, dir)
    }

    fn awake(nonce: &str) -> FromAgent {
        FromAgent::Awake { nonce: nonce.into() }
    }

    /// A channel whose agent has said its first word.
    async fn connected() -> (Control, UnixStream, tempfile::TempDir) {
        let (mut control, nonce, socket, dir) = listening(Greeting::AtOnce);
        let mut agent = UnixStream::connect(&socket).unwrap();
        assert_eq!(read_frame::<ToAgent>(&mut agent).unwrap(), Some(ToAgent::Identify));
        write_frame(&mut agent, &awake(nonce.text())).unwrap();
        assert!(matches!(control.next().await.what, ChannelEvent::Said(FromAgent::Awake { .. })));
        (control, agent, dir)
    }

    /// Connects from another process, whose connection is not the harness's own, and sends these bytes.
    fn stranger(socket: &Path, bytes: &[u8]) -> std::process::Child {
        let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => shift) or die qq($!\\n); \
                      $s->autoflush; print $s pack('H*', shift); my $n = length(join '', <$s>); print $n";
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut perl = std::process::Command::new("perl");
        perl.args(["-e", script]).arg(socket).arg(hex).stdout(std::process::Stdio::piped()).spawn().unwrap()
    }

    #[tokio::test]
    async fn strangers_who_come_first_neither_end_nor_falsify_what_the_agent_says() {
        for greeting in [Greeting::AtOnce, Greeting::AfterHello] {
            let (mut control, nonce, socket, _dir) = listening(greeting);
            let mut wrong = Vec::new();
            for message in [awake(""), awake(&"0".repeat(32)), FromAgent::Ready { after_ns: 1 }] {
                let mut frame = Vec::new();
                write_frame(&mut frame, &message).unwrap();
                wrong.push(frame);
            }
            wrong.extend([vec![0xff; 64], vec![0; 4], b"\x04\0\0\0null".to_vec()]);
            for (count, bytes) in (1..).zip(&wrong) {
                // Until its stream ends: it is refused.
                let read = stranger(&socket, bytes).wait_with_output().unwrap().stdout;
                assert!(String::from_utf8(read).unwrap().parse::<u32>().is_ok());
                let refused = control.refused().unwrap();
                assert!(count == 1 || refused.starts_with(&format!("{count} connections")), "{refused}");
            }
            // These say nothing, or half of it, and stay.
            let silent: Vec<_> =
                [&b""[..], b"\x04", b"\x04\0\0\0nu"].map(|half| stranger(&socket, half)).into();
            let mut agent = UnixStream::connect(&socket).unwrap();
            let sent = Timestamp::now();
            write_frame(&mut agent, &awake(nonce.text())).unwrap();
            let event = control.next().await;
            assert!(matches!(event.what, ChannelEvent::Said(FromAgent::Awake { .. })), "{event:?}");
            assert!(event.at >= sent);
            assert_eq!(control.peer(), Some(std::process::id()));
            assert_eq!(read_frame::<ToAgent>(&mut agent).unwrap(), Some(ToAgent::Identify));
            for mut silent in silent {
                // One that has connected too late is never accepted, and waits.
                silent.kill().unwrap();
                silent.wait().unwrap();
            }
            // Nobody comes after it, not even with the nonce.
            assert!(UnixStream::connect(&socket).is_err());
            write_frame(&mut agent, &FromAgent::Pong { token: 1 }).unwrap();
            assert!(matches!(control.next().await.what, ChannelEvent::Said(FromAgent::Pong { token: 1 })));
        }
    }

    #[tokio::test]
    async fn a_workload_larger_than_the_sockets_buffer_reaches_the_agent_and_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, nonce) = (dir.path().join("control.sock"), Nonce::random().unwrap());
        let large = ToAgent::Work(bootrace_agent::protocol::Work {
            argv: vec!["x".repeat(250_000)],
            env: Vec::new(),
        });
        let mut control = Control::listen(&socket, nonce.clone(), &large, Greeting::AtOnce).unwrap();
        let _deaf = UnixStream::connect(&socket).unwrap();
        let mut agent = UnixStream::connect(&socket).unwrap();
        write_frame(&mut agent, &awake(nonce.text())).unwrap();
        assert_eq!(read_frame::<ToAgent>(&mut agent).unwrap(), Some(large));
        assert!(matches!(control.next().await.what, ChannelEvent::Said(FromAgent::Awake { .. })));
    }

    #[tokio::test]
    async fn the_harnesss_own_connection_ends_the_channel_when_its_agent_ends_before_a_word() {
        let (mut control, _, socket, _dir) = listening(Greeting::AtOnce);
        drop(UnixStream::connect(&socket).unwrap());
        assert!(matches!(control.next().await.what, ChannelEvent::Closed));
        assert_eq!(control.refused(), None);
    }

    #[tokio::test]
    #[ignore = "needs root (another user): scripts/test runs it"]
    async fn another_user_can_neither_connect_nor_take_the_place_of_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket = dir.path().join("control.sock");
        let nonce = Nonce::random().unwrap();
        let mut control =
            Control::listen(&socket, nonce.clone(), &ToAgent::Identify, Greeting::AtOnce).unwrap();
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
        write_frame(&mut agent, &awake(nonce.text())).unwrap();
        assert!(matches!(control.next().await.what, ChannelEvent::Said(_)));
        assert_eq!(control.peer(), Some(std::process::id()));
        assert!(control.refused().unwrap().ends_with("of user 65534: this user may not connect"));
    }

    #[tokio::test]
    async fn events_keep_their_order_and_time_until_they_are_asked_for() {
        let (mut control, mut agent, _dir) = connected().await;
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
        let (mut control, nonce, socket, _dir) = listening(Greeting::AfterHello);
        let mut agent = UnixStream::connect(&socket).unwrap();
        agent.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let early = read_frame::<ToAgent>(&mut agent);
        assert!(matches!(&early, Err(FrameError::Io(e)) if e.kind() == ErrorKind::WouldBlock), "{early:?}");
        agent.set_read_timeout(None).unwrap();
        write_frame(&mut agent, &awake(nonce.text())).unwrap();
        assert!(matches!(control.next().await.what, ChannelEvent::Said(FromAgent::Awake { .. })));
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
        let (mut control, mut agent, _dir) = connected().await;
        agent.write_all(&[0xff; 64]).unwrap();
        assert!(matches!(control.next().await.what, ChannelEvent::Broken(FrameError::TooLarge(_))));
    }

    #[tokio::test]
    async fn dropping_it_ends_the_stream_of_the_agent() {
        let (control, mut agent, _dir) = connected().await;
        drop(control);
        assert!(matches!(read_frame::<ToAgent>(&mut agent), Ok(None)));
    }
}
