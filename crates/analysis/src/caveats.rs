//! Caveats of a comparison, as sentences.

use super::{Identities, TargetAnalysis, interference, is_measured, median};
use crate::{
    kind::Kind,
    sample::{Accelerator, Noise, Results, Resumption, Sample},
};

mod boots;
mod density;
mod host;
mod surroundings;

/// PSI `some avg10` with a caveat, in percent.
const PRESSURE: f64 = 10.0;
/// Stolen share of the CPU time of a run with a caveat.
const STEAL: f64 = 0.01;

/// The runner's warnings and the caveats that follow from the results, most serious first.
pub(super) fn all(
    results: &Results,
    targets: &[TargetAnalysis],
    identities: &Identities,
    baseline: Option<&str>,
) -> Vec<String> {
    let mut found: Vec<String> = identities.disagreements.iter().map(|d| disagreement(d)).collect();
    found.extend(completeness(results, targets));
    found.extend(surroundings::all(results));
    found.extend(density::all(results));
    found.extend(
        results.targets.iter().filter(|t| t.accelerator == Accelerator::Tcg).map(|t| emulated(results, t)),
    );
    found.extend(fallback(results));
    found.extend(baseline_caveat(results, baseline));
    found.extend(results.run.warnings.iter().cloned());
    found.extend(targets.iter().filter_map(drifted));
    found.extend(boots::all(results, targets));
    found.extend(interference::caveats(results));
    found.extend(host::facts(results));
    found.extend(noise(results));
    found.extend(unread(results));
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|d| seen.insert(d.clone()));
    found
}

fn disagreement(what: &str) -> String {
    format!(
        "identity: {what}; don't compare figures of this run: rebuild the image (bootrace image prune --all) and run again"
    )
}

fn completeness(results: &Results, targets: &[TargetAnalysis]) -> Vec<String> {
    let run = &results.run;
    let mut found = Vec::new();
    let taken = results.samples.len();
    if run.interrupted {
        found.push(format!(
            "the run was cut short after {taken} of {} planned samples; let a run finish to get all of them, or go on with bootrace run --resume",
            run.planned
        ));
    } else if taken < run.planned as usize {
        found.push(format!("the results have only {taken} of {} planned samples: the run left out the others or was killed; fix the failure and run again", run.planned));
    }
    for target in targets {
        let counts = target.counts;
        let (name, bad) = (&target.name, counts.failed + counts.timed_out);
        if bad > 0 {
            let all = counts.ok + bad;
            let of = [(counts.failed, "failed"), (counts.timed_out, "timed out")];
            let of: Vec<String> =
                of.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
            found.push(format!(
                "{name}: {} of {all} samples; figures use the {} good ones: fix the errors of those samples{}, and run again",
                of.join(" and "),
                counts.ok,
                if counts.timed_out > 0 { " (or raise sampling.timeout)" } else { "" }
            ));
        }
        if results.run.scenario.pointer("/sampling/samples").is_some_and(|n| *n == 0) {
            // A run of density alone has no such samples.
        } else if counts.ok < median::FEWEST {
            found.push(format!(
                "{name}: {} good samples are too few for any interval: need >= 6; raise sampling.samples",
                counts.ok
            ));
        } else if counts.ok < 8 {
            found.push(format!(
                "{name}: {} good samples can't give a 99 % interval: need >= 8; reports show the whole range with its actual coverage; raise sampling.samples",
                counts.ok
            ));
        }
    }
    found.extend(run.resumptions.iter().map(resumed));
    let known = |name: &str| targets.iter().any(|t| t.name == name);
    let strange = results.samples.iter().filter(|s| !known(&s.target)).count();
    if strange > 0 {
        found.push(format!(
            "{strange} samples belong to targets that the results don't list, and no figure includes them; use the results.json that the run wrote"
        ));
    }
    found
}

fn resumed(resumption: &Resumption) -> String {
    let pause = match resumption.pause_ns / 1_000_000_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    };
    format!(
        "the run was interrupted after {} samples and resumed after {pause}: the first samples since then had no warm-up rounds of their own, and other programs may have changed the host meanwhile; run again without a break where small differences matter",
        resumption.samples
    )
}

fn emulated(results: &Results, target: &crate::sample::TargetRecord) -> String {
    let mut in_scenario = results.run.scenario["target"].as_array().into_iter().flatten();
    let asked = in_scenario.any(|t| t["name"] == target.name.as_str() && t["accel"] == "tcg");
    let asking = if asked { "set accel = \"auto\" and " } else { "" };
    // The reason comes last, because reports may cut it off.
    let why = target.accelerator_reason.as_deref().map(|r| format!(". Why: {r}")).unwrap_or_default();
    format!(
        "{} ran under TCG (emulated): its start-up, CPU and memory figures show the cost of emulation, not of hardware virtualisation; for the latter, {asking}run on a host with working KVM (check with bootrace doctor){why}",
        target.name
    )
}

fn fallback(results: &Results) -> Option<String> {
    let image = &results.image;
    let why = image.fallback_reason.as_deref().unwrap_or("no reason was recorded");
    image.fallback.then(|| {
        format!(
            "the image is a fallback, {} {}: fix the reason and build the first choice (bootrace image build --refresh), or set the fallback as the scenario's suite. Why: {why}",
            image.distribution, image.suite
        )
    })
}

fn baseline_caveat(results: &Results, baseline: Option<&str>) -> Option<String> {
    let target = results.targets.iter().find(|t| Some(t.name.as_str()) == baseline)?;
    (target.kind != Kind::BASELINE)
        .then(|| format!(
            "there is no native target: ratios and overheads refer to {}; add one (kind = \"native\") to compare with a bare process",
            target.name
        ))
}

fn drifted(target: &TargetAnalysis) -> Option<String> {
    let drift = target.drift.filter(|d| d.matters())?;
    let way = if drift.share > 0.0 { "rose" } else { "fell" };
    Some(format!(
        "{}: start-up {way} by {:.0} % over the run (Mann-Kendall p = {:.4}): the host was not steady; raise sampling.warmup or use a quieter host",
        target.name,
        drift.share.abs() * 100.0,
        drift.p
    ))
}

/// Caveats about missing readings, one for each fix: without them, a missing reading would look like a quiet host.
fn unread(results: &Results) -> Vec<String> {
    const BELOW: &str =
        "a VM or container may hide it: check the machine below it and its firmware, or run there";
    const PSI: &str = "boot Linux 4.20 or later with psi=1";
    const AGAIN: &str = "run again to the end, on the host itself";
    let host = &results.host;
    let noise = |reading: fn(&Noise) -> bool| {
        reading(&host.noise_before) && host.noise_after.as_ref().is_none_or(reading)
    };
    let read = |s: &Sample| s.interference.is_some_and(|noise| noise.others_cpu_ns.is_some());
    let readings = [
        ("whether the host is virtual", BELOW, host.virtualised.is_some()),
        ("CPU governor", BELOW, host.governor.is_some()),
        ("turbo", BELOW, host.turbo.is_some()),
        ("clock source", BELOW, host.clock_source.is_some()),
        ("load", BELOW, noise(|n| n.load_1m.is_some())),
        ("steal", BELOW, noise(|n| n.steal_ns.is_some())),
        ("CPU pressure (PSI)", PSI, noise(|n| n.psi_cpu_some_avg10.is_some())),
        ("disk pressure", PSI, noise(|n| n.psi_io_some_avg10.is_some())),
        ("memory pressure", PSI, noise(|n| n.psi_memory_some_avg10.is_some())),
        ("load and pressure after the run", AGAIN, host.noise_after.is_some()),
        (
            "CPU time of other processes during samples",
            AGAIN,
            results.samples.iter().filter(|s| is_measured(s)).all(read),
        ),
    ];
    let alike = readings.chunk_by(|(_, fix, _), (_, next, _)| fix == next);
    let reported = alike.filter_map(|alike| {
        let missing: Vec<&str> = alike.iter().filter(|(.., known)| !known).map(|(what, ..)| *what).collect();
        (!missing.is_empty()).then(|| format!("could not be read: {}; {}", missing.join(", "), alike[0].1))
    });
    reported.collect()
}

fn noise(results: &Results) -> Vec<String> {
    let host = &results.host;
    let mut found = noise_at(&host.noise_before, host.cpus, "before");
    let Some(after) = &host.noise_after else { return found };
    // The run itself loads the CPUs, so load and CPU pressure right after it say nothing about other processes.
    let after_run = Noise { load_1m: None, psi_cpu_some_avg10: None, ..*after };
    found.extend(noise_at(&after_run, host.cpus, "right after"));
    let stolen = after.steal_ns.zip(host.noise_before.steal_ns).and_then(|(a, b)| a.checked_sub(b));
    // It includes the time stolen while targets were filled, and before the run was resumed.
    let filling = results.density.iter().filter_map(|density| density.wall_ns).sum::<u64>();
    let pauses = results.run.resumptions.iter().map(|resumption| resumption.pause_ns).sum::<u64>();
    let wall = results.run.wall_ns.unwrap_or(0) + filling + pauses;
    if let Some((stolen, wall)) = stolen.zip(Some(wall).filter(|w| *w > 0)) {
        let share = stolen as f64 / (wall as f64 * f64::from(host.cpus.max(1)));
        if share > STEAL {
            found.push(format!(
                "a hypervisor took {:.1} % of the host's CPU time during the run (steal): use a host with CPUs of its own, or run again when its neighbours are quiet",
                share * 100.0
            ));
        }
    }
    found
}

fn noise_at(noise: &Noise, cpus: u32, when: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(load) = noise.load_1m.filter(|l| *l > f64::from(cpus)) {
        found.push(format!("the load was {load:.1} on {cpus} CPUs {when} the run: other processes used the CPUs; stop them (top shows them), wait, and run again"));
    }
    let pressures = [
        ("CPU", noise.psi_cpu_some_avg10, "stop other processes (top shows them)"),
        ("disk", noise.psi_io_some_avg10, "wait until other processes stop using it (iotop shows them)"),
        ("memory", noise.psi_memory_some_avg10, "free some, or lower the scenario's resources.memory"),
    ];
    for (what, value, fix) in pressures {
        if let Some(value) = value.filter(|v| *v > PRESSURE) {
            found.push(format!(
                "tasks waited for {what} {value:.0} % of the time {when} the run (PSI some avg10): {fix}"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests;
