//! `bootrace compare`: judges whether NEW is worse than BASE.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::anyhow;

use super::{Failure, print};
use crate::{
    analysis::{
        Metric,
        comparison::{self, Comparison, Difference, Margin, Rules, Subject},
        gate::{self, GateVerdict, LEAST_MARGIN},
    },
    calibration::noise::{self, Floor},
    report::{self, comparison as shown},
    sample::{Results, TargetRecord},
};

pub const EXAMPLES: &str = "\
Examples:
  bootrace compare reports/before reports/after      two runs, or directories of runs (the newest of each scenario)
  bootrace compare a b --metric startup --metric memory.footprint --margin 10
  bootrace compare a b --markdown >> \"$GITHUB_STEP_SUMMARY\"
  bootrace compare a b --fail-on inconclusive        exit with 4 if it is inconclusive

REGRESSED: the whole 99 % interval of the ratio NEW / BASE lies beyond the margin; UNCHANGED: within it; IMPROVED: below
it; INCONCLUSIVE: neither, with how many samples would settle it. The margin is 5 %, or more where this host's noise
between runs is larger (bootrace calibrate --aa measures that). A gate compares on one host, best in one job: bootrace ab
pairs its sides round by round, where an interval above 1 and a ratio beyond the margin suffice.";

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Baseline: a run's directory, its results.json, or a directory of runs.
    pub base: PathBuf,
    /// The run to judge, in the same forms.
    pub new: PathBuf,
    #[command(flatten)]
    pub gate: Gate,
    /// Warn instead of failing when host, accelerator, image or scenario differ; figures of other hosts or accelerators
    /// then do not gate.
    #[arg(long)]
    pub across_hosts: bool,
    /// Show all figures, not only those that gate.
    #[arg(long)]
    pub all: bool,
    /// Write comparison.json, summary.md, index.html and charts into this directory.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print Markdown instead of the table.
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Print comparison.json instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Print nothing; only the exit code reports the verdict.
    #[arg(long, short, conflicts_with_all = ["json", "markdown"])]
    pub quiet: bool,
}

/// Options of the gate, for every command that judges two sides.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Gate {
    /// Gate on these metrics, as in memory.footprint, and only show the others [default: the scenario's, else startup].
    #[arg(long = "metric", value_name = "METRIC", value_delimiter = ',', value_parser = super::metric)]
    pub metrics: Vec<Metric>,
    /// Ignore changes within this many percent [default: the scenario's, else 5 or what this host's noise requires].
    #[arg(long, value_name = "PCT", value_parser = percent)]
    pub margin: Option<f64>,
    /// Fail on this verdict: exit code 3 for regressed, 4 for inconclusive.
    #[arg(long, value_enum, value_name = "VERDICT", default_value_t = FailOn::Regressed)]
    pub fail_on: FailOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FailOn {
    /// A gating metric that has regressed.
    #[default]
    Regressed,
    /// A gating metric that has regressed or is inconclusive.
    Inconclusive,
    /// Failed samples only.
    Never,
}

/// Parses "5", "7.5" or "5%" to a share.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent < 1000.0 => Ok(percent / 100.0),
        _ => Err("a margin is a percentage above 0, as in 5 or 7.5%".into()),
    }
}

/// Compares two runs and shows the result.
///
/// # Errors
/// [`Failure::Usage`] when a run can't be read or the two can't be compared; else with the gate's verdict.
pub fn run(options: &Options) -> Result<(), Failure> {
    let pairs = pairs(options)?;
    let pairs: Vec<(&Results, &Results)> = pairs.iter().map(|(base, new)| (base, new)).collect();
    pairs.iter().try_for_each(|(base, new)| have_rounds(base, new))?;
    let comparison = compare(&pairs, &options.gate)?;
    if !options.across_hosts {
        check_differences(&comparison)?;
    }
    if let Some(dir) = &options.out {
        shown::write(&comparison, &pairs, dir).map_err(|e| Failure::Run(e.into()))?;
    }
    if options.json {
        print(&shown::json(&comparison).map_err(|e| Failure::Run(e.into()))?)?;
    } else if options.markdown {
        print(&shown::markdown(&comparison))?;
    } else if !options.quiet {
        print(&shown::table(&comparison, options.all))?;
        if let Some(dir) = &options.out {
            print(&format!("report: {}\n", dir.join("index.html").display()))?;
        }
    }
    verdict(&comparison, options.gate.fail_on)
}

/// Refuses a run without rounds: a gate compares single instances and no densities.
fn have_rounds(base: &Results, new: &Results) -> Result<(), Failure> {
    let alone = |run: &Results| !run.density.is_empty() && run.samples.iter().all(|sample| sample.warmup);
    if alone(base) && alone(new) {
        let id = report::clean(&new.run.id, 80);
        return Err(Failure::Usage(anyhow!(
            "{id} measured density alone, and a comparison needs rounds\nfix: bootrace run with --samples 20"
        )));
    }
    Ok(())
}

/// Judges pairs of runs as one gate.
///
/// # Errors
/// [`Failure::Usage`] when this host's noise record can't be read, or a scenario's gate is wrong.
pub fn compare(pairs: &[(&Results, &Results)], gate: &Gate) -> Result<Comparison, Failure> {
    let mut floors: Vec<Floor> = Vec::new();
    for (_, new) in pairs {
        check_gate(new)?;
        // Records are per host, so a run of another host has none here.
        let path = noise::file(&noise::key(&new.host));
        let record = noise::load(&new.host).map_err(|e| {
            Failure::Usage(anyhow!(
                "reading this host's noise record {}: {e}\nfix: move it away to begin a new one",
                path.display()
            ))
        })?;
        floors
            .extend(record.floors().into_iter().filter(|floor| !floors.contains(floor)).collect::<Vec<_>>());
    }
    let metrics = |new: &Results| match gate.metrics.is_empty() {
        true => gate::metrics_of(new),
        false => gate.metrics.clone(),
    };
    let margin = |new: &Results, target: &TargetRecord, metric: Metric, paired: bool| {
        let asked = gate.margin.map(|share| Margin { share, from: "from --margin".into() });
        let of_scenario = || margin_of(new).map(|share| Margin { share, from: "the scenario's".into() });
        asked.or_else(of_scenario).unwrap_or_else(|| margin_of_host(&floors, new, target, metric, paired))
    };
    Ok(comparison::compare(pairs, &Rules { metrics: &metrics, margin: &margin }))
}

fn gate_of<'a>(results: &'a Results, key: &str) -> Option<&'a serde_json::Value> {
    results.run.scenario.get("gate")?.get(key).filter(|value| !value.is_null())
}

/// Judges by the scenario's gate. The results may come from a newer version, with values that this one can't judge.
fn check_gate(results: &Results) -> Result<(), Failure> {
    let wrong = |what: &str, value: &serde_json::Value| {
        let value = report::clean(&value.to_string(), 80);
        Err(Failure::Usage(anyhow!(
            "the scenario of {} has the gate's {what} {value}, which this version can't judge\nfix: give --{what}",
            report::clean(&results.run.id, 100)
        )))
    };
    let known =
        |name: &serde_json::Value| name.as_str().is_some_and(|name| Metric::from_name(name).is_some());
    if let Some(metrics) = gate_of(results, "metrics")
        && !metrics.as_array().is_some_and(|names| !names.is_empty() && names.iter().all(known))
    {
        return wrong("metric", metrics);
    }
    match gate_of(results, "margin") {
        Some(margin) if margin_of(results).is_none() => wrong("margin", margin),
        _ => Ok(()),
    }
}

fn margin_of(results: &Results) -> Option<f64> {
    percent(gate_of(results, "margin")?.as_str()?).ok()
}

/// The least margin. Paired rounds share the noise between sessions, and their interval has the rest; separate runs
/// need a margin as large as the noise between equal sessions.
fn margin_of_host(
    floors: &[Floor],
    new: &Results,
    target: &TargetRecord,
    metric: Metric,
    paired: bool,
) -> Margin {
    let least = |from: &str| Margin { share: LEAST_MARGIN, from: from.into() };
    if paired {
        return least("the least: rounds pair, so noise between runs does not count");
    }
    match noise::of_runs(floors, new, target, metric) {
        Some(floor) if floor.margin > LEAST_MARGIN => Margin {
            share: floor.margin,
            from: format!(
                "from {} A/A sessions, with a noise floor of {:.2} % ({})",
                floor.sessions,
                floor.floor * 100.0,
                floor.conditions
            ),
        },
        Some(floor) => least(&format!("the least: {} A/A sessions need no more", floor.sessions)),
        None => least(
            "the least: this host's noise between runs is unknown (bootrace calibrate --aa measures it)",
        ),
    }
}

/// Turns the gate's verdict into an exit code.
///
/// # Errors
/// [`Failure::Run`] when NEW's samples failed, [`Failure::Refuted`] when NEW regressed, [`Failure::Undecided`] when the
/// verdict is inconclusive and `--fail-on` says so.
pub fn verdict(comparison: &Comparison, fail_on: FailOn) -> Result<(), Failure> {
    let Some(verdict) = comparison.verdict else { return Ok(()) };
    let reported = || {
        let rows = comparison.pairs.iter().flat_map(|pair| pair.rows.iter().map(move |row| (pair, row)));
        let rows = rows.filter(|(_, row)| row.gates && row.judged.verdict == verdict);
        let lines: Vec<String> = rows
            .map(|(pair, row)| {
                format!(
                    "{}: {} of {} on {}: {}",
                    verdict.word().to_lowercase(),
                    row.metric,
                    pair.scenario,
                    row.target,
                    row.judged.why
                )
            })
            .collect();
        lines.join("\n")
    };
    match (verdict, fail_on) {
        (GateVerdict::Failed, _) => Err(Failure::Run(anyhow!("{}", reported()))),
        (GateVerdict::Regressed, FailOn::Regressed | FailOn::Inconclusive) => {
            Err(Failure::Refuted(reported()))
        }
        (GateVerdict::Inconclusive, FailOn::Inconclusive) => Err(Failure::Undecided(reported())),
        _ => Ok(()),
    }
}

/// Refuses, or warns of, differences that make a comparison meaningless.
fn check_differences(comparison: &Comparison) -> Result<(), Failure> {
    let pairs = comparison.pairs.iter().filter(|pair| !pair.paired);
    let lines: Vec<String> = pairs
        .flat_map(|pair| pair.differences.iter().filter(|d| d.forbids()).map(move |d| (pair, d)))
        .map(|(pair, Difference { subject, what, base, new })| {
            let subject = match subject {
                Subject::Host => "another host",
                Subject::Accelerator => "another accelerator",
                Subject::Image => "another image",
                Subject::Scenario => "another scenario",
                Subject::Software => "other software",
            };
            let [name, what, base, new] =
                [&pair.scenario, what, base, new].map(|text| report::clean(text, 160));
            format!("{name} ({subject}): {what} is {base} in BASE, {new} in NEW")
        })
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(anyhow!(
        "these runs differ in what a gate needs to be equal:\n{}\nfix: run both the same way on one host; or let `bootrace ab` \
         run both sides; or compare with --across-hosts (between hosts and accelerators no figure gates then)",
        lines.join("\n")
    )))
}

/// Pairs each run of BASE with the one of NEW for the same scenario.
fn pairs(options: &Options) -> Result<Vec<(Results, Results)>, Failure> {
    let (mut base, mut new) = (runs(&options.base)?, runs(&options.new)?);
    // Two runs that the command line names are compared, whatever their scenarios' names.
    if base.len() == 1 && new.len() == 1 {
        return Ok(base
            .pop_first()
            .zip(new.pop_first())
            .map(|((_, b), (_, n))| (b, n))
            .into_iter()
            .collect());
    }
    let missing = |has: &BTreeMap<String, Results>, other: &BTreeMap<String, Results>| {
        has.keys().find(|name| !other.contains_key(*name)).cloned()
    };
    for (path, name) in [(&options.new, missing(&base, &new)), (&options.base, missing(&new, &base))] {
        if let Some(name) = name {
            return Err(Failure::Usage(anyhow!(
                "{} has no run of the scenario {name}, which the other side has\nfix: name runs of the same scenarios",
                path.display()
            )));
        }
    }
    Ok(base.into_iter().filter_map(|(name, base)| Some((base, new.remove(&name)?))).collect())
}

/// The error for a directory that has a comparison in place of a run.
pub fn not_a_run(path: &Path) -> Option<anyhow::Error> {
    if !path.join(shown::FILE).exists() {
        return None;
    }
    Some(match path.join("base").is_dir() {
        true => anyhow!(
            "{} is an A/B and no run: name its sides, {0}/base and {0}/new (bootrace report {0} shows how they compare)",
            path.display()
        ),
        false => anyhow!("{} is a comparison and no run: name the runs that it compares", path.display()),
    })
}

/// Runs by scenario: the run at `path` itself, or the newest of each scenario in a directory of runs.
fn runs(path: &Path) -> Result<BTreeMap<String, Results>, Failure> {
    let load = |path: &Path| report::load(path).map_err(|e| Failure::Usage(e.into()));
    let named = |results: Results| (comparison::scenario(&results).to_owned(), results);
    if !path.is_dir() || path.join(report::RESULTS).exists() {
        return Ok(BTreeMap::from([named(load(path)?)]));
    }
    if let Some(error) = not_a_run(path) {
        return Err(Failure::Usage(error));
    }
    let entries =
        fs::read_dir(path).map_err(|e| Failure::Usage(anyhow!("reading {}: {e}", path.display())))?;
    let mut newest: BTreeMap<String, Results> = BTreeMap::new();
    let mut damaged = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Failure::Usage(anyhow!("reading {}: {e}", path.display())))?;
        // `latest` is a link to a run that is found anyway.
        if entry.file_type().is_ok_and(|t| t.is_symlink()) || !entry.path().join(report::RESULTS).exists() {
            continue;
        }
        let (name, results) = match report::load(&entry.path()) {
            Ok(results) => named(results),
            Err(e) => {
                damaged.push(e);
                continue;
            }
        };
        let when = |results: &Results| (results.run.started_at.clone(), results.run.id.clone());
        match newest.get(&name) {
            Some(known) if when(known) >= when(&results) => {}
            _ => drop(newest.insert(name, results)),
        }
    }
    damaged.sort_by_key(ToString::to_string);
    match (newest.is_empty(), damaged.into_iter().next()) {
        (true, Some(e)) => Err(Failure::Usage(e.into())),
        (true, None) => Err(Failure::Usage(anyhow!(
            "{} is no run and has none in it: a run's directory has a {}",
            path.display(),
            report::RESULTS
        ))),
        (false, left_out) => {
            if let Some(e) = left_out {
                super::warn(&format!("left out, though it may be the newest: {e}"));
            }
            Ok(newest)
        }
    }
}
