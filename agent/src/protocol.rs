//! The control protocol between harness and agent: framed JSON over a byte stream.
//!
//! The stream is a unix socket (native, docker) or a virtio-serial port (a VM); both are reliable
//! and ordered, so a frame is only a length and a payload: `u32` little-endian, then that many
//! bytes of JSON. A frame is at most [`MAX_FRAME`] bytes, in both directions, so that neither side
//! can make the other allocate without bound. The agent speaks first, with [`FromAgent::Hello`].
//!
//! Time: an agent never sends a time stamp, only durations by its own clock; the harness stamps
//! each frame on arrival.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    isolation::{Introspect, Isolation},
    surroundings::Surroundings,
};

/// Version of this protocol; both sides must agree exactly, since one build embeds the other.
pub const VERSION: u16 = 5;
/// Largest payload of a frame in bytes.
pub const MAX_FRAME: usize = 256 * 1024;
/// Bytes at the end of a program's output that the agent keeps and sends.
pub const OUTPUT_TAIL: usize = 4 * 1024;
/// Name of the virtio-serial port in a VM (`/sys/class/virtio-ports/*/name`).
pub const PORT_NAME: &str = "org.bootrace.control.0";
/// Where the agent connects in a container, seen from inside the root file system.
pub const SOCKET_PATH: &str = "/run/bootrace/control.sock";
/// For the agent of a bare process: its standard input is the connected stream, and a byte from its standard output is
/// the signal to say hello.
pub const ON_STDIN_FLAG: &str = "--on-stdin";
/// A word of the kernel command line of a VM with QEMU's user network. A word of this form, without a dot, is in
/// the environment of the kernel's first process.
pub const NETWORK_VARIABLE: &str = "BOOTRACE_NETWORK";
/// The variable with an instance's nonce: in the environment of a bare process's agent, and of the first process of a
/// container or of a kernel that has it on its command line. The agent takes it out of its own.
pub const NONCE_VARIABLE: &str = "BOOTRACE_NONCE";
/// The hostname of every instance that has one of its own.
pub const HOSTNAME: &str = "bootrace";
/// Where the agent lies in every image.
pub const AGENT_PATH: &str = "/usr/lib/bootrace/agent";
/// The file with an image's own digest: one line of lower-case hex.
pub const IMAGE_DIGEST_PATH: &str = "/usr/lib/bootrace/image-digest";
/// The unit by which the image's own systemd starts the agent.
pub const UNIT: &str = "bootrace-agent.service";
/// That unit's argument for the agent: find out whether this is a container or a VM.
pub const SERVICE_FLAG: &str = "--service";
/// A further argument of that unit, for a system that joins its network by itself, as a stock image does.
pub const OWN_NETWORK_FLAG: &str = "--own-network";

/// The file of an image for measuring copy-on-write, where its scenario has `[cow]`.
pub const COW_PATH: &str = "/usr/lib/bootrace/copy-file";

/// A request of the harness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToAgent {
    /// Start the workload. Answered by `Ready` (or `Exited`, or `Failed`).
    Start(Workload),
    /// Report image, agent, workload and kernel. Answered by `Identity`.
    Identify,
    /// Report the parts of the boot, by the own kernel and systemd. Answered by `BootTimes`, after a run of systemctl.
    BootTimes,
    /// Report memory and CPU of the workload. Answered by `Readings`.
    Read,
    /// Run a work command to its end. Answered by `WorkStarted`, then `WorkDone`.
    Work(Work),
    /// Check again whether the workload is ready, after a pause or a restore. Answered by `Awake` at once, then by
    /// `Ready` (or `Failed`).
    Check,
    /// Write the root file system's dirty pages out. Answered by `Synced`.
    Sync,
    /// Overwrite a page of [`COW_PATH`] at this offset, through to the disk. Answered by `WriteStarted`, then
    /// `Written`.
    Write { at: u64 },
    /// Report the view from inside. Answered by `Isolation`.
    Introspect(Introspect),
    /// Report what the workload finds around it. Answered by `Surroundings`.
    Survey,
    /// Report whether [`IMAGE_DIGEST_PATH`] is in the page cache, without reading it. Answered by `Cached`.
    IsCached,
    /// Report what explains a failure. Answered by `Account`.
    Account,
    /// Check the stream. Answered by `Pong` with the same token.
    Ping { token: u64 },
    /// Kill the workload and end (in a VM: power off). Not answered: the stream ends.
    Stop,
}

/// The command that runs, and when it counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments; a program without a slash is looked up in [`PATH`].
    pub argv: Vec<String>,
    /// The whole environment besides `PATH` and a user's `HOME` and `USER`; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The user that it runs as, as in `docker run --user`; null: root, or the agent's own user.
    pub user: Option<String>,
    /// The capabilities that it may have at most, a bit each by the kernel's numbers.
    pub capabilities: u64,
    pub ready: Ready,
}

/// Where a program named without a slash is looked for, on every target.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The event that makes a workload ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// It exits with this code.
    Exit(i32),
    /// A line of its standard output or standard error matches this regular expression.
    Line(String),
    /// Something accepts connections on this port of 127.0.0.1 or ::1.
    Tcp(u16),
    /// This path exists.
    File(String),
}

/// A work command to time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Program and arguments, as those of a [`Workload`].
    pub argv: Vec<String>,
    /// The whole environment besides `PATH`.
    pub env: Vec<(String, String)>,
}

/// A message of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAgent {
    Hello(Hello),
    /// The readiness event happened, this long after the workload's exec by the guest's clock.
    Ready {
        after_ns: u64,
    },
    /// The workload ended.
    Exited(Exit),
    Identity(Identity),
    BootTimes(BootTimes),
    Readings(Readings),
    WorkStarted,
    WorkDone(WorkDone),
    Synced,
    WriteStarted,
    Written(Written),
    Isolation(Box<Isolation>),
    Surroundings(Surroundings),
    /// Answers `IsCached`; null where the kernel gives no answer.
    Cached(Option<bool>),
    Account(Account),
    Pong {
        token: u64,
    },
    /// The instance runs again; answers `Check`.
    Awake {
        #[serde(default)]
        nonce: String,
    },
    /// A request or the boot failed; the text says what failed, on what, and why.
    Failed {
        error: String,
        #[serde(default)]
        nonce: String,
    },
}

impl FromAgent {
    /// The instance's nonce. Each message that may be the first of its stream has it, so that the harness knows its
    /// agent from strangers without another frame.
    pub fn nonce(&self) -> Option<&str> {
        match self {
            FromAgent::Hello(Hello { nonce, .. })
            | FromAgent::Awake { nonce }
            | FromAgent::Failed { nonce, .. } => Some(nonce),
            _ => None,
        }
    }
}

/// The first frame of an agent that starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u16,
    /// The secret that the harness gave this instance; empty if it gave none.
    #[serde(default)]
    pub nonce: String,
    /// Digest of the sources that this agent was built from. It is a build-time constant: it costs nothing on the
    /// measured path, and identifies a foreign agent at once. [`Identity`] has the executable's own digest, taken
    /// after ready.
    pub build: String,
    pub kernel_release: String,
    /// `/proc/sys/kernel/random/boot_id`: which boot of which kernel this is.
    pub boot_id: String,
    /// Uptime of the kernel by its own CLOCK_BOOTTIME: in a VM, the part of the boot since the kernel's start.
    pub uptime_ns: u64,
}

/// The parts of the time from the kernel's start until hello, by that kernel's clock. Null where the instance has no
/// such part, or its start is unknown. In a VM the parts that are not null add up to the uptime at hello.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BootTimes {
    /// Kernel start -> the first program of the initrd; -> systemd where that program's start is unknown.
    pub kernel_ns: Option<u64>,
    /// -> systemd in the root file system; where the agent is the initrd's first program: -> hello.
    pub initrd_ns: Option<u64>,
    /// systemd's start in the root file system -> the start of the agent's unit.
    pub userspace_ns: Option<u64>,
    /// -> hello.
    pub unit_ns: Option<u64>,
    /// From the kernel's start (in a container, from systemd's) until systemd's start-up is finished; null before.
    pub finished_ns: Option<u64>,
    /// Why systemd's parts are missing although systemd runs.
    pub error: Option<String>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; null when a signal ended it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// The end of its output, at most [`OUTPUT_TAIL`] bytes, invalid UTF-8 replaced.
    pub output: String,
}

/// What explains a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// The end of the output so far, as an [`Exit`] has it: of the work command while one runs, else of the workload. Null
    /// before the workload's start.
    pub output: Option<String>,
    /// Processes that this kernel has killed for lack of memory since its start.
    pub oom_kills: u64,
}

/// The programs that run and their kernel, as seen inside the instance; collected after ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The image's own digest, from [`IMAGE_DIGEST_PATH`].
    pub image_digest: Option<String>,
    /// sha256 of the running agent's executable, lower-case hex.
    pub agent_digest: Option<String>,
    /// sha256 of the workload's executable, lower-case hex.
    pub workload_digest: Option<String>,
    /// The workload's argv as its kernel has it (`/proc/PID/cmdline`), or as it was executed if it has ended.
    pub argv: Vec<String>,
    pub kernel_release: String,
    pub boot_id: String,
}

/// Use of memory and CPU by the workload (all processes below the agent), read inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// Sum of resident set sizes in bytes; null when it has ended.
    pub workload_rss: Option<u64>,
    /// User and system CPU time of those processes in ns, ended children included.
    pub workload_cpu_ns: Option<u64>,
    /// Page cache of the instance's kernel in bytes, without shared memory: in a VM the guest's, else the host's.
    pub page_cache: Option<u64>,
}

/// The end of a work command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkDone {
    /// Wall time by the guest's clock.
    pub wall_ns: u64,
    /// CPU time by the guest's accounting.
    pub cpu_ns: u64,
    pub exit: Exit,
}

/// The duration of a written page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Wall time by the guest's clock, from before the open to after the sync.
    pub wall_ns: u64,
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("control stream: {0}")]
    Io(#[from] io::Error),
    #[error("control stream: a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLarge(usize),
    #[error("control stream: it ended inside a frame")]
    Truncated,
    #[error("control stream: a frame is not a message of protocol version {VERSION}: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Writes one frame with a single `write_all`, so that frames of one writer never interleave.
///
/// # Errors
/// When the stream fails, or the message is over [`MAX_FRAME`] bytes.
pub fn write_frame<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    stream.write_all(&frame)?;
    Ok(stream.flush()?)
}

/// Reads one frame; `None` when the stream ends between frames.
///
/// # Errors
/// When the stream fails or ends within a frame, or the frame is over [`MAX_FRAME`] bytes or no such message.
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; 4];
    match read_full(stream, &mut header)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(FrameError::Truncated),
    }
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let mut payload = vec![0; length];
    if read_full(stream, &mut payload)? != length {
        return Err(FrameError::Truncated);
    }
    Ok(Some(serde_json::from_slice(&payload)?))
}

/// Like `read_exact`, but returns the number of bytes before the end.
fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_message_survives_the_trip_and_the_stream_ends_cleanly() {
        let sent = ToAgent::Start(Workload {
            argv: vec!["redis-server".into(), "--port".into(), "6379".into()],
            env: vec![("LANG".into(), "C".into())],
            user: Some("redis".into()),
            capabilities: 1 << 7,
            ready: Ready::Tcp(6379),
        });
        let mut stream = Vec::new();
        write_frame(&mut stream, &sent).unwrap();
        let mut stream = stream.as_slice();
        assert_eq!(read_frame::<ToAgent>(&mut stream).unwrap(), Some(sent));
        assert_eq!(read_frame::<ToAgent>(&mut stream).unwrap(), None);
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_allocated() {
        let bytes = u32::MAX.to_le_bytes();
        assert!(matches!(read_frame::<FromAgent>(&mut bytes.as_slice()), Err(FrameError::TooLarge(_))));
        let long = FromAgent::Failed { error: "x".repeat(MAX_FRAME), nonce: String::new() };
        assert!(matches!(write_frame(&mut Vec::new(), &long), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let whole = frame(br#"{"ping":{"token":1}}"#);
        for cut in 1..whole.len() {
            assert!(
                matches!(read_frame::<ToAgent>(&mut &whole[..cut]), Err(FrameError::Truncated)),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn noise_is_an_error_and_not_a_panic() {
        for payload in
            [&b""[..], b"{", b"null", b"\xff\xfe", br#"{"ping":{"token":-1}}"#, br#"{"nonsense":1}"#]
        {
            assert!(matches!(
                read_frame::<ToAgent>(&mut frame(payload).as_slice()),
                Err(FrameError::Malformed(_))
            ));
        }
    }
}
