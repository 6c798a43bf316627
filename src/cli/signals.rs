//! Wraps every command that measures: watches for signals, and restores tuned settings.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::{
    sys,
    tune::{self, Tuning},
};

/// Runs `work` on a runtime of its own, then restores tuned settings, also after an error.
///
/// # Errors
/// As `work`; else when the host's settings can't be restored.
pub fn watched<T>(work: impl AsyncFnOnce(&Signals, &Tuning) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    let tuning = Tuning::new();
    let done = runtime.block_on(async {
        let signals = Signals::watch(tuning.handle()).map_err(Failure::Run)?;
        work(&signals, &tuning).await
    });
    // Without waiting for a blocking call into an engine that hangs.
    runtime.shutdown_background();
    // A failure of `work` takes precedence.
    let put_back = tuning.put_back().map_err(|e| Failure::Run(e.into()));
    done.and_then(|done| put_back.map(|()| done))
}

/// A hang-up, Ctrl-C, Ctrl-\\ or SIGTERM: the first one ends the run cleanly, the second one at once.
pub struct Signals {
    pub stop: CancellationToken,
    which: Arc<AtomicU8>,
}

impl Signals {
    fn watch(tuning: tune::Handle) -> anyhow::Result<Self> {
        let (stop, which) = (CancellationToken::new(), Arc::new(AtomicU8::new(0)));
        for (mut signals, number) in sys::signals::ending().context("watching for signals")? {
            let (stop, which, tuning) = (stop.clone(), which.clone(), tuning.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    // Not eprintln, which panics when the terminal is gone.
                    let mut stderr = std::io::stderr();
                    if which.swap(number, Ordering::Relaxed) != 0 {
                        tuning.put_back();
                        let _ = writeln!(stderr, "stopped at once; bootrace clean removes what is left");
                        std::process::exit(128 + i32::from(number));
                    }
                    stop.cancel();
                    let _ = writeln!(stderr, "stopping: removing what runs (again to stop at once)");
                }
            });
        }
        Ok(Signals { stop, which })
    }

    pub fn signal(&self) -> u8 {
        self.which.load(Ordering::Relaxed)
    }
}
