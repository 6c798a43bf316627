//! Runs the `[build]` command of a scenario: in a checkout, as its owner. It ends with bootrace at the latest.

use std::{collections::VecDeque, io, path::Path, process::Stdio};

use anyhow::{Context, anyhow};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    Failure, git,
    progress::Progress,
    signals::Signals,
    sudo_user::{self, SudoUser, as_sudo_user},
};
use crate::{
    report::clean,
    scenario::{Build, Scenario},
    supervisor,
};

/// How much of a build's output its error shows, in bytes.
const TAIL_BYTES: usize = 4096;
const TAIL_LINES: usize = 30;

/// Runs the scenario's `[build]` command, if it has one, in the clone that holds the scenario.
///
/// # Errors
/// [`Failure::Usage`] when a scenario with `[build]` is in no clone; else as [`run`].
pub async fn in_clone(
    scenario: &Scenario,
    folder: &Path,
    progress: &Progress,
    signals: &Signals,
) -> Result<(), Failure> {
    let Some(build) = &scenario.build else { return Ok(()) };
    let folder = folder.canonicalize().with_context(|| format!("looking for {}", folder.display()));
    let folder = folder.map_err(Failure::Usage)?;
    let Some(top) = git::top(&folder) else {
        return Err(Failure::Usage(anyhow!(
            "--build runs the [build] of {} in its git clone, and {} is in none\nfix: build by hand, and leave --build out",
            scenario.name,
            folder.display()
        )));
    };
    progress.say(&format!("building {}: {}", top.display(), shown(build)));
    run(build, &top.display().to_string(), top, SudoUser::of(top).as_ref(), signals).await
}

/// Runs the command in `folder`, the top of a checkout; `what` names the checkout in errors.
///
/// # Errors
/// [`Failure::Run`] when the command can't start, or fails: with the end of its output. [`Failure::Stopped`] on a
/// signal, after all processes of the build have ended.
pub async fn run(
    build: &Build,
    what: &str,
    folder: &Path,
    sudo_user: Option<&SudoUser>,
    signals: &Signals,
) -> Result<(), Failure> {
    let [program, arguments @ ..] = &build.command[..] else {
        return Err(Failure::Run(anyhow!("the [build] of {what} has no command")));
    };
    let mut command = as_sudo_user(program, sudo_user);
    git::alone(&mut command);
    // A common target directory would mix the builds of both sides.
    command.env_remove("CARGO_TARGET_DIR").env("PATH", sudo_user::path(sudo_user));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    let piped = io::pipe().and_then(|(reader, writer)| {
        command.stdout(writer.try_clone()?).stderr(writer);
        // A second Ctrl-C or a SIGKILL ends bootrace at once; then the supervisor ends the build.
        Ok((reader, supervisor::supervise(&mut command, None)?))
    });
    let (reader, lifeline) = piped.context("making pipes for a build").map_err(Failure::Run)?;
    let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into());
    let reader = reader.context("reading a build's output").map_err(Failure::Run)?;
    let mut command = tokio::process::Command::from(command);
    let mut child = command.spawn().map_err(|e| not_started(build, what, e))?;
    // It holds the pipe's write ends, which would keep the output open.
    drop(command);
    let (tail, status) = tokio::select! {
        done = async { (tail(reader).await, child.wait().await) } => done,
        () = signals.stop.cancelled() => {
            drop(lifeline);
            let _ = child.wait().await;
            return Err(Failure::Stopped { signal: signals.signal() });
        }
    };
    let status = status.context("waiting for a build").map_err(Failure::Run)?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::Run(anyhow!(
            "building {what} by {}: {status}; the end of its output:\n{tail}",
            shown(build)
        ))),
    }
}

fn not_started(build: &Build, what: &str, error: io::Error) -> Failure {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => {
            "\nfix: install it or correct the [build] command; sudo has a PATH of its own: sudo env PATH=\"$PATH\" bootrace ..."
        }
        io::ErrorKind::PermissionDenied => {
            "\nfix: make it executable: git update-index --chmod=+x FILE, and commit"
        }
        _ => "",
    };
    Failure::Run(anyhow!("building {what}: {} does not start: {error}{fix}", shown(build)))
}

/// The command as one line.
fn shown(build: &Build) -> String {
    clean(&build.command.join(" "), 200)
}

/// Reads to the end and keeps the last lines.
async fn tail(mut output: impl AsyncRead + Unpin) -> String {
    let mut tail: VecDeque<u8> = VecDeque::new();
    let mut chunk = [0; TAIL_BYTES];
    while let Ok(read @ 1..) = output.read(&mut chunk).await {
        tracing::debug!(output = ?String::from_utf8_lossy(&chunk[..read]), "build");
        tail.extend(&chunk[..read]);
        tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
    }
    let text = String::from_utf8_lossy(tail.make_contiguous()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_end_of_a_builds_output_is_kept() {
        let said: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let lines = tail(said.as_bytes()).await;
        assert!(lines.starts_with("line 70\n") && lines.ends_with("line 99"), "{lines}");
        // A single line of a MiB is cut too.
        let long = "x".repeat(1 << 20) + "end";
        let line = tail(long.as_bytes()).await;
        assert!(line.len() == TAIL_BYTES && line.ends_with("xend"), "{}", line.len());
    }
}
