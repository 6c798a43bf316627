//! Asks a daemon, bounded in time, and names the fix of what went wrong.

use std::time::Duration;

use crate::{
    cause::Cause,
    daemon::{Daemon, Naming, Place},
    sys::load::Load,
    target::Error,
};

/// The finding on one that has not answered.
fn no_answer(name: &str, patience: Duration, load: Load) -> String {
    format!("{name} did not answer in {patience:?}: {}", load.explain())
}

/// Why a daemon gave no usable answer.
#[derive(Debug)]
pub enum NoAnswer {
    Failed(Error),
    /// It did not answer in time.
    Late,
}

/// Asks a daemon; an engine that hangs does not hang the doctor.
///
/// # Errors
/// When it fails, or does not answer in time.
pub async fn ask<T>(
    patience: Duration,
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<T, NoAnswer> {
    let answer = tokio::time::timeout(patience, asking).await.map_err(|_| NoAnswer::Late)?;
    answer.map_err(NoAnswer::Failed)
}

impl NoAnswer {
    /// The finding and the fix, for the daemon at a place.
    pub fn explain(&self, daemon: &Daemon, place: Place, patience: Duration) -> (String, String) {
        match self {
            NoAnswer::Failed(error) => (error.without_hint(), fix(daemon, error, place)),
            NoAnswer::Late => {
                (no_answer(daemon.name, patience, Load::now()), fix_of_no_answer(daemon, place))
            }
        }
    }
}

/// The fix of an error, for the doctor's readers.
fn fix(daemon: &Daemon, error: &Error, place: Place) -> String {
    match (error.cause, place, &error.hint) {
        (Cause::Denied, _, _) => {
            let alone = daemon.group.map(|group| {
                format!(
                    ". To use {} alone, without bootrace: sudo usermod -aG {group} $USER, then log in again",
                    daemon.name
                )
            });
            format!("sudo bootrace doctor, and sudo bootrace run{}", alone.unwrap_or_default())
        }
        (Cause::Unreachable, _, _) => daemon.start(place),
        (_, _, Some(hint)) => hint.clone(),
        (_, Place::Elsewhere(Naming { by, undo }), None) => format!("correct {by}, or {undo}"),
        (_, Place::Unit | Place::Here, None) => "scripts/setup".into(),
    }
}

/// A daemon that does not answer may be busy; a restart would only harm.
pub fn fix_of_no_answer(daemon: &Daemon, place: Place) -> String {
    format!("bootrace doctor --patience 5m waits longer; {}", daemon.log(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{DOCKER, LIBVIRT, PODMAN};

    const PLACES: [Place; 3] =
        [Place::Elsewhere(Naming { by: "DOCKER_HOST", undo: "unset DOCKER_HOST" }), Place::Unit, Place::Here];

    #[test]
    fn the_fix_of_a_stopped_daemon_is_a_command_of_its_place() {
        for hint in [None, Some("a sentence for a run")] {
            let error = Error::new("connecting", "no such file").by(Cause::Unreachable).with_hint(hint);
            let fixes = PLACES.map(|place| fix(&DOCKER, &error, place));
            assert_eq!(
                fixes,
                [
                    "start what DOCKER_HOST names, or unset DOCKER_HOST",
                    "sudo systemctl start docker.service",
                    "scripts/setup"
                ]
            );
        }
        let confused = Error::new("connecting", "no reply");
        assert_eq!(fix(&DOCKER, &confused, Place::Unit), "scripts/setup");
        let denied = Error::new("connecting", "Permission denied").by(Cause::Denied);
        for place in PLACES {
            let fix = fix(&LIBVIRT, &denied, place);
            for part in ["sudo bootrace run", "sudo usermod -aG libvirt $USER, then log in again"] {
                assert!(fix.contains(part), "{place:?}: {fix}");
            }
        }
    }

    #[test]
    fn an_errors_own_fix_is_kept() {
        let error = Error::new("measuring", "it is rootless").with_hint(Some("set DOCKER_HOST=unix:///x"));
        for place in PLACES {
            assert_eq!(fix(&DOCKER, &error, place), "set DOCKER_HOST=unix:///x");
        }
    }

    #[test]
    fn advice_on_a_daemon_that_does_not_answer_ends_nothing() {
        for daemon in [&DOCKER, &LIBVIRT, &PODMAN] {
            for place in PLACES {
                let advice = fix_of_no_answer(daemon, place);
                assert!(advice.contains("--patience") && !advice.contains("kill"), "{advice}");
            }
        }
    }

    #[tokio::test]
    async fn a_daemon_that_starts_on_demand_has_time_to_start() {
        let slowly = async || {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Error>(())
        };
        assert!(ask(super::super::PATIENCE, slowly()).await.is_ok());
        let short = Duration::from_millis(1);
        let late = ask(short, slowly()).await.unwrap_err();
        let (found, _) = late.explain(&LIBVIRT, Place::Unit, short);
        assert!(found.starts_with("libvirt did not answer in 1ms: "), "{found}");
        assert!(found.contains("it hangs, since") != found.contains("the host is busy (load "), "{found}");
    }
}
