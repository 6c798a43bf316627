//! A harness in small: a socket, an agent that is a plain child process, and its frames.

// Each test file uses its part of this.
#![allow(dead_code)]

use std::{
    fs,
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use bootrace_agent::protocol::{self, FromAgent, Hello, Ready, ToAgent, Workload};

/// Long enough for the slowest machine: reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The nonce of each test's agent.
pub const NONCE: &str = "0123456789abcdef";
/// CAP_CHOWN and CAP_KILL, the capabilities of each test's workload.
pub const GRANTED: u64 = 1 | 1 << 5;

/// A directory that goes with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bootrace-agent-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An agent that has said hello.
pub struct Agent {
    pub hello: Hello,
    pub scratch: Scratch,
    stream: Option<UnixStream>,
    process: Child,
}

impl Agent {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let socket = scratch.path("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_bootrace-agent"))
            .arg(&socket)
            .env("LEAKED", "from the harness")
            .env(protocol::NONCE_VARIABLE, NONCE)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Ok(Some(FromAgent::Hello(hello))) = protocol::read_frame(&mut stream) else {
            panic!("the first frame must be Hello")
        };
        Agent { hello, scratch, stream: Some(stream), process }
    }

    /// An agent that was asked to start a workload.
    pub fn with(command: &str, ready: Ready) -> Self {
        let mut agent = Agent::new();
        agent.start(&["sh", "-c", command], ready);
        agent
    }

    pub fn start(&mut self, argv: &[&str], ready: Ready) {
        let argv = argv.iter().map(|&s| s.to_owned()).collect();
        let env = vec![("GREETING".into(), "hi".into())];
        self.send(&ToAgent::Start(Workload { argv, env, user: None, capabilities: GRANTED, ready }));
    }

    /// The agent's pid.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn send(&mut self, message: &ToAgent) {
        protocol::write_frame(self.stream.as_mut().unwrap(), message).unwrap();
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next frame; `None` when the agent has ended the stream.
    pub fn receive(&mut self) -> Option<FromAgent> {
        protocol::read_frame(self.stream.as_mut().unwrap()).expect("a frame within the test's patience")
    }

    /// The workload's pid, by the kernel's word, once it runs.
    pub fn workload(&self) -> u32 {
        let agent = self.process.id();
        let children = format!("/proc/{agent}/task/{agent}/children");
        until("the workload runs", || fs::read_to_string(&children).unwrap().split(' ').next()?.parse().ok())
    }

    pub fn ready(&mut self) -> u64 {
        match self.receive() {
            Some(FromAgent::Ready { after_ns }) => after_ns,
            other => panic!("Ready was expected, not {other:?}"),
        }
    }

    pub fn exited(&mut self) -> protocol::Exit {
        match self.receive() {
            Some(FromAgent::Exited(exit)) => exit,
            other => panic!("Exited was expected, not {other:?}"),
        }
    }

    pub fn failed(&mut self) -> String {
        match self.receive() {
            Some(FromAgent::Failed { error, .. }) => error,
            other => panic!("Failed was expected, not {other:?}"),
        }
    }

    /// True when nothing but the answer to a ping comes: the agent has said all that it has to say.
    pub fn is_silent(&mut self) -> bool {
        self.send(&ToAgent::Ping { token: 77 });
        self.receive() == Some(FromAgent::Pong { token: 77 })
    }

    /// Ends the stream and waits for the agent's end.
    pub fn hang_up(&mut self) -> ExitStatus {
        self.stream = None;
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        until("the agent has ended", || self.process.try_wait().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stream = None;
        let gone = Instant::now() + PATIENCE;
        while Instant::now() < gone && self.process.try_wait().is_ok_and(|status| status.is_none()) {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.process.kill();
    }
}

/// Waits for something that must come.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process exists and is no zombie.
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

/// What a workload has written into a file, once it is whole.
pub fn number_in(path: &Path) -> u32 {
    until("a line with a number", || fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok())
}
