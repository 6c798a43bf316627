//! A program that the agent runs: finds it, executes it, and drains its output until it ends.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use bootrace_agent::protocol::{Exit, OUTPUT_TAIL, PATH};

use crate::{
    sys::{self, ExitedChild},
    user::User,
};

/// Why a program did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("run a program: the command is empty")]
    Empty,
    #[error(
        "run {program:?}: there is no such executable in {PATH} of the image; add the package that has it, or give its path"
    )]
    NotFound { program: String },
    #[error("run {program:?} as {path:?}: {error}")]
    Exec { program: String, path: PathBuf, error: io::Error },
}

/// A child and its output.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pub argv: Vec<String>,
    /// The file that was executed.
    pub path: PathBuf,
    /// The time at which exec had succeeded.
    pub started: Instant,
    /// Standard output and standard error, until they end.
    streams: [Option<File>; 2],
    tail: Tail,
}

impl Process {
    /// Executes a program in a process group of its own, with `PATH`, a user's `HOME` and `USER`, and `env` as its whole
    /// environment.
    ///
    /// # Errors
    /// When there is no such executable, or the kernel refuses to execute it.
    pub fn spawn(argv: &[String], env: &[(String, String)], user: Option<&User>) -> Result<Self, SpawnError> {
        let (program, arguments) = argv.split_first().ok_or(SpawnError::Empty)?;
        let path = find(program)?;
        let failed = |error| SpawnError::Exec { program: program.clone(), path: path.clone(), error };
        // With a path that is resolved already, and no code between fork and exec, the standard
        // library uses posix_spawn: no page table is copied, and it returns when exec has succeeded. Another user needs
        // such code, and costs a fork of this small process.
        let mut command = Command::new(&path);
        command.arg0(program).args(arguments).env_clear().env("PATH", PATH);
        if let Some(user) = user {
            command.envs(user.variables());
            sys::run_as(&mut command, user.uid, user.gid, user.groups.clone());
        }
        let mut child = command
            .envs(env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let started = Instant::now();
        let stdout = child.stdout.take().map(|s| File::from(OwnedFd::from(s)));
        let stderr = child.stderr.take().map(|s| File::from(OwnedFd::from(s)));
        let streams = [stdout, stderr];
        for stream in streams.iter().flatten() {
            sys::set_nonblocking(stream).map_err(failed)?;
        }
        // `child` is dropped without a wait: `sys::reap` reaps all children.
        Ok(Process { pid: child.id(), argv: argv.to_vec(), path, started, streams, tail: Tail::default() })
    }

    /// The output streams that have not ended.
    pub fn descriptors(&self) -> impl Iterator<Item = i32> {
        self.streams.iter().flatten().map(AsRawFd::as_raw_fd)
    }

    /// Reads the output so far, up to a bound, and passes each piece on with its stream's
    /// index; `None` is that stream's end.
    pub fn drain(&mut self, mut piece: impl FnMut(usize, Option<&[u8]>)) {
        // A pipe holds 64 KiB; a program that writes faster than this reads must not keep the agent here.
        const ROUNDS: usize = 16;
        let mut buffer = [0; 16 * 1024];
        for (index, slot) in self.streams.iter_mut().enumerate() {
            for _ in 0..ROUNDS {
                let Some(stream) = slot else { break };
                match stream.read(&mut buffer) {
                    Ok(n) if n > 0 => {
                        self.tail.push(&buffer[..n]);
                        piece(index, Some(&buffer[..n]));
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => {
                        *slot = None;
                        piece(index, None);
                    }
                }
            }
        }
    }

    /// The way it ended, with the tail of its output.
    pub fn exit(&self, ended: &ExitedChild) -> Exit {
        Exit { code: ended.code, signal: ended.signal, output: self.output() }
    }

    /// The tail of its output so far.
    pub fn output(&self) -> String {
        self.tail.text()
    }
}

/// The path of a program: as given when it has a slash, else the first executable in `PATH`.
fn find(program: &str) -> Result<PathBuf, SpawnError> {
    if program.is_empty() {
        return Err(SpawnError::Empty);
    }
    if program.contains('/') {
        return Ok(program.into());
    }
    let executable =
        |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    PATH.split(':')
        .map(|dir| Path::new(dir).join(program))
        .find(executable)
        .ok_or_else(|| SpawnError::NotFound { program: program.into() })
}

/// The last [`OUTPUT_TAIL`] bytes of a program's output.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(OUTPUT_TAIL)..];
        let over = (self.0.len() + bytes.len()).saturating_sub(OUTPUT_TAIL);
        self.0.drain(..over);
        self.0.extend_from_slice(bytes);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end_of_all_pieces_and_never_longer_than_its_bound() {
        let written: Vec<u8> = (0..3 * OUTPUT_TAIL + 7).map(|i| b'a' + (i % 23) as u8).collect();
        for size in [1, 100, OUTPUT_TAIL - 1, OUTPUT_TAIL, OUTPUT_TAIL + 1, written.len()] {
            let mut tail = Tail::default();
            written.chunks(size).for_each(|piece| tail.push(piece));
            assert_eq!(tail.0, written[written.len() - OUTPUT_TAIL..], "in pieces of {size}");
        }
    }

    #[test]
    fn a_program_without_a_slash_is_found_in_path_and_one_with_a_slash_is_taken_as_it_is() {
        assert!(find("sh").unwrap().ends_with("bin/sh"));
        assert_eq!(find("./no/such").unwrap(), Path::new("./no/such"));
        assert!(matches!(find("no-such-program"), Err(SpawnError::NotFound { .. })));
    }
}
