//! A side of an A/B as a process: `bootrace run --as-side`. The coordinator sends it turns and reads its events.

use std::{ffi::OsString, io, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context;
use futures_util::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    process::{ChildStdin, Command},
    sync::mpsc,
};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::{cli::side::Event, sample::Side};

/// The longest event is the plan of the longest run: a few MiB.
const LONGEST: usize = 16 << 20;
/// How long a killed side may take to end: a process that waits for a dead disk may never end.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Child {
    pub side: Side,
    process: tokio::process::Child,
    /// `None` once the coordinator has asked it to end.
    turns: Option<ChildStdin>,
    /// Ends with the side's standard output, or after a line that is no event.
    events: mpsc::UnboundedReceiver<Result<Event, String>>,
    /// Its further events are ignored.
    killed: bool,
}

/// How a child ended.
pub struct SideEnd {
    pub side: Side,
    /// A phrase for messages, such as "exit status: 1".
    pub how: String,
    pub code: Option<i32>,
    /// It has reported that its results and report are written.
    pub finished: bool,
}

impl Child {
    /// Starts a side in a process group of its own, so that a terminal's Ctrl-C reaches only the coordinator. However
    /// the coordinator ends, the sides see the end of their standard input.
    ///
    /// # Errors
    /// When the program can't be executed.
    pub fn start(side: Side, program: &PathBuf, arguments: &[OsString]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut process =
            command.spawn().with_context(|| format!("starting the {side} side, {}", program.display()))?;
        let turns = process.stdin.take();
        let (sender, events) = mpsc::unbounded_channel();
        if let Some(out) = process.stdout.take() {
            tokio::spawn(async move {
                let mut lines = FramedRead::new(out, LinesCodec::new_with_max_length(LONGEST));
                while let Some(line) = lines.next().await {
                    let line = line.map_err(|e| e.to_string());
                    let event = line.and_then(|line| serde_json::from_str(&line).map_err(|e| e.to_string()));
                    let over = event.is_err();
                    if sender.send(event).is_err() || over {
                        break;
                    }
                }
            });
        }
        Ok(Child { side, process, turns, events, killed: false })
    }

    /// Sends a turn. If the side has ended, `receive` reports it.
    pub async fn go(&mut self) {
        if let Some(turns) = &mut self.turns {
            let _ = turns.write_all(b"go\n").await;
        }
    }

    /// Returns its next event, `None` at the end, or the reason why a line is no event. Cancel-safe.
    pub async fn receive(&mut self) -> Option<Result<Event, String>> {
        self.events.recv().await
    }

    /// Asks it to end by closing its standard input: it gives up its trial and removes the instance.
    pub fn stop(&mut self) {
        self.turns = None;
    }

    /// Kills it. For a program that speaks no protocol and so can't clean up after itself.
    pub fn kill(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // With its whole process group.
        if let Some(group) = self.process.id().and_then(|id| Pid::from_raw(id as i32)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.killed = true;
    }

    /// Waits for its end.
    pub async fn end(mut self) -> SideEnd {
        let mut finished = false;
        // A process that a killed side started in another group may keep its standard output open for ever.
        while !self.killed
            && let Some(Ok(event)) = self.receive().await
        {
            finished |= matches!(event, Event::Finished { .. });
        }
        // Only now: a side that still writes its report would take the end of its standard input for a stop.
        self.stop();
        let limit = if self.killed { KILL_TIMEOUT } else { Duration::MAX };
        let status = tokio::time::timeout(limit, self.process.wait()).await;
        let status = status.unwrap_or_else(|_| {
            Err(io::Error::other(format!(
                "it was killed and has not ended within {} s",
                KILL_TIMEOUT.as_secs()
            )))
        });
        let how = status.as_ref().map_or_else(|e| e.to_string(), |status| status.to_string());
        SideEnd { side: self.side, how, code: status.ok().and_then(|status| status.code()), finished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that waits for a child, which writes nothing and keeps the pipe open.
    #[tokio::test]
    async fn one_that_is_killed_ends_with_all_that_it_started() {
        for started in ["sleep 600; true", "setsid sleep 4; true"] {
            let arguments = ["-c", started].map(OsString::from);
            let mut child = Child::start(Side::New, &"/bin/sh".into(), &arguments).unwrap();
            let group = child.process.id().unwrap();
            let members = || {
                let all = std::fs::read_dir("/proc").unwrap().flatten();
                let stats = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
                // After the name: state, parent, group.
                let alive = stats.filter(|stat| {
                    let fields: Vec<&str> =
                        stat.rsplit_once(')').unwrap_or_default().1.split_whitespace().collect();
                    fields.get(2) == Some(&group.to_string().as_str()) && fields[0] != "Z"
                });
                alive.count()
            };
            while members() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // The shell has started its child.
            tokio::time::sleep(Duration::from_millis(100)).await;
            child.kill();
            let ended = tokio::time::timeout(Duration::from_secs(60), child.end()).await;
            assert!(!ended.expect("it is waited for though it is gone").finished, "{started}");
            // The kernel ends the group's members one by one, and only the first is a child of ours.
            let none = async {
                while members() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let gone = tokio::time::timeout(Duration::from_secs(60), none).await;
            assert!(gone.is_ok(), "{started}: {} of the group go on", members());
        }
    }
}
