//! `cargo bench`: runs a scenario as `bootrace run` does, writes its report into `reports/`, and
//! hands the samples to criterion as `<scenario>/<metric>/<target>`.
//!
//! - `BOOTRACE_SCENARIO`: another scenario than `quickstart`, by name or file.
//! - `BOOTRACE_SAMPLES`: measured rounds, in place of the scenario's.
//! - `BOOTRACE_TUNE=1`: as `bootrace run --tune`.
//! - criterion's own arguments work. With a filter only the matching targets are measured.
//! - `--list` and `--test` measure nothing.
//!
//! Exit codes are those of `bootrace run`, and 1 when a target has no good sample.

use std::{
    collections::BTreeSet,
    env,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bootrace::{
    cli::{
        Failure,
        claims::FailOn,
        options::{Rounds, Session},
        run::{Finished, Options, run, verdict},
    },
    probe::kvm,
    scenario,
};
use criterion::{BenchmarkId, Criterion};
use replay::Metric;

#[path = "startup/replay.rs"]
mod replay;

fn main() -> ExitCode {
    if let Some(code) = kvm::child() {
        return code;
    }
    // First, so that wrong arguments and --help end here.
    let criterion = Criterion::default().configure_from_args();
    match bench(criterion) {
        Ok(complete) => ExitCode::from(u8::from(!complete)),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

/// Runs the benchmark. Returns false when a target has no good sample.
fn bench(mut criterion: Criterion) -> Result<bool, Failure> {
    let name = env::var("BOOTRACE_SCENARIO").unwrap_or_else(|_| "quickstart".to_owned());
    let (scenario, _) = scenario::find(&name).map_err(|e| Failure::Usage(e.into()))?;
    let metrics = match scenario.workload.work {
        Some(_) => &[Metric::Startup, Metric::Work][..],
        None => &[Metric::Startup],
    };
    let targets: Vec<String> = scenario.targets.into_iter().map(|t| t.name).collect();
    if !measures().map_err(Failure::Usage)? {
        list_or_test(&mut criterion, &scenario.name, metrics, &targets);
        return Ok(true);
    }

    let chosen = chosen(&targets).map_err(Failure::Run)?;
    if chosen.is_empty() {
        eprintln!("bootrace: no benchmark of {} matches the filter", scenario.name);
        return Ok(true);
    }
    let finished = run(&Options {
        scenarios: vec![name],
        rounds: Rounds { targets: chosen, samples: samples().map_err(Failure::Usage)?, ..Rounds::default() },
        session: Session {
            out: Path::new(env!("CARGO_MANIFEST_DIR")).join("reports"),
            tune: env::var("BOOTRACE_TUNE").is_ok_and(|v| v == "1"),
            ..Session::default()
        },
        ..Options::default()
    })?;

    let mut complete = true;
    for Finished { results, dir } in &finished {
        let series = replay::series(&scenario.name, metrics, results);
        eprintln!(
            "\nbootrace: criterion replays the samples; its warning about the target time means nothing here"
        );
        for few in replay::replay(&mut criterion, &series) {
            complete &= !few.samples.is_empty();
            let (metric, n, least) = (few.metric.name(), few.samples.len(), replay::LEAST);
            eprintln!(
                "bootrace: {}/{metric}/{} has {n} good samples: criterion needs {least}, so it is left out there",
                few.scenario, few.target
            );
        }
        println!("report: {}", dir.join("index.html").display());
    }
    criterion.final_summary();
    verdict(&finished, FailOn::default())?;
    Ok(complete)
}

/// Lists or tests the scenario's benchmarks for criterion's `--list` and `--test`, without measuring.
fn list_or_test(criterion: &mut Criterion, scenario: &str, metrics: &[Metric], targets: &[String]) {
    let mut group = criterion.benchmark_group(scenario);
    for metric in metrics {
        for target in targets {
            let id = BenchmarkId::new(metric.name(), target);
            group.bench_function(id, |bencher| bencher.iter_custom(|_| Duration::from_nanos(1)));
        }
    }
    group.finish();
}

/// Whether criterion measures: not with `--list` or `--test`, under `cargo test` (which has no `--bench`), or when it
/// only compares saved results.
fn measures() -> anyhow::Result<bool> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|a| a.split('=').next() == Some(name));
    for replayed in ["--quick", "--profile-time"] {
        if has(replayed) {
            bail!("{replayed} can't be used here: criterion is given samples that are already taken");
        }
    }
    Ok(has("--bench") && !["--test", "--list", "--load-baseline"].into_iter().any(has))
}

/// The targets that match criterion's filter. criterion does not expose its filter, so this runs the program with the
/// same arguments and `--list`.
fn chosen(targets: &[String]) -> anyhow::Result<Vec<String>> {
    let program = env::current_exe().context("finding this program's own file")?;
    let listed = Command::new(program)
        .args(env::args_os().skip(1))
        .arg("--list")
        .output()
        .context("running this program with --list")?;
    if !listed.status.success() {
        bail!("this program failed with --list: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    let listed = String::from_utf8_lossy(&listed.stdout);
    let left = listed.lines().filter_map(|line| line.strip_suffix(": benchmark")?.rsplit('/').next());
    let left: BTreeSet<&str> = left.collect();
    Ok(targets.iter().filter(|t| left.contains(t.as_str())).cloned().collect())
}

/// The number of rounds in `BOOTRACE_SAMPLES`.
fn samples() -> anyhow::Result<Option<u32>> {
    let Ok(text) = env::var("BOOTRACE_SAMPLES") else { return Ok(None) };
    match text.parse() {
        Ok(samples) if samples > 0 => Ok(Some(samples)),
        _ => Err(anyhow!(
            "BOOTRACE_SAMPLES={text:?}: write a whole number of rounds, as in BOOTRACE_SAMPLES=20"
        )),
    }
}
