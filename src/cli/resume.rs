//! `bootrace run --resume`: goes on where a killed, failed or interrupted run stopped. All samples of a run come from one
//! scenario, image, program and boot of one host, so a change of any of them is refused.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;

use super::{
    Failure,
    options::{Rounds, Session},
    prepare::{Prepared, must_be_root},
    subject::{Resumed, Subject, digest},
};
use crate::{
    plan,
    probe::host,
    report,
    runner::{self, Lock},
    sample::{Results, Resumption, Setting, TargetRecord},
    scenario::Scenario,
    sys,
};

/// The longest id of a run and the most differences that a message repeats.
const LONGEST_ID: usize = 200;
const MOST_DIFFERENCES: usize = 3;

/// What else the command line says.
pub struct CommandLine<'a> {
    pub scenarios: &'a [String],
    pub rounds: &'a Rounds,
    pub session: &'a Session,
}

/// Reads an interrupted run and takes its lock.
///
/// # Errors
/// [`Failure::Usage`] when it can't go on; [`Failure::Run`] for another user than root.
pub fn open(dir: &Path, line: &CommandLine) -> Result<Subject, Failure> {
    let refused =
        |error: anyhow::Error| Failure::Usage(error.context(format!("{} can't be resumed", dir.display())));
    let place = place(dir).map_err(refused)?;
    let (results, ..) = read(&place, line).map_err(refused)?;
    if Lock::is_held_for(&format!("{}-", runner::tag(&results.run.id))) {
        return Err(refused(anyhow!("it is still going on\nfix: wait until it has ended")));
    }
    must_be_root().map_err(Failure::Run)?;
    let lock = Lock::take(&results.run.id).map_err(refused)?;
    // It may have gone on until its lock was free.
    let (results, scenario, folder) = read(&place, line).map_err(refused)?;
    let file = results.run.scenario_file.clone();
    Ok(Subject { scenario, folder, file, resumed: Some(Resumed { results, dir: place, lock }) })
}

/// The run's directory: `dir` may be a link to it, or its results.json.
fn place(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.canonicalize().context("looking for the run\nfix: name the run's directory")?;
    if path.join(report::comparison::FILE).exists() || path.join("ab.json").exists() {
        bail!("it is an A/B, whose sides measure in turns\nfix: run the A/B again");
    }
    if path.join(report::calibration::FILE).exists() {
        bail!("it is a calibration\nfix: run bootrace calibrate again");
    }
    Ok(if path.is_dir() { path } else { path.parent().unwrap_or(&path).into() })
}

/// The results so far, the scenario, and the base of its relative paths.
fn read(dir: &Path, line: &CommandLine) -> anyhow::Result<(Results, Scenario, PathBuf)> {
    let results = report::load(dir)?;
    let scenario = recorded(&results, dir)?;
    unfinished(&results, dir)?;
    same_boot_and_program(&results)?;
    let folder = same_scenario(&results, &scenario, line.scenarios)?;
    same_options(&results, &scenario, dir, line)?;
    Ok((results, scenario, folder))
}

/// The scenario of the results, checked as strictly as a file: results may come from elsewhere.
fn recorded(results: &Results, dir: &Path) -> anyhow::Result<Scenario> {
    let file = dir.join(report::RESULTS);
    let damaged = |what: &str| anyhow!("{} is damaged: {what}\nfix: {}", file.display(), again(results));
    let scenario = Scenario::from_json(&results.run.scenario, &file.display().to_string())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let id = &results.run.id;
    if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(plain) {
        return Err(damaged("its id is none of a run"));
    }
    let names: Vec<&str> = results.targets.iter().map(|target| target.name.as_str()).collect();
    if !scenario.targets.iter().map(|target| target.name.as_str()).eq(names.iter().copied()) {
        return Err(damaged("its targets are not those of its scenario"));
    }
    let trials = plan::plan(names.len(), &scenario.sampling, results.run.seed);
    match plan::taken(&trials, &names, &results.samples) {
        Some(_) => Ok(scenario),
        None => Err(damaged("its samples do not follow the plan of its scenario and seed")),
    }
}

fn unfinished(results: &Results, dir: &Path) -> anyhow::Result<()> {
    if let Some(ab) = &results.run.ab {
        bail!("it is the {} side of an A/B, whose sides measure in turns\nfix: run the A/B again", ab.side);
    }
    let shown = format!("`bootrace report {}` shows what there is", dir.display());
    ensure!(results.run.interrupted, "it is finished\nfix: {shown}; for other samples, {}", again(results));
    ensure!(
        results.density.is_empty(),
        "it had begun to fill the host with instances (density), and these are gone\nfix: {shown}; else {}",
        again(results)
    );
    Ok(())
}

fn same_boot_and_program(results: &Results) -> anyhow::Result<()> {
    let (then, now) = (&results.host.boot_id, host::boot_id());
    ensure!(
        *then == now,
        "the host has booted since, or it is another host: the run's boot is {then}, this one is {now}\nfix: {}",
        again(results)
    );
    let run = &results.run;
    let (then, now) = (&*run.bootrace_version, env!("CARGO_PKG_VERSION"));
    ensure!(
        then == now,
        "bootrace {then} took its samples, and this is {now}\nfix: use that version, or {}",
        again(results)
    );
    let program = |digest: Option<&str>| digest.unwrap_or("unknown").to_owned();
    let (then, now) = (program(run.program_digest.as_deref()), program(sys::program_digest().as_deref()));
    ensure!(
        then == now && run.program_digest.is_some(),
        "another build of bootrace {} took its samples: the sha256 of its executable is {then}, of this one {now}\nfix: use \
         that executable, or {}",
        run.bootrace_version,
        again(results)
    );
    Ok(())
}

/// Compares the recorded scenario with the command line's, else with the file that it came from, if that is still
/// there. Returns the base of its relative paths.
fn same_scenario(results: &Results, recorded: &Scenario, named: &[String]) -> anyhow::Result<PathBuf> {
    let file = results.run.scenario_file.as_ref();
    ensure!(named.len() < 2, "it has one scenario\nfix: name none");
    let (name, fix) = match (named.first(), file) {
        (Some(name), _) => (name, "name none".into()),
        (None, Some(file)) if Path::new(&file.path).exists() => {
            (&file.path, format!("undo the change, or {}", again(results)))
        }
        (None, Some(file)) => return Ok(Path::new(&file.path).parent().unwrap_or(Path::new("/")).into()),
        (None, None) => return Ok(".".into()),
    };
    let changed =
        |what: &str| anyhow!("the scenario {name} is not that of the run any more: {what}\nfix: {fix}");
    let present = Subject::find(name).map_err(|e| changed(&e.to_string()))?;
    let as_in_file = digest(&present.scenario);
    let rounds = Rounds {
        targets: recorded.targets.iter().map(|target| target.name.clone()).collect(),
        samples: Some(recorded.sampling.samples),
        warmup: Some(recorded.sampling.warmup),
    };
    let folder = present.folder.clone();
    let present = present.with(&rounds).map_err(|e| changed(&e.to_string()))?.scenario;
    let mut found = Vec::new();
    differences("", &results.run.scenario, &present.to_json(), &mut found);
    if !found.is_empty() {
        found.truncate(MOST_DIFFERENCES);
        return Err(changed(&found.join("; ")));
    }
    // The command line may have replaced these in the first part, so only the digest shows a change.
    if file.is_some_and(|file| file.digest != as_in_file) {
        return Err(changed("its targets or numbers of rounds differ"));
    }
    Ok(folder)
}

/// The keys in which two scenarios differ, with their values.
fn differences(path: &str, run: &Value, file: &Value, found: &mut Vec<String>) {
    match (run, file) {
        _ if run == file => {}
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&path, &of(a), &of(b), found);
            }
        }
        _ => {
            let shown = |value: &Value| report::clean(&value.to_string(), 60);
            found.push(format!("{path} was {} and is {}", shown(run), shown(file)));
        }
    }
}

/// Checks that the other options leave the plan as it is.
fn same_options(
    results: &Results,
    scenario: &Scenario,
    dir: &Path,
    line: &CommandLine,
) -> anyhow::Result<()> {
    let differs = |option: &str, value: String, run: String| -> anyhow::Result<()> {
        bail!("{option} {value} differs from the run's {run}\nfix: leave {option} out, or {}", again(results))
    };
    let numbers = [
        ("--samples", line.rounds.samples.map(u64::from), scenario.sampling.samples.into()),
        ("--warmup", line.rounds.warmup.map(u64::from), scenario.sampling.warmup.into()),
        ("--seed", line.session.seed, results.run.seed),
    ];
    for (option, value, run) in numbers {
        if let Some(value) = value.filter(|value| *value != run) {
            return differs(option, value.to_string(), run.to_string());
        }
    }
    let named: BTreeSet<&str> = line.rounds.targets.iter().map(String::as_str).collect();
    let targets = scenario.targets.iter().map(|target| target.name.as_str());
    if !named.is_empty() && named != targets.collect() {
        return differs("--targets", line.rounds.targets.join(","), scenario.target_names());
    }
    let out = &line.session.out;
    let same_out = || out.join(&results.run.id).canonicalize().is_ok_and(|out| out == dir);
    if *out != Session::default_out() && !same_out() {
        return differs("--out", out.display().to_string(), dir.display().to_string());
    }
    if line.session.tune && results.host.tuned.is_none() {
        bail!(
            "--tune changes settings of the host, and its first samples ran without\nfix: leave --tune out"
        );
    }
    Ok(())
}

/// Checks that the preparation found the image, targets, engines and settings of the first part.
///
/// # Errors
/// [`Failure::Usage`] with what differs.
pub fn check_prepared(resumed: &Resumed, prepared: &Prepared) -> Result<(), Failure> {
    let results = &resumed.results;
    still_the_same(results, prepared).map_err(|error| {
        let error = anyhow!("{error}\nfix: undo the change, or {}", again(results));
        Failure::Usage(error.context(format!("{} can't be resumed", resumed.dir.display())))
    })
}

fn still_the_same(results: &Results, prepared: &Prepared) -> anyhow::Result<()> {
    let (then, now) = (&results.image.digest, &prepared.image.digest);
    ensure!(
        then == now,
        "its image has the digest {then}, and the scenario gives {now} now: the file or the cache (BOOTRACE_CACHE) is \
         another one, or the image was built again"
    );
    for (then, now) in results.targets.iter().zip(prepared.targets.iter().map(|target| target.info())) {
        let what = |t: &TargetRecord| (t.kind, t.accelerator, t.options.clone());
        if what(then) != what(&now) {
            let mut found = Vec::new();
            let json = |record: &TargetRecord| serde_json::to_value(record).unwrap_or_default();
            differences("", &json(then), &json(&now), &mut found);
            bail!("its target {} has changed: {}", then.name, found.join("; "));
        }
    }
    for (program, then) in &results.host.programs {
        let now = prepared.host.programs.get(program).map_or("unknown", String::as_str);
        ensure!(then == now, "it ran with {program} {then}, and this host has {now} now");
    }
    let set = |tuned: &Option<Vec<Setting>>| -> Option<Vec<(String, Option<String>)>> {
        Some(tuned.as_ref()?.iter().map(|one| (one.name.clone(), one.set.clone())).collect())
    };
    let (then, now) = (set(&results.host.tuned), set(&prepared.host.tuned));
    ensure!(then == now, "--tune has set {then:?} for it, and {now:?} now");
    Ok(())
}

/// Records that the run goes on now, with the preparation's caveats.
pub fn record(results: &mut Results, warnings: Vec<String>) {
    let run = &mut results.run;
    let now = jiff::Timestamp::now();
    let earlier: u64 = run.resumptions.iter().map(|resumption| resumption.pause_ns).sum();
    let since_start = run.started_at.parse::<jiff::Timestamp>().map(|start| now.duration_since(start));
    let since_start = since_start.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
    let pause = since_start.saturating_sub(run.wall_ns.unwrap_or(0)).saturating_sub(earlier);
    run.resumptions.push(Resumption {
        at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        samples: results.samples.len() as u32,
        // The start is known to the second.
        pause_ns: pause / 1_000_000_000 * 1_000_000_000,
    });
    let new: Vec<String> = warnings.into_iter().filter(|warning| !run.warnings.contains(warning)).collect();
    run.warnings.extend(new);
}

/// Removes the left-overs of the killed part: its instances have the names of those to come, and files of a report that
/// it was writing are half ones.
///
/// # Errors
/// [`Failure::Run`] when a left-over can't be removed.
pub async fn sweep(resumed: &Resumed, instances: &Path) -> Result<(), Failure> {
    for dir in [resumed.dir.clone(), resumed.dir.join("charts")] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let unfinished = entry.file_name().to_string_lossy().starts_with(report::UNFINISHED);
            if unfinished && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    let swept = runner::left_over::sweep(instances, &resumed.results.run.id).await;
    swept.context("removing what the killed part left\nfix: sudo bootrace clean").map_err(Failure::Run)
}

/// `start a new run: bootrace run NAME`
fn again(results: &Results) -> String {
    let run = &results.run;
    let file = run.scenario_file.as_ref().map(|file| file.path.as_str());
    let name = file.or(run.scenario["name"].as_str()).unwrap_or_default();
    format!("start a new run: bootrace run {name}")
}
