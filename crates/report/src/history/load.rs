//! Finds the runs below directories and parses the fields that a history needs.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    RESULTS,
    analysis::{Metric, history::Run},
    growing,
    kind::Kind,
    parallel,
    sample::{self, Accelerator, Outcome, Results, SCHEMA},
    text,
};

/// Largest file of a run, which needs about 2 KB for a sample.
const LARGEST_FILE: u64 = 256 << 20;
/// Largest number of targets in a scenario. Each figure of a target takes a pass over all samples.
const MOST_TARGETS: usize = 64;
/// Largest depth of a tree of runs.
const DEEPEST: usize = 32;

/// Runs of the directories.
#[derive(Debug)]
pub struct Loaded {
    /// In the order of their files' paths.
    pub runs: Vec<Run>,
    /// Unreadable and damaged files and those of other versions, in the order of their paths.
    pub left_out: Vec<LeftOut>,
}

/// A file or directory that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Path of the file or directory.
    pub path: PathBuf,
    /// Reason, as a clause.
    pub why: String,
}

/// Reads every `results.json` in and below `dirs`, on `threads` threads. It follows symbolic links in `dirs` only: a
/// link such as `latest` below them would duplicate its run.
///
/// # Errors
/// When one of `dirs` itself can't be read; the error has its path.
pub fn load(dirs: &[PathBuf], metrics: &[Metric], threads: usize) -> Result<Loaded, LeftOut> {
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    for dir in dirs {
        if dir.is_file() {
            files.push(dir.clone());
        } else {
            find(dir, 0, &mut files, &mut left_out)
                .map_err(|why| LeftOut { path: dir.clone(), why: why.to_string() })?;
        }
    }
    files.sort_unstable();
    files.dedup();
    let read = parallel::each(&files, threads, Vec::new, |buffer, path| read(path, buffer, metrics));
    let mut runs = Vec::with_capacity(files.len());
    for (path, result) in files.into_iter().zip(read) {
        match result {
            Ok(run) => runs.push(run),
            Err(why) => left_out.push(LeftOut { path, why }),
        }
    }
    left_out.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Loaded { runs, left_out })
}

/// Adds the files below `dir`, and unreadable folders below it to `left_out`.
fn find(dir: &Path, depth: usize, files: &mut Vec<PathBuf>, left_out: &mut Vec<LeftOut>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_file() && entry.file_name() == RESULTS {
            files.push(path);
        } else if kind.is_dir() && entry.file_name() != "charts" {
            let found = match depth < DEEPEST {
                true => find(&path, depth + 1, files, left_out),
                false => Err(io::Error::other(format!("it is more than {DEEPEST} folders deep"))),
            };
            if let Err(why) = found {
                left_out.push(LeftOut { path, why: why.to_string() });
            }
        }
    }
    Ok(())
}

/// Reads one run; `buffer` is reused from file to file.
fn read(path: &Path, buffer: &mut Vec<u8>, metrics: &[Metric]) -> Result<Run, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let about = file.metadata().map_err(|e| e.to_string())?;
    if about.len() > LARGEST_FILE {
        return Err(format!("it has {} MiB; results of a run have at most 256", about.len() >> 20));
    }
    buffer.clear();
    file.take(LARGEST_FILE).read_to_end(buffer).map_err(|e| e.to_string())?;
    let mut results = parse(buffer)?;
    if results.run.interrupted {
        growing::complete(&mut results, path).map_err(|error| error.to_string())?;
    }
    if results.targets.len() > MOST_TARGETS {
        return Err(format!(
            "damaged: it has {} targets; a run has at most {MOST_TARGETS}",
            results.targets.len()
        ));
    }
    let run = Run::of(&results, metrics).map_err(|e| format!("damaged: {e}"));
    // A huge file must not keep its memory on every thread.
    buffer.shrink_to(1 << 20);
    run
}

fn parse(json: &[u8]) -> Result<Results, String> {
    match serde_json::from_slice::<FigureFields<'_>>(json) {
        Ok(lean) if lean.schema == SCHEMA => Ok(lean.into()),
        Ok(lean) => Err(foreign(&lean.schema)),
        Err(why) => match serde_json::from_slice::<OnlySchema<'_>>(json) {
            Ok(OnlySchema { schema: Some(schema) }) if schema != SCHEMA => Err(foreign(&schema)),
            Ok(OnlySchema { schema: None }) => {
                Err("not a results file of bootrace: it has no \"schema\"".into())
            }
            // The error may contain parts of the file.
            _ => Err(format!("damaged: {}", text::clean(&why.to_string(), 200))),
        },
    }
}

fn foreign(schema: &str) -> String {
    format!("it has the schema {:?}, this version reads {SCHEMA:?}", text::clip(schema, 80))
}

#[derive(Deserialize)]
struct OnlySchema<'a> {
    #[serde(borrow, default)]
    schema: Option<Cow<'a, str>>,
}

/// [`Results`] without the fields that no figure uses, such as identity, interference and errors.
#[derive(Deserialize)]
struct FigureFields<'a> {
    #[serde(borrow)]
    schema: Cow<'a, str>,
    run: sample::Run,
    host: Host,
    image: Image,
    targets: Vec<Target>,
    #[serde(borrow)]
    samples: Vec<Sample<'a>>,
}

#[derive(Deserialize)]
struct Host {
    hostname: Option<String>,
    kernel_release: String,
    cpu_model: Option<String>,
    processor_emulator: Option<String>,
    cpus: u32,
    tuned: Option<Vec<sample::Setting>>,
    programs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Image {
    digest: String,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Kind,
    accelerator: Accelerator,
    options: serde_json::Value,
}

#[derive(Deserialize)]
struct Sample<'a> {
    #[serde(borrow)]
    target: Cow<'a, str>,
    round: u32,
    warmup: bool,
    outcome: Outcome,
    timeline_ns: sample::Timeline,
    memory_bytes: sample::Memory,
    cpu_ns: sample::Cpu,
    work_ns: sample::Work,
    disk: Option<sample::Disk>,
    boot_ns: Option<sample::Boot>,
}

impl From<FigureFields<'_>> for Results {
    fn from(lean: FigureFields<'_>) -> Self {
        let host = lean.host;
        Results {
            schema: lean.schema.into_owned(),
            run: lean.run,
            host: sample::Host {
                hostname: host.hostname,
                kernel_release: host.kernel_release,
                cpu_model: host.cpu_model,
                processor_emulator: host.processor_emulator,
                cpus: host.cpus,
                tuned: host.tuned,
                programs: host.programs,
                ..sample::Host::default()
            },
            image: sample::Image { digest: lean.image.digest, ..sample::Image::default() },
            targets: lean
                .targets
                .into_iter()
                .map(|target| sample::TargetRecord {
                    name: target.name,
                    kind: target.kind,
                    accelerator: target.accelerator,
                    accelerator_reason: None,
                    kvm: None,
                    options: target.options,
                })
                .collect(),
            samples: lean
                .samples
                .into_iter()
                .map(|sample| sample::Sample {
                    target: sample.target.into_owned(),
                    round: sample.round,
                    position: 0,
                    warmup: sample.warmup,
                    outcome: sample.outcome,
                    error: None,
                    timeline_ns: sample.timeline_ns,
                    memory_bytes: sample.memory_bytes,
                    cpu_ns: sample.cpu_ns,
                    work_ns: sample.work_ns,
                    identity: None,
                    interference: None,
                    disk: sample.disk,
                    isolation: None,
                    surroundings: None,
                    boot_ns: sample.boot_ns,
                })
                .collect(),
            density: Vec::new(),
        }
    }
}
