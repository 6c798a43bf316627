//! Compares two runs of one scenario, BASE and NEW, figure by figure: the input of the gate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    LEVEL, Metric, Series, baseline, gate,
    gate::{GateVerdict, Judged, Shift, Values},
    median::{self, Interval},
    series,
};
use crate::sample::{Accelerator, Outcome, Results, TargetRecord};

mod differences;

pub use differences::{Difference, Subject, differences};

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.comparison/2";

/// Everything that one gate judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// Level of every interval.
    pub level: f64,
    /// Sorted by the scenarios' names.
    pub pairs: Vec<Pair>,
    /// Verdict of the whole gate: the worst of its gating rows; null between hosts.
    pub verdict: Option<GateVerdict>,
}

/// BASE and NEW of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Name of the scenario.
    pub scenario: String,
    /// Run to compare with.
    pub base: Run,
    /// Run to judge.
    pub new: Run,
    /// Whether both runs are the sides of one `bootrace ab`, so that their rounds pair.
    pub paired: bool,
    /// Whether both ran on one host; no row gates otherwise.
    pub one_host: bool,
    /// Differences other than the figures.
    pub differences: Vec<Difference>,
    /// Caveats of the comparison; one of a single run starts with its side.
    pub caveats: Vec<String>,
    /// The caveats that both sides share: they affect the figures, but hardly the ratio.
    #[serde(default)]
    pub caveats_of_both: Vec<String>,
    /// Gating rows first, each group by target.
    pub rows: Vec<Row>,
}

/// Identification of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// As in its `results.json`.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Seed of the order of trials.
    pub seed: u64,
    /// Version that took the samples.
    pub bootrace_version: String,
}

/// One metric of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the target.
    pub target: String,
    /// BASE's accelerator.
    pub accelerator: Accelerator,
    /// NEW's accelerator where it differs from BASE's; the row then does not gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_accelerator: Option<Accelerator>,
    /// Published name.
    pub metric: String,
    /// Whether the row counts for the verdict; the other rows are informative.
    pub gates: bool,
    /// Figures of BASE.
    pub base: Side,
    /// Figures of NEW.
    pub new: Side,
    /// Ratio and tests; null when a side has no value.
    pub shift: Option<Shift>,
    /// Margin that the ratio is judged by.
    pub margin: Margin,
    /// Verdict, its reason and a forecast; in JSON, part of the row.
    #[serde(flatten)]
    pub judged: Judged,
}

/// One side of a row, in the metric's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Number of samples with a value.
    pub n: usize,
    /// Number of good measured instances, with a value or without.
    #[serde(default)]
    pub ok: usize,
    /// Number of measured instances that failed or timed out.
    pub failed: usize,
    /// Null without a value.
    pub median: Option<f64>,
    /// Interval of the median; null below six samples.
    pub interval: Option<Interval>,
}

/// Smallest change that the gate counts, as a ratio less 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// As a share: 0.05 is 5 %.
    pub share: f64,
    /// Source of the margin, as a clause.
    pub from: String,
}

/// Rules of a comparison.
pub struct Rules<'a> {
    /// Metrics that gate, by NEW's results.
    pub metrics: &'a dyn Fn(&Results) -> Vec<Metric>,
    /// Margin by NEW's results, target, metric, and whether rounds pair.
    pub margin: &'a dyn Fn(&Results, &TargetRecord, Metric, bool) -> Margin,
}

/// Compares the (BASE, NEW) runs of each scenario and judges all of them as one gate, in any order of `runs`.
pub fn compare(runs: &[(&Results, &Results)], rules: &Rules<'_>) -> Comparison {
    let mut pairs: Vec<Pair> = runs.iter().map(|(base, new)| pair(base, new, rules)).collect();
    pairs.sort_by(|a, b| (&a.scenario, &a.base.id, &a.new.id).cmp(&(&b.scenario, &b.base.id, &b.new.id)));
    pairs_are_enough(&mut pairs);
    let pairs_of_one_host = pairs.iter().all(|pair| pair.one_host);
    let gated = pairs.iter_mut().flat_map(|pair| &mut pair.rows).filter(|row| row.gates);
    let mut gated: Vec<_> =
        gated.map(|row| (row.shift.and_then(|shift| shift.p_no_worse), &mut row.judged)).collect();
    gate::holm(&mut gated, LEVEL);
    let verdict = match gated.is_empty() && pairs_of_one_host {
        true => Some(GateVerdict::Inconclusive),
        false => overall(gated.iter().map(|(_, judged)| judged.verdict)),
    };
    Comparison { schema: SCHEMA.into(), level: LEVEL, pairs, verdict }
}

/// Adds a caveat where even unanimous pairs are too few for REGRESSED.
fn pairs_are_enough(pairs: &mut [Pair]) {
    let figures = pairs.iter().flat_map(|pair| &pair.rows).filter(|row| row.gates).count();
    let fewest = gate::fewest_pairs(figures, LEVEL);
    for pair in pairs.iter_mut().filter(|pair| pair.paired) {
        let short = |row: &&Row| row.gates && row.shift.is_some_and(|shift| shift.n < fewest as usize);
        if let Some(row) = pair.rows.iter().find(short) {
            let n = row.shift.map_or(0, |shift| shift.n);
            pair.caveats.push(format!(
                "{n} pairs are too few to show a regression: need >= {fewest} where {figures} figures gate; take more \
                 samples, or let fewer targets and metrics gate"
            ));
        }
    }
}

/// One worse figure makes the whole worse; without one, an undecided figure makes the whole undecided.
fn overall(verdicts: impl Iterator<Item = GateVerdict> + Clone) -> Option<GateVerdict> {
    let has = |verdict| verdicts.clone().any(|v| v == verdict);
    let first = [GateVerdict::Failed, GateVerdict::Regressed, GateVerdict::Inconclusive];
    let first = first.into_iter().find(|v| has(*v));
    first.or_else(|| [GateVerdict::Improved, GateVerdict::Unchanged].into_iter().find(|v| has(*v)))
}

/// Name of the scenario in the results; `run` where it has none.
pub fn scenario(results: &Results) -> &str {
    results.run.scenario.get("name").and_then(|name| name.as_str()).unwrap_or("run")
}

fn pair(base: &Results, new: &Results, rules: &Rules<'_>) -> Pair {
    let paired = differences::are_sides_of_one(base, new);
    let one_host = differences::one_host(&base.host, &new.host);
    let run = |results: &Results| Run {
        id: results.run.id.clone(),
        started_at: results.run.started_at.clone(),
        seed: results.run.seed,
        bootrace_version: results.run.bootrace_version.clone(),
    };
    let chosen = (rules.metrics)(new);
    let sides = Sides { base, new, paired, baselines: [baseline(base), baseline(new)] };
    let mut rows: Vec<Row> = targets(base, new)
        .flat_map(|target| Metric::ALL.map(|metric| (target, metric)))
        .filter_map(|(target, metric)| {
            let wanted = chosen.contains(&metric);
            let row = sides.row(target, metric, wanted, rules)?;
            Some(Row { gates: wanted && one_host && row.new_accelerator.is_none(), ..row })
        })
        .collect();
    rows.sort_by_key(|row| !row.gates);
    let (caveats, caveats_of_both) = caveats(base, new);
    Pair {
        scenario: scenario(new).to_owned(),
        base: run(base),
        new: run(new),
        paired,
        one_host,
        differences: differences(base, new),
        caveats,
        caveats_of_both,
        rows,
    }
}

/// BASE's targets, then the ones that only NEW has.
fn targets<'a>(base: &'a Results, new: &'a Results) -> impl Iterator<Item = &'a TargetRecord> {
    let only_new = |target: &&TargetRecord| !base.targets.iter().any(|t| t.name == target.name);
    base.targets.iter().chain(new.targets.iter().filter(only_new))
}

/// Both runs of a pair.
struct Sides<'a> {
    base: &'a Results,
    new: &'a Results,
    paired: bool,
    /// Baselines of BASE and NEW, which overheads refer to.
    baselines: [Option<String>; 2],
}

impl Sides<'_> {
    /// `None` for a metric that isn't `wanted` and that lacks a value on a side.
    fn row(&self, target: &TargetRecord, metric: Metric, wanted: bool, rules: &Rules<'_>) -> Option<Row> {
        let of_base = series(self.base, &target.name, metric, self.baselines[0].as_deref());
        let of_new = series(self.new, &target.name, metric, self.baselines[1].as_deref());
        if !wanted && (of_base.is_empty() || of_new.is_empty()) {
            return None;
        }
        let margin = (rules.margin)(self.new, target, metric, self.paired);
        let shift = gate::shift(&self.values(&of_base, &of_new), LEVEL, margin.share);
        let (base, new) = (side(self.base, target, &of_base), side(self.new, target, &of_new));
        let judged = self
            .missing(target, &base, &new)
            .unwrap_or_else(|| gate::judge(shift.as_ref(), LEVEL, margin.share));
        let judged = with_failures(&base, &new, judged);
        Some(Row {
            target: target.name.clone(),
            accelerator: target.accelerator,
            new_accelerator: self
                .new
                .targets
                .iter()
                .find(|new| new.name == target.name)
                .map(|new| new.accelerator)
                .filter(|accelerator| *accelerator != target.accelerator),
            metric: metric.name().into(),
            gates: false,
            base,
            new,
            shift,
            margin,
            judged,
        })
    }

    /// A target that works in BASE and not in NEW is worse than any figure.
    fn missing(&self, target: &TargetRecord, base: &Side, new: &Side) -> Option<Judged> {
        let of = |results: &Results, side: &Side, label: &str| {
            let known = results.targets.iter().any(|t| t.name == target.name);
            match (known, side.ok, side.n) {
                (false, ..) => Some(format!("{label} has no target {}", target.name)),
                (true, 0, _) => Some(format!("{label} has no good sample of {}", target.name)),
                (true, _, 0) => Some(format!("no sample of {} in {label} has this metric", target.name)),
                _ => None,
            }
        };
        let lost = self.base.targets.iter().any(|t| t.name == target.name) && base.ok > 0 && new.ok == 0;
        let why = of(self.new, new, "NEW").or_else(|| of(self.base, base, "BASE"))?;
        let verdict = if lost { GateVerdict::Failed } else { GateVerdict::Inconclusive };
        Some(Judged { verdict, why, samples_needed: None })
    }

    fn values(&self, base: &Series, new: &Series) -> Values {
        if self.paired {
            let rounds: BTreeMap<u32, f64> = base.iter().map(|(_, round, v)| (*round, *v)).collect();
            return Values::Paired(new.iter().filter_map(|(_, r, v)| Some((*rounds.get(r)?, *v))).collect());
        }
        let values = |series: &Series| series.iter().map(|(_, _, v)| *v).collect();
        Values::Unpaired { base: values(base), new: values(new) }
    }
}

fn side(results: &Results, target: &TargetRecord, series: &Series) -> Side {
    let values: Vec<f64> = series.iter().map(|(_, _, v)| *v).collect();
    let sorted = median::sorted(&values);
    let measured = results.samples.iter().filter(|s| s.target == target.name && !s.warmup);
    let (ok, failed): (Vec<_>, Vec<_>) = measured.partition(|s| s.outcome == Outcome::Ok);
    Side {
        n: values.len(),
        ok: ok.len(),
        failed: failed.len(),
        median: median::of_sorted(&sorted),
        interval: median::interval(&sorted, LEVEL),
    }
}

/// Where more of NEW's instances fail than of BASE's, the remaining ones are a biased selection. The row has FAILED
/// where Fisher's test rules chance out, and is otherwise INCONCLUSIVE unless it has REGRESSED.
fn with_failures(base: &Side, new: &Side, judged: Judged) -> Judged {
    let all = |side: &Side| side.failed + side.ok;
    if new.failed * all(base) <= base.failed * all(new) {
        return judged;
    }
    let p = gate::more_failures(base.failed, all(base), new.failed, all(new));
    let why = format!(
        "{} of {} instances failed in NEW, {} of {} in BASE (Fisher's p {})",
        new.failed,
        all(new),
        base.failed,
        all(base),
        if p < 0.001 { "< 0.001".to_owned() } else { format!("= {p:.3}") }
    );
    let undecided = |verdict| {
        matches!(verdict, GateVerdict::Unchanged | GateVerdict::Improved | GateVerdict::Inconclusive)
    };
    match p <= gate::FAILURES_BY_CHANCE {
        true => Judged { verdict: GateVerdict::Failed, why, samples_needed: None },
        false if undecided(judged.verdict) => Judged {
            verdict: GateVerdict::Inconclusive,
            why: format!("{why}, which may be chance; for the others, {}", judged.why),
            ..judged
        },
        false => Judged { why: format!("{}; {why}", judged.why), ..judged },
    }
}

/// All caveats, shared ones once; and the shared ones alone.
fn caveats(base: &Results, new: &Results) -> (Vec<String>, Vec<String>) {
    let of = |results: &Results| super::analyse(results).caveats;
    let (of_base, of_new) = (of(base), of(new));
    let mut reported: Vec<String> = Vec::new();
    for caveat in &of_base {
        match of_new.contains(caveat) {
            true => reported.push(caveat.clone()),
            false => reported.push(format!("BASE: {caveat}")),
        }
    }
    if base.run.id == new.run.id {
        reported.insert(0, "BASE and NEW are the same run".into());
    }
    reported.extend(
        of_new.iter().filter(|caveat| !of_base.contains(caveat)).map(|caveat| format!("NEW: {caveat}")),
    );
    let both = of_base.into_iter().filter(|caveat| of_new.contains(caveat)).collect();
    (reported, both)
}

#[cfg(test)]
mod tests;
