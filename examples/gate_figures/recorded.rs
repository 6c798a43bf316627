//! Recorded samples of docker: sessions of one side against itself, and against a slower side.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail, ensure};
use bootrace::{
    analysis::{
        gate::{self, LEAST_MARGIN, Values},
        is_measured,
        median::median,
    },
    calibration::noise,
    report,
    sample::Results,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{LEVEL, MOST_FALSE_ALARMS, Tally, in_one_job, verdict};

const SCHEMA: &str = "bootrace.gate-sessions/1";
const SEED: u64 = 40;
const SAMPLES: usize = 20;
/// The number of comparisons drawn from unchanged sessions.
const COMPARISONS: usize = 400;
/// The required number of sessions of one side against itself.
const FEWEST_SESSIONS: usize = 10;

#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded {
    schema: String,
    sessions: Vec<Session>,
}

/// One job with both sides, round by round.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Session {
    run: String,
    started_at: String,
    bootrace_version: String,
    cpu: String,
    kernel: String,
    /// Per cent by which NEW is slower; 0: unchanged.
    slower: u32,
    /// Start-up in ns in the order of rounds; both lists have the same length.
    base: Vec<u64>,
    new: Vec<u64>,
}

pub fn load(file: &Path) -> anyhow::Result<Recorded> {
    let recorded: Recorded = serde_json::from_slice(&fs::read(file)?)?;
    ensure!(recorded.schema == SCHEMA, "its schema is {:?}, not {SCHEMA:?}", recorded.schema);
    Ok(recorded)
}

/// Makes the file from run directories: those with the targets docker-a and docker-b, and those of `bootrace ab` with a
/// NEW scenario called `aa` or `slower-PERCENT`.
pub fn record(file: &Path, dirs: &[&str]) -> anyhow::Result<()> {
    let mut sessions = Vec::new();
    for dir in dirs.iter().map(Path::new) {
        // For example an interrupted one.
        if dir.join("base").is_dir() && !dir.join("comparison.json").exists() {
            eprintln!("left out, since it was not judged: {}", dir.display());
            continue;
        }
        let session = match dir.join("base").is_dir() {
            true => {
                let [base, new] = ["base", "new"].map(|side| report::load(&dir.join(side)));
                let (base, new) = (base?, new?);
                let name = new.run.scenario["name"].as_str().unwrap_or_default();
                let slower = match name.strip_prefix("slower-") {
                    Some(percent) => percent.parse().with_context(|| format!("the scenario {name}"))?,
                    None => 0,
                };
                session(&base, slower, startups(&base, "docker"), startups(&new, "docker"))
            }
            false => {
                let run = report::load(dir)?;
                let [base, new] =
                    noise::sides(bootrace::kind::Kind::Docker).map(|name| startups(&run, &name));
                session(&run, 0, base, new)
            }
        };
        if session.base.is_empty() {
            bail!("{} has no round with both sides", dir.display());
        }
        sessions.push(session);
    }
    sessions.sort_by(|a, b| (&a.started_at, &a.run).cmp(&(&b.started_at, &b.run)));
    let mut text = format!("{{\n\"schema\": \"{SCHEMA}\",\n\"sessions\": [\n");
    let lines = sessions.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    text.push_str(&lines.join(",\n"));
    text.push_str("\n]\n}\n");
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// A target's start-ups by round.
fn startups(results: &Results, target: &str) -> BTreeMap<u32, u64> {
    let mine = results.samples.iter().filter(|sample| sample.target == target && is_measured(sample));
    mine.filter_map(|sample| Some((sample.round, sample.timeline_ns.startup()?))).collect()
}

fn session(run: &Results, slower: u32, base: BTreeMap<u32, u64>, new: BTreeMap<u32, u64>) -> Session {
    let pairs = base.iter().filter_map(|(round, base)| Some((*base, *new.get(round)?)));
    let (base, new) = pairs.unzip();
    Session {
        run: run.run.id.clone(),
        started_at: run.run.started_at.clone(),
        bootrace_version: run.run.bootrace_version.clone(),
        cpu: format!("{} x {}", run.host.cpus, run.host.cpu_model.as_deref().unwrap_or("unknown")),
        kernel: run.host.kernel_release.clone(),
        slower,
        base,
        new,
    }
}

impl Session {
    fn pairs(&self) -> Vec<(f64, f64)> {
        self.base.iter().zip(&self.new).map(|(base, new)| (*base as f64, *new as f64)).collect()
    }

    fn medians(&self) -> [f64; 2] {
        let of = |side: &[u64]| median(&side.iter().map(|v| *v as f64).collect::<Vec<_>>()).unwrap_or(1.0);
        [of(&self.base), of(&self.new)]
    }
}

/// Prints the tables. Returns the missed requirements.
pub fn report(recorded: &Recorded) -> anyhow::Result<Vec<String>> {
    let same: Vec<&Session> = recorded.sessions.iter().filter(|session| session.slower == 0).collect();
    let mut missed = Vec::new();
    if same.len() < FEWEST_SESSIONS {
        missed
            .push(format!("{} sessions of docker against itself are too few: {FEWEST_SESSIONS}", same.len()));
    }
    let (Some(first), Some(last)) = (same.first(), same.last()) else { bail!("there is no A/A session") };
    println!(
        "#### Recorded: docker on {}, {} A/A sessions from {} to {}\n",
        first.cpu,
        same.len(),
        first.started_at,
        last.started_at
    );
    let medians: Vec<[f64; 2]> = same.iter().map(|session| session.medians()).collect();
    println!(
        "The margin that these sessions ask of runs apart: {:.1} %. Comparisons of what was not changed are {COMPARISONS} drawn \
         from these sessions, which they share.\n",
        noise::margin(&medians) * 100.0
    );
    Tally::head();
    for (what, tally) in [
        ("nothing changed, sides of one job", false_alarms_in_one_job(&same)),
        ("nothing changed, runs apart", false_alarms_apart(&same)),
    ] {
        println!("{}", tally.line(&format!("{what}, n = {SAMPLES}")));
        if tally.share(tally.regressed) > MOST_FALSE_ALARMS {
            missed.push(format!("recorded, {what}: {} of {} are false alarms", tally.regressed, tally.all));
        }
    }
    let mut found = Vec::new();
    for (slower, samples, least) in [(20, 20, 0.95), (10, 40, 0.8)] {
        let jobs = recorded.sessions.iter().filter(|s| s.slower == slower && s.base.len() >= samples);
        let jobs: Vec<&Session> = jobs.collect();
        let mut tally = Tally::default();
        jobs.iter().for_each(|job| tally.count(in_one_job(job.pairs()[..samples].to_vec())));
        let ratios: Vec<f64> = jobs.iter().map(|job| job.medians()[1] / job.medians()[0]).collect();
        let seen = median(&ratios).map_or("none".into(), |r| format!("{:+.1} %", (r - 1.0) * 100.0));
        println!("{}", tally.line(&format!("NEW {slower} % slower ({seen} by the medians), n = {samples}")));
        let wholly = jobs.iter().filter(|job| wholly_beyond(&job.pairs()[..samples])).count();
        found.push(format!("NEW {slower} % slower, n = {samples}: {wholly} of {}", jobs.len()));
        if jobs.len() < 40 || tally.share(tally.regressed) < least {
            missed.push(format!(
                "NEW {slower} % slower: found in {} of {} jobs",
                tally.regressed,
                jobs.len()
            ));
        }
    }
    println!("\nFound if the whole interval had to lie beyond the margin: {}.\n", found.join("; "));
    Ok(missed)
}

/// The rule for separate runs, applied to pairs.
fn wholly_beyond(pairs: &[(f64, f64)]) -> bool {
    let shift = gate::shift(&Values::Paired(pairs.to_vec()), LEVEL, LEAST_MARGIN);
    shift.and_then(|shift| shift.interval).is_some_and(|interval| interval.low > 1.0 + LEAST_MARGIN)
}

/// Each comparison draws one session, then random rounds of it and which side is BASE.
fn false_alarms_in_one_job(sessions: &[&Session]) -> Tally {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut tally = Tally::default();
    for _ in 0..COMPARISONS {
        let mut pairs = sessions[rng.random_range(0..sessions.len())].pairs();
        while pairs.len() > SAMPLES {
            pairs.remove(rng.random_range(0..pairs.len()));
        }
        if rng.random_bool(0.5) {
            pairs.iter_mut().for_each(|pair| *pair = (pair.1, pair.0));
        }
        tally.count(in_one_job(pairs));
    }
    tally
}

/// Each comparison draws a side of each of two sessions. The margin comes from all others.
fn false_alarms_apart(sessions: &[&Session]) -> Tally {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED + 1);
    let mut tally = Tally::default();
    for _ in 0..COMPARISONS {
        let base = rng.random_range(0..sessions.len());
        let new = (base + rng.random_range(1..sessions.len())) % sessions.len();
        let others = sessions.iter().enumerate().filter(|(i, _)| *i != base && *i != new);
        let medians: Vec<[f64; 2]> = others.map(|(_, session)| session.medians()).collect();
        let mut side = |session: &Session| -> Vec<f64> {
            let side = if rng.random_bool(0.5) { &session.base } else { &session.new };
            let start = rng.random_range(0..=side.len().saturating_sub(SAMPLES));
            side.iter().skip(start).take(SAMPLES).map(|v| *v as f64).collect()
        };
        let values = Values::Unpaired { base: side(sessions[base]), new: side(sessions[new]) };
        tally.count(verdict(&values, noise::margin(&medians)));
    }
    tally
}
