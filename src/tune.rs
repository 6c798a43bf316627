//! `--tune`: makes the host steadier during a run, and restores its settings afterwards.
//!
//! It saves the original settings under /run before it changes any. A run restores them when it finishes, fails,
//! panics or receives a signal; after SIGKILL `bootrace clean` or the next tuned run does. A lock there admits one
//! tuned run at a time, so that none saves another's settings as the original ones. A setting that another program
//! has changed meanwhile is left alone.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use crate::sample::Setting;

mod change;
mod settings;

use change::{Change, read, write};

/// Beside the locks of runs. Like them and the settings, it is gone at the next boot.
const STATE: &str = "/run/bootrace/tuned";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "tuning this host: another tuned run is active, and its end would restore the settings during this one\nfix: wait for it, or run without --tune"
    )]
    Busy,
    #[error("{tried} {path}: {why}")]
    State { tried: &'static str, path: String, why: String },
    #[error("restoring this host's settings: {}\nfix: sudo bootrace clean tries again", .0.join("; "))]
    NotPutBack(Vec<String>),
}

/// A setting that a killed tuned run has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftSetting {
    pub path: PathBuf,
    pub now: String,
    /// The value to restore; `None`: another program has changed it since, so it keeps its value.
    pub original: Option<String>,
}

impl fmt::Display for LeftSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.now)?;
        match &self.original {
            Some(original) => write!(f, ", was {original}"),
            None => f.write_str(", which another program set"),
        }
    }
}

/// Holds the host's settings for a run. Dropping it restores those that are not restored yet.
pub struct Tuning(Arc<Shared>);

/// Restores the settings from elsewhere, such as a signal handler that is about to end the program.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    place: Place,
    held: Mutex<Option<Guard>>,
}

/// While this exists, settings may differ from the original ones.
struct Guard {
    settings: Vec<Setting>,
    _lock: File,
}

/// The root of /sys and /proc, and the directory of the saved settings.
#[derive(Debug, Clone)]
struct Place {
    root: PathBuf,
    state: PathBuf,
}

impl Place {
    fn host() -> Self {
        Place { root: "/".into(), state: STATE.into() }
    }

    fn changes(&self) -> PathBuf {
        self.state.join("changes.json")
    }

    /// `None` if a tuned run is going on.
    fn lock(&self) -> Result<Option<File>, Error> {
        let path = self.state.join("lock");
        let failed = |e: io::Error| state("locking", &path, e);
        fs::create_dir_all(&self.state).map_err(failed)?;
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    fn saved(&self) -> Result<Vec<Change>, Error> {
        let path = self.changes();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| state("reading", &path, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(state("reading", &path, e)),
        }
    }

    /// Saves the list atomically, so that a kill leaves the old or the new one.
    fn save(&self, changes: &[Change]) -> Result<(), Error> {
        let (path, new) = (self.changes(), self.state.join("changes.new"));
        let bytes = serde_json::to_vec(changes).map_err(|e| state("writing", &path, e))?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).map_err(|e| state("writing", &path, e))
    }

    /// What [`Place::put_back`] does with a saved setting; `None` if it has its original value, or is gone.
    fn left(&self, change: &Change) -> Option<LeftSetting> {
        let path = self.root.join(&change.file);
        let now = read(&path).filter(|now| *now != change.found)?;
        let original = (now == change.set).then(|| change.found.clone());
        Some(LeftSetting { path, now, original })
    }

    /// Restores the saved settings, the last one first, and reports each. Needs the lock.
    fn put_back(&self) -> Result<Vec<LeftSetting>, Error> {
        let (mut done, mut failed, mut still) = (Vec::new(), Vec::new(), Vec::new());
        for change in self.saved()?.into_iter().rev() {
            let Some(left) = self.left(&change) else { continue };
            match left.original.as_ref().map_or(Ok(()), |original| write(&left.path, original)) {
                Ok(()) => done.push(left),
                Err(why) => {
                    failed.push(format!("{}: {why}", left.path.display()));
                    still.insert(0, change);
                }
            }
        }
        if !failed.is_empty() {
            self.save(&still)?;
            return Err(Error::NotPutBack(failed));
        }
        match fs::remove_file(self.changes()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(state("removing", &self.changes(), e)),
            _ => Ok(done),
        }
    }
}

impl Tuning {
    /// Sets nothing yet.
    pub fn new() -> Self {
        Tuning::at(Place::host())
    }

    fn at(place: Place) -> Self {
        Tuning(Arc::new(Shared { place, held: Mutex::new(None) }))
    }

    pub fn handle(&self) -> Handle {
        Handle(self.0.clone())
    }

    /// Sets all settings that this host has. A second call only repeats the first one's report.
    ///
    /// # Errors
    /// When another tuned run is going on or the original settings can't be saved; then nothing is set. A setting that
    /// can't be set is no error: its [`Setting`] has the reason.
    pub fn apply(&self) -> Result<Vec<Setting>, Error> {
        let Shared { place, held } = &*self.0;
        if let Some(held) = lock(held).as_ref() {
            return Ok(held.settings.clone());
        }
        let lock_file = place.lock()?.ok_or(Error::Busy)?;
        // Outside the mutex: writing out dirty pages may take long, and a signal handler must not wait for it.
        let caches = settings::drop_caches(&place.root);
        let mut held = lock(held);
        // A killed tuned run left these: its settings are not the host's original ones.
        place.put_back()?;
        let plans = settings::plan(&place.root);
        let changes: Vec<Change> = plans.iter().flat_map(|plan| plan.changes.clone()).collect();
        place.save(&changes)?;
        let held = held.insert(Guard { settings: Vec::new(), _lock: lock_file });
        held.settings.extend(plans.into_iter().map(|plan| plan.carry_out(&place.root)));
        held.settings.push(caches);
        Ok(held.settings.clone())
    }

    /// A line for each setting that another program has changed since; later samples ran with the changed value.
    pub fn changed(&self) -> Vec<String> {
        let Shared { place, held } = &*self.0;
        if lock(held).is_none() {
            return Vec::new();
        }
        let tell = |change: Change| {
            let path = place.root.join(&change.file);
            let now = read(&path).filter(|now| *now != change.set && *now != change.found)?;
            Some(format!(
                "{} was set to {} for this run, and another program changed it to {now} meanwhile: stop that program (a power or KSM daemon), and run again",
                path.display(),
                change.set
            ))
        };
        place.saved().unwrap_or_default().into_iter().filter_map(tell).collect()
    }

    /// # Errors
    /// When a setting can't be restored; it stays saved for `bootrace clean`.
    pub fn put_back(&self) -> Result<(), Error> {
        self.0.put_back()
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning::new()
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        Handle(self.0.clone()).put_back();
    }
}

impl Handle {
    /// As [`Tuning::put_back`], but writes an error to standard error.
    pub fn put_back(&self) {
        if let Err(e) = self.0.put_back() {
            // Not eprintln, which panics when the terminal is gone.
            let _ = writeln!(io::stderr(), "{e}");
        }
    }
}

impl Shared {
    fn put_back(&self) -> Result<(), Error> {
        let mut held = lock(&self.held);
        // Releases the lock in either case, so that `clean` can try again.
        match held.take() {
            Some(_held) => self.place.put_back().map(drop),
            None => Ok(()),
        }
    }
}

/// The settings that a killed tuned run has left, in the order of [`clean`]; empty while a tuned run goes on.
pub fn left() -> Vec<LeftSetting> {
    left_at(&Place::host())
}

fn left_at(place: &Place) -> Vec<LeftSetting> {
    if !place.changes().exists() || !matches!(place.lock(), Ok(Some(_))) {
        return Vec::new();
    }
    place.saved().unwrap_or_default().iter().rev().filter_map(|change| place.left(change)).collect()
}

/// Restores the settings that a killed tuned run has left, and reports each. A running tuned run keeps its settings.
///
/// # Errors
/// When a setting can't be restored.
pub fn clean() -> Result<Vec<LeftSetting>, Error> {
    clean_at(&Place::host())
}

fn clean_at(place: &Place) -> Result<Vec<LeftSetting>, Error> {
    // Creates nothing on a host that was never tuned.
    if !place.changes().exists() {
        return Ok(Vec::new());
    }
    match place.lock()? {
        Some(_lock) => place.put_back(),
        None => Ok(Vec::new()),
    }
}

fn lock(held: &Mutex<Option<Guard>>) -> MutexGuard<'_, Option<Guard>> {
    // A thread that panicked with it had changed only some settings; the saved list has all of them.
    held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn state(tried: &'static str, path: &Path, why: impl ToString) -> Error {
    Error::State { tried, path: path.display().to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests;
