//! Saves and loads a run's results. While the run takes samples, saving each of them costs the same.
//!
//! `results.json` is written as a whole while it is small, and then whenever it has grown by an eighth. The samples
//! between are lines of a journal beside it, each with what changes in the run's head; [`crate::load`] adds them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    output::{self, put},
    sample::{Results, SCHEMA, Sample},
    sudo_user::as_sudo_user,
};

/// Name of the file with the raw samples in a run's directory.
pub const RESULTS: &str = "results.json";

/// Name of the journal in a run's directory.
pub const JOURNAL: &str = "samples.jsonl";
/// So many samples are always written as a whole.
const SMALL: usize = 64;
/// The most of a journal that is read, in bytes.
const LARGEST: u64 = 256 << 20;

/// A sample, and the fields of [`crate::sample::Run`] that change with it.
#[derive(Serialize, Deserialize)]
struct Line {
    run: String,
    /// The sample's number from 1.
    number: usize,
    sample: Sample,
    wall_ns: Option<u64>,
    measuring_ns: Option<u64>,
    cache_drop_ns: Option<u64>,
    warnings: Vec<String>,
}

/// The results of a run that is going on.
#[derive(Debug)]
pub struct Growing {
    dir: PathBuf,
    /// The number of samples in `results.json`.
    whole: usize,
    /// Open as long as it has lines.
    journal: Option<File>,
}

impl Growing {
    /// Of a run whose `results.json` in `dir` has so many samples.
    pub fn new(dir: &Path, whole: usize) -> Self {
        Growing { dir: dir.into(), whole, journal: None }
    }

    /// Saves the last sample, synchronised to the disk. The others were saved before. The run's last sample completes
    /// `results.json`, which says so.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn save_last(&mut self, results: &Results) -> Result<(), Error> {
        let number = results.samples.len();
        match results.samples.last() {
            Some(sample)
                if results.run.interrupted && number > SMALL && number <= self.whole + self.whole / 8 =>
            {
                self.append(results, number, sample)
            }
            _ => self.save_whole(results),
        }
    }

    /// Writes `results.json`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save_whole(&mut self, results: &Results) -> Result<(), Error> {
        save_results(results, &self.dir)?;
        (self.whole, self.journal) = (results.samples.len(), None);
        Ok(())
    }

    fn append(&mut self, results: &Results, number: usize, sample: &Sample) -> Result<(), Error> {
        let path = self.dir.join(JOURNAL);
        let run = &results.run;
        let line = Line {
            run: run.id.clone(),
            number,
            sample: sample.clone(),
            wall_ns: run.wall_ns,
            measuring_ns: run.measuring_ns,
            cache_drop_ns: run.cache_drop_ns,
            warnings: run.warnings.clone(),
        };
        let mut append = || {
            let mut line = serde_json::to_vec(&line).map_err(io::Error::other)?;
            line.push(b'\n');
            let file = match &mut self.journal {
                Some(file) => file,
                // Not one that is there: a link could lead to a file that is root's.
                none => none
                    .insert(as_sudo_user(|| OpenOptions::new().append(true).create_new(true).open(&path))?),
            };
            file.write_all(&line).and_then(|()| file.sync_data())
        };
        append().map_err(|why| Error::Write { path: path.clone(), why })
    }
}

/// Writes `results.json` alone: atomically, and synchronised to the disk. Removes the journal of a run that was going on.
///
/// # Errors
/// When the file can't be written.
pub fn save_results(results: &Results, dir: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(results)
        .map_err(|e| Error::Write { path: dir.join(RESULTS), why: std::io::Error::other(e) })?;
    json.push(b'\n');
    put(&dir.join(RESULTS), &json)?;
    remove_journal(dir)
}

/// Reads a run's results: `path` is its directory or the file itself.
///
/// # Errors
/// When the file can't be read, is damaged, or has the schema of another version.
pub fn load(path: &Path) -> Result<Results, Error> {
    let path = if path.is_dir() { path.join(RESULTS) } else { path.to_owned() };
    let mut results: Results = output::read(path.clone(), SCHEMA)?;
    if results.run.interrupted {
        complete(&mut results, &path)?;
    }
    Ok(results)
}

/// Removes the journal of results that are whole now.
fn remove_journal(dir: &Path) -> Result<(), Error> {
    let path = dir.join(JOURNAL);
    let remove = || match fs::remove_file(&path) {
        Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    };
    as_sudo_user(remove).map_err(|why| Error::Write { path: path.clone(), why })
}

/// Adds the samples of the journal beside `path`, which has `results`. A line that a kill or a full disk has cut is left
/// out.
pub(crate) fn complete(results: &mut Results, path: &Path) -> Result<(), Error> {
    let path = path.with_file_name(JOURNAL);
    // Results may be anybody's: no link is followed, and a fifo would block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut text = Vec::new();
    let read =
        OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(&path).and_then(
            |file| match file.metadata()?.is_file() {
                true => file.take(LARGEST).read_to_end(&mut text),
                false => Err(io::Error::other("it is no regular file")),
            },
        );
    match read {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|why| Error::Read { path, why })?,
    };
    let lines = text.split(|byte| *byte == b'\n').map_while(|line| serde_json::from_slice::<Line>(line).ok());
    for line in lines {
        if line.run == results.run.id && line.number == results.samples.len() + 1 {
            let run = &mut results.run;
            run.wall_ns = line.wall_ns;
            run.measuring_ns = line.measuring_ns;
            run.cache_drop_ns = line.cache_drop_ns;
            run.warnings = line.warnings;
            results.samples.push(line.sample);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::write;

    const MANY: usize = 160;

    /// The committed sample report as far as `n` samples, those of its end again and again.
    fn run_of(n: usize) -> Results {
        let text = include_str!("../../../reports/sample/results.json");
        let mut results: Results = serde_json::from_str(text).unwrap();
        results.samples = results.samples.iter().cycle().take(n).cloned().collect();
        results.run.interrupted = true;
        results.run.wall_ns = Some(n as u64);
        results.run.warnings = vec![format!("after {n}")];
        results
    }

    fn grown(n: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut growing = Growing::new(dir.path(), 0);
        (1..=n).for_each(|n| growing.save_last(&run_of(n)).unwrap());
        dir
    }

    #[test]
    fn every_sample_is_there_at_once_and_few_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut growing = Growing::new(dir.path(), 0);
        let (mut files, mut samples_written) = (Vec::new(), 0);
        for n in 1..=MANY {
            let results = run_of(n);
            growing.save_last(&results).unwrap();
            if n > SMALL {
                assert_eq!(load(dir.path()).unwrap(), results, "{n}");
            }
            let file = fs::metadata(dir.path().join(RESULTS)).unwrap().ino();
            if files.last() != Some(&file) {
                samples_written += n;
                files.push(file);
            }
        }
        let small = SMALL * (SMALL + 1) / 2;
        assert!(samples_written < small + 10 * MANY, "{samples_written}");
        assert!(dir.path().join(JOURNAL).exists());
        let mut whole = run_of(MANY);
        whole.run.interrupted = false;
        write(&whole, dir.path()).unwrap();
        assert!(!dir.path().join(JOURNAL).exists());
        assert_eq!(load(dir.path()).unwrap(), whole);
    }

    #[test]
    fn a_cut_line_and_lines_of_other_runs_or_earlier_samples_are_left_out() {
        let dir = grown(70);
        let journal = dir.path().join(JOURNAL);
        let lines = fs::read_to_string(&journal).unwrap();
        assert_eq!(lines.lines().count(), 6, "{lines}");
        // The process was killed after it wrote results.json and before it removed the journal.
        save_results(&run_of(70), dir.path()).unwrap();
        fs::write(&journal, &lines).unwrap();
        assert_eq!(load(dir.path()).unwrap(), run_of(70));
        let other = grown(64);
        let loaded_with = |text: &str| {
            fs::write(other.path().join(JOURNAL), text).unwrap();
            load(other.path()).unwrap()
        };
        assert_eq!(loaded_with(&lines), run_of(70));
        assert_eq!(loaded_with(&lines[..lines.len() - 9]), run_of(69));
        let id = &run_of(1).run.id;
        assert_eq!(loaded_with(&lines.replace(id.as_str(), "another")), run_of(64));
        let gap: String = lines.lines().skip(1).map(|line| format!("{line}\n")).collect();
        assert_eq!(loaded_with(&gap), run_of(64));
    }

    #[test]
    fn the_last_sample_of_a_run_completes_its_results() {
        let dir = tempfile::tempdir().unwrap();
        let mut growing = Growing::new(dir.path(), 0);
        (1..=69).for_each(|n| growing.save_last(&run_of(n)).unwrap());
        let mut all = run_of(70);
        all.run.interrupted = false;
        growing.save_last(&all).unwrap();
        assert!(!dir.path().join(JOURNAL).exists());
        assert_eq!(load(dir.path()).unwrap(), all);
    }

    #[test]
    fn no_link_at_the_journals_name_is_followed() {
        let dir = grown(64);
        let (journal, elsewhere) = (dir.path().join(JOURNAL), dir.path().join("elsewhere"));
        fs::write(&elsewhere, "roots\n").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &journal).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains(JOURNAL));
        assert!(Growing::new(dir.path(), 64).save_last(&run_of(65)).is_err());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "roots\n");
    }
}
