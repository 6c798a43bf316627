//! Runs programs: explains a missing one, and never leaves processes behind.

use std::{
    cell::RefCell,
    ffi::{OsStr, OsString},
    fs::File,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bootrace_model::foreign::tail;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStdout, Command},
};
use tokio_util::sync::CancellationToken;

use super::{cache::Temp, error::Error};
use crate::supervisor::{self, Lifeline};

/// The number of bytes kept from the end of a program's error output.
const TAIL: usize = 64 * 1024;
/// The longest part of it that an error shows, in bytes.
const SHOWN: usize = 700;
/// How long to wait for a program's supervisor after asking it to end: longer than it needs.
const PATIENCE: Duration = supervisor::GRACE.saturating_add(Duration::from_secs(15));

/// The Debian and Ubuntu package of each program.
const PACKAGES: [(&str, &str); 19] = [
    ("mmdebstrap", "mmdebstrap"),
    ("tar", "tar"),
    ("mke2fs", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
    ("unshare", "util-linux"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("gzip", "gzip"),
    ("bzip2", "bzip2"),
    ("cp", "coreutils"),
    ("mount", "mount"),
    ("partx", "util-linux"),
    ("blkid", "util-linux"),
    ("curl", "curl"),
    ("xorriso", "xorriso"),
    ("grub-mkimage", "grub-common"),
    ("mformat", "mtools"),
    ("mmd", "mtools"),
    ("mcopy", "mtools"),
];

/// A program to run, with its arguments.
pub(super) struct Tool {
    program: &'static str,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    stdin: Stdio,
    held: Option<OwnedFd>,
}

impl Tool {
    pub fn new(program: &'static str) -> Tool {
        Tool { program, args: Vec::new(), env: Vec::new(), stdin: Stdio::null(), held: None }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.args.push(arg.as_ref().into());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Tool {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Tool {
        self.env.push((name, value.as_ref().into()));
        self
    }

    pub fn stdin(mut self, file: File) -> Tool {
        self.stdin = file.into();
        self
    }

    /// Keeps `temp` from being swept until all processes of the program have ended, even if this process is killed.
    ///
    /// # Errors
    /// When the directory's lock can't be duplicated.
    pub fn within(mut self, temp: &Temp) -> Result<Tool, Error> {
        self.held = Some(temp.hold()?);
        Ok(self)
    }

    /// Runs it to its end and discards its output.
    ///
    /// # Errors
    /// As [`Self::with_stdout`].
    pub async fn run(self, cancel: &CancellationToken) -> Result<(), Error> {
        self.with_stdout(cancel, drain).await
    }

    /// Runs it to its end and returns its output.
    ///
    /// # Errors
    /// As [`Self::with_stdout`], and when the output is longer than `max` bytes.
    pub async fn output(self, max: u64, cancel: &CancellationToken) -> Result<Vec<u8>, Error> {
        let command = self.command();
        self.with_stdout(cancel, |stdout| async move {
            let mut bytes = Vec::new();
            let read = stdout.take(max + 1).read_to_end(&mut bytes).await;
            match read {
                Ok(n) if n as u64 <= max => Ok(bytes),
                Ok(_) => Err(Error::Tool {
                    command,
                    outcome: "printed too much".into(),
                    output: format!("more than {max} bytes"),
                    code: None,
                }),
                Err(error) => Err(Error::Tool {
                    command,
                    outcome: "can't be read".into(),
                    output: error.to_string(),
                    code: None,
                }),
            }
        })
        .await
    }

    /// Runs it while `consume` reads its output. When `cancel` fires, it stops the program and waits for its end.
    ///
    /// # Errors
    /// When the program is missing, exits with a failure, or `consume` fails; [`Error::Interrupted`] after `cancel`.
    pub async fn with_stdout<T, F>(
        self,
        cancel: &CancellationToken,
        consume: impl FnOnce(ChildStdout) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let command = self.command();
        let mut group = self.spawn()?;
        let stdout = group.child.stdout.take().expect("stdout is a pipe: spawn made it one");
        let stderr = group.child.stderr.take().expect("stderr is a pipe: spawn made it one");
        let tail = RefCell::new(Vec::new());
        let ended = {
            let ending = wait_and_read(&mut group.child, stderr, &tail);
            let work = async { tokio::join!(consume(stdout), ending) };
            tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                ended = work => Some(ended),
            }
        };
        let Some((consumed, status)) = ended else {
            group.stop().await;
            return Err(Error::Interrupted);
        };
        group.lifeline = None;
        let failed =
            |outcome, code| Error::Tool { command, outcome, output: meaningful(&tail.borrow()), code };
        match (status, consumed) {
            (Err(error), _) => Err(failed(format!("can't be waited for ({error})"), None)),
            (Ok(status), Ok(result)) if status.success() => Ok(result),
            // The reader failed first: its error is the cause.
            (Ok(status), Err(error))
                if status.success()
                    || ended_by_sigpipe(status)
                    || meaningful(&tail.borrow()).contains("Broken pipe") =>
            {
                Err(error)
            }
            (Ok(status), _) => Err(failed(outcome(status), status.code())),
        }
    }

    fn spawn(self) -> Result<Group, Error> {
        let mut command = Command::new(self.program);
        command.args(&self.args).stdin(self.stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("LC_ALL", "C.UTF-8").env("PATH", path()).envs(self.env);
        let lifeline = supervisor::supervise(command.as_std_mut(), self.held)
            .map_err(Error::io("making a pipe to the supervisor of", self.program))?;
        match command.spawn() {
            Ok(child) => Ok(Group { child, lifeline: Some(lifeline) }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing(self.program)),
            Err(error) => Err(Error::Io { doing: "starting", path: self.program.into(), source: error }),
        }
    }

    fn command(&self) -> String {
        let mut command = self.program.to_string();
        for arg in &self.args {
            let arg = arg.to_string_lossy();
            let plain =
                !arg.is_empty() && arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./,:+@%".contains(c));
            command += &if plain { format!(" {arg}") } else { format!(" '{}'", arg.escape_debug()) };
        }
        match command.char_indices().nth(400) {
            Some((at, _)) => format!("{}...", &command[..at]),
            None => command,
        }
    }
}

/// Fails if a program that another one runs is missing.
pub(super) fn require(program: &'static str) -> Result<(), Error> {
    let found = std::env::split_paths(&path()).any(|dir| dir.join(program).is_file());
    if found { Ok(()) } else { Err(missing(program)) }
}

fn missing(program: &'static str) -> Error {
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
    Error::MissingTool { program, package }
}

/// The user's PATH with the directories of mke2fs, which many users' PATH lacks.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}

/// A program and all processes that it spawned.
struct Group {
    /// Their supervisor.
    child: Child,
    /// `None` after they have ended or were asked to end.
    lifeline: Option<Lifeline>,
}

impl Group {
    /// Asks the program to end and waits: mmdebstrap then unmounts and removes its files.
    async fn stop(&mut self) {
        self.lifeline = None;
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.kill();
        }
    }

    /// Kills processes that even the supervisor could not end.
    fn kill(&self) {
        if let Some(group) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    /// Dropping the future of a running program stops the program and waits for its end: it may have the cache's files
    /// open, or something mounted.
    fn drop(&mut self) {
        if self.lifeline.take().is_none() {
            return;
        }
        let pause = Duration::from_millis(10);
        for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(pause);
        }
        self.kill();
    }
}

/// Waits for the program while it reads its error output, and then briefly for the rest of it: a process that the
/// program left running may keep the pipe open.
async fn wait_and_read(
    child: &mut Child,
    stderr: impl AsyncRead + Unpin,
    tail: &RefCell<Vec<u8>>,
) -> std::io::Result<ExitStatus> {
    let reading = read_tail(stderr, tail);
    tokio::pin!(reading);
    let waiting = child.wait();
    tokio::pin!(waiting);
    let mut read = false;
    let status = loop {
        tokio::select! {
            status = &mut waiting => break status,
            () = &mut reading, if !read => read = true,
        }
    };
    if !read {
        let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
    }
    status
}

async fn read_tail(mut stream: impl AsyncRead + Unpin, tail: &RefCell<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let mut tail = tail.borrow_mut();
        tail.extend_from_slice(&buffer[..n]);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
    }
}

async fn drain(mut stream: ChildStdout) -> Result<(), Error> {
    let mut buffer = [0; 8192];
    while let Ok(1..) = stream.read(&mut buffer).await {}
    Ok(())
}

fn ended_by_sigpipe(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::PIPE.as_raw())
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended badly".into(),
    }
}

/// The lines of a program's error output with the reason: those marked as errors, else the last ones.
pub(crate) fn meaningful(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_error = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["e: ", "err:", "error:", "fatal"].iter().any(|start| line.starts_with(start))
            || ["error: ", ": cannot ", "no space left"].iter().any(|part| line.contains(part))
    };
    // mmdebstrap's own last line repeats its command line; apt's lines have the reason.
    let own = |line: &&str| {
        ["E: setup failed", "E: mmdebstrap failed", "E: apt-get ", "E: Some index files failed"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let mut errors: Vec<&str> = lines.iter().copied().filter(|line| is_error(line) && !own(line)).collect();
    errors.dedup();
    let chosen = if errors.is_empty() { &lines } else { &errors };
    match chosen.len() {
        0 => "it said nothing".into(),
        n => tail(&chosen[n.saturating_sub(5)..].join("\n"), SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_failing_program_is_named_with_its_exit_code_and_last_words() {
        let tool = Tool::new("sh").args(["-c", "echo lost; echo why it failed >&2; exit 3"]);
        let error = tool.run(&CancellationToken::new()).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "`sh -c 'echo lost; echo why it failed >&2; exit 3'` ended with exit code 3: why it failed"
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_its_package() {
        let error = Tool::new("no-such-program").run(&CancellationToken::new()).await.unwrap_err();
        assert!(
            error.to_string().contains("install the package no-such-program, or run scripts/setup"),
            "{error}"
        );
        assert!(missing("mke2fs").to_string().contains("the package e2fsprogs"));
    }

    #[tokio::test]
    async fn too_much_output_is_an_error_and_a_flood_on_stderr_is_bounded() {
        let flood = "i=0; while [ $i -lt 20000 ]; do echo 0123456789 >&2; i=$((i+1)); done; exit 1";
        let error = Tool::new("sh").args(["-c", flood]).run(&CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().len() < 1000);
        let printed =
            Tool::new("sh").args(["-c", "echo 0123456789"]).output(5, &CancellationToken::new()).await;
        assert!(printed.unwrap_err().to_string().contains("more than 5 bytes"));
    }

    /// A program whose child outlives a signal to the parent alone, and that cleans up on SIGTERM.
    fn cleaner(file: &std::path::Path) -> Tool {
        let script = r#"trap 'rm "$1"; exit 1' TERM; : > "$1"; sleep 100 & wait"#;
        Tool::new("sh").args(["-c", script, "sh"]).arg(file)
    }

    async fn appears(file: &std::path::Path) {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_cancelled_program_gets_to_clean_up_before_the_call_returns() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made");
        let cancel = CancellationToken::new();
        let ended = tokio::join!(cleaner(&file).run(&cancel), async {
            appears(&file).await;
            cancel.cancel();
        });
        assert!(matches!(ended.0, Err(Error::Interrupted)));
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_dropped_future_stops_its_program_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("made");
        let begun = Instant::now();
        let cancel = CancellationToken::new();
        tokio::select! {
            _ = cleaner(&file).run(&cancel) => panic!("it sleeps"),
            () = appears(&file) => {}
        }
        assert!(!file.exists());
        assert!(begun.elapsed() < Duration::from_secs(90), "it was waited for to its end");
    }

    #[test]
    fn the_reason_is_picked_from_the_noise() {
        let stderr = b"I: running apt-get update...\nErr:1 http://127.0.0.1:9/ubuntu noble InRelease\n  Could not connect\n\
            Reading package lists...\nE: Unable to locate package foo\nE: setup failed: E: apt-get --yes install ... failed\n";
        assert_eq!(
            meaningful(stderr),
            "Err:1 http://127.0.0.1:9/ubuntu noble InRelease | E: Unable to locate package foo"
        );
        assert_eq!(meaningful(b"just\nwords\n"), "just | words");
        assert_eq!(meaningful(b""), "it said nothing");
    }
}
