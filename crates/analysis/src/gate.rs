//! The gate: is a figure of NEW worse than that of BASE?
//!
//! The ratio NEW / BASE is Hodges and Lehmann's. The evidence that a verdict needs depends on the noise:
//!
//! - **Separate runs** ([`unpaired`]) differ even without a change, by an amount that the samples of one run can't
//!   show. So the whole interval must lie beyond the margin, which is wider than the differences of this host's A/A
//!   runs.
//! - **Interleaved A/B** (`bootrace ab`, [`paired`]) alternates BASE and NEW in the random order of a coin for each
//!   pair. Without a change, the two values of a pair are exchangeable, so Wilcoxon's test is exact for every
//!   distribution and for every difference between sessions. An interval wholly above 1 rules chance out; the ratio
//!   itself must also be beyond the margin. The false-positive rate is at most (1 - level) / 2. It refers to no
//!   change at all: a real change just within the margin may be REGRESSED. A rule that requires the whole interval
//!   beyond the margin finds 19 of 41 real slowdowns of 10 % at 40 samples; this rule finds all of them
//!   (`examples/gate_figures`).
//!
//! | verdict | interleaved A/B | separate runs |
//! |---|---|---|
//! | REGRESSED | ratio >= 1 + margin, interval wholly above 1 | interval wholly above 1 + margin |
//! | IMPROVED | ratio <= 1 / (1 + margin), interval wholly below 1 | interval wholly below 1 / (1 + margin) |
//! | UNCHANGED | interval wholly within the margins | the same |
//! | INCONCLUSIVE | otherwise | otherwise |
//!
//! Significance alone never decides: with enough samples, every difference is significant.
//!
//! Where several figures gate, Holm's procedure (Holm 1979, *Scand. J. Statist.* 6:65) keeps the probability of any
//! false REGRESSED at that of a single figure. It takes the figures by increasing p, where p tests the hypothesis
//! that REGRESSED has to rule out; each p must be at most (1 - level) / 2 divided by the number of figures left.

use serde::{Deserialize, Serialize};

use super::{
    Metric,
    median::{FEWEST, Interval},
    paired, unpaired,
};
use crate::sample::Results;

/// Smallest default margin: users and schedulers don't notice a smaller change.
pub const LEAST_MARGIN: f64 = 0.05;
/// One-sided Fisher p at or below which an excess of failures fails the gate. It is larger than the gate's level
/// because failures matter more than figures; where failures are rare, an excess by chance is far rarer than this.
pub const FAILURES_BY_CHANCE: f64 = 0.05;
/// Largest number of samples that a forecast names.
pub const MOST: u32 = 10_000;

/// Values of BASE and NEW, of any sign.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// One (base, new) pair for each round with both.
    Paired(Vec<(f64, f64)>),
    /// Values of two separate runs.
    Unpaired {
        /// Values of BASE, in the order taken.
        base: Vec<f64>,
        /// Values of NEW, in the order taken.
        new: Vec<f64>,
    },
}

/// NEW relative to BASE.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// NEW / BASE; null where a value is not above zero.
    pub ratio: Option<f64>,
    /// Interval of the ratio; null with too few samples.
    pub interval: Option<Interval>,
    /// Two-sided p that there is no shift: Mann and Whitney's, or Wilcoxon's signed-rank for pairs.
    pub p: f64,
    /// P(NEW > BASE): probability that a value of NEW exceeds one of BASE, of the same round for pairs; a tie counts
    /// half.
    pub superiority: f64,
    /// One-sided p of the hypothesis that REGRESSED rules out: a ratio of at most 1 (pairs) or 1 + margin (otherwise).
    pub p_no_worse: Option<f64>,
    /// Number of pairs, or of values of the smaller side.
    pub n: usize,
    /// Whether rounds pair, as in `bootrace ab`.
    pub paired: bool,
}

/// Verdict on one figure or on a whole gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// NEW's instances fail more often; figures of the remaining ones can't outweigh that.
    Failed,
    /// Worse: the ratio is beyond 1 + margin.
    Regressed,
    /// Better: the ratio is beyond 1 / (1 + margin).
    Improved,
    /// The whole interval lies within the margins.
    Unchanged,
    /// Too few samples or too much noise for another verdict.
    Inconclusive,
}

impl GateVerdict {
    /// In upper case, as reports show it.
    pub fn word(self) -> &'static str {
        match self {
            GateVerdict::Failed => "FAILED",
            GateVerdict::Regressed => "REGRESSED",
            GateVerdict::Improved => "IMPROVED",
            GateVerdict::Unchanged => "UNCHANGED",
            GateVerdict::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// A verdict and its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Verdict after Holm's procedure, where that ran.
    pub verdict: GateVerdict,
    /// Reason for the verdict, as a clause without a full stop.
    pub why: String,
    /// Samples a side that would decide it if the ratio stays; null where it is decided and where no number is known.
    pub samples_needed: Option<u32>,
}

/// Compares both sides; `None` when a side has no value. `margin` is a share: 0.05 is 5 %.
pub fn shift(values: &Values, level: f64, margin: f64) -> Option<Shift> {
    match values {
        Values::Paired(pairs) => paired_shift(pairs, level),
        Values::Unpaired { base, new } => {
            let both = unpaired::compare(base, new, level)?;
            Some(Shift {
                ratio: both.ratio,
                interval: both.interval,
                p: both.p,
                superiority: both.superiority,
                p_no_worse: both.ratio.map(|_| unpaired::p_not_above(base, new, margin.ln_1p())),
                n: both.n_a.min(both.n_b),
                paired: false,
            })
        }
    }
}

fn paired_shift(pairs: &[(f64, f64)], level: f64) -> Option<Shift> {
    let ratio = paired::Ranks::default().ratio(pairs, level);
    let n = pairs.len();
    if n == 0 {
        return None;
    }
    let wins = pairs.iter().map(|(base, new)| match new.total_cmp(base) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    });
    let superiority = wins.sum::<f64>() / n as f64;
    let p_no_worse = ratio.map(|_| paired::p_not_above(pairs, 0.0));
    let p = match p_no_worse {
        Some(above) => {
            let swapped: Vec<(f64, f64)> = pairs.iter().map(|(base, new)| (*new, *base)).collect();
            (2.0 * above.min(paired::p_not_above(&swapped, 0.0))).min(1.0)
        }
        // Values of zero or below have no logarithm.
        None => {
            let (base, new): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            unpaired::compare(&base, &new, level)?.p
        }
    };
    Some(Shift {
        ratio: ratio.map(|r| r.estimate),
        interval: ratio.and_then(|r| r.interval),
        p,
        superiority,
        p_no_worse,
        n,
        paired: true,
    })
}

/// Probability that at least `new_failed` of all failures are NEW's by chance: Fisher's exact test, one-sided.
pub fn more_failures(base_failed: usize, base: usize, new_failed: usize, new: usize) -> f64 {
    let ln_choose =
        |n: usize, k: usize| -> f64 { (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum() };
    let failed = base_failed + new_failed;
    let chance = |of_new: usize| {
        let of_base = failed - of_new;
        (ln_choose(new, of_new) + ln_choose(base, of_base) - ln_choose(base + new, failed)).exp()
    };
    (new_failed..=failed.min(new)).map(chance).sum::<f64>().min(1.0)
}

/// Verdict on one figure alone; [`holm`] corrects it where several figures gate.
pub fn judge(shift: Option<&Shift>, level: f64, margin: f64) -> Judged {
    let inconclusive =
        |why: String, samples_needed| Judged { verdict: GateVerdict::Inconclusive, why, samples_needed };
    let Some(shift) = shift else { return inconclusive("there is nothing to compare".into(), None) };
    let Some(ratio) = shift.ratio else {
        return inconclusive("a value is zero or below: there is no ratio".into(), None);
    };
    let sides = if shift.paired { "pairs" } else { "samples a side" };
    let has = if shift.paired { "pairs" } else { "samples of one side" };
    let Some(interval) = shift.interval else {
        return inconclusive(format!("{} {has} are too few: need >= {FEWEST}", shift.n), None);
    };
    let percent = |share: f64| format!("{} %", trimmed(share * 100.0));
    let sure = format!("the {:.1} % interval of the ratio", (interval.coverage * 1000.0).floor() / 10.0);
    let settled = |verdict, says: &str| Judged {
        verdict,
        why: format!("{sure} lies wholly {says} the margin of {}", percent(margin)),
        samples_needed: None,
    };
    if interval.coverage < level {
        let why = format!("{} {sides} can't reach {}: need >= {}", shift.n, percent(level), fewest(level));
        return inconclusive(why, Some(fewest(level)));
    }
    let band = Band::new(margin, shift.paired);
    if interval.low >= 1.0 / (1.0 + margin) && interval.high <= 1.0 + margin {
        return settled(GateVerdict::Unchanged, "within");
    }
    if ratio.ln() >= band.ratio && interval.low.ln() > band.interval {
        let says = format!("above {}, {}", trimmed(band.interval.exp()), beyond(shift.paired));
        return settled(GateVerdict::Regressed, &says);
    }
    if ratio.ln() <= -band.ratio && interval.high.ln() < -band.interval {
        let says = format!("below {}, {}", trimmed((-band.interval).exp()), beyond(shift.paired));
        return settled(GateVerdict::Improved, &says);
    }
    let needed = needed(ratio, interval, shift.n, margin, &band);
    let forecast = match needed {
        Some(n) => format!("about {n} {sides} decide it, if the ratio stays the same"),
        None => format!("its middle is so close to the margin that even {MOST} {sides} would not decide it"),
    };
    let straddles = match shift.paired && ratio.ln().abs() >= band.ratio {
        true => format!("{sure} includes 1"),
        false => format!("{sure} straddles the margin of {}", percent(margin)),
    };
    inconclusive(format!("{straddles}: {forecast}"), needed)
}

/// Bounds that a change must exceed, as logarithms: for its ratio and for its whole interval.
struct Band {
    ratio: f64,
    interval: f64,
}

impl Band {
    fn new(margin: f64, paired: bool) -> Self {
        let edge = margin.ln_1p();
        Band { ratio: edge, interval: if paired { 0.0 } else { edge } }
    }
}

/// Which of interval and ratio the margin applies to.
fn beyond(paired: bool) -> &'static str {
    if paired { "and the ratio beyond" } else { "beyond" }
}

/// "5", "7.5", "12.34": two places at most.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Factor on the number of samples that just reaches the bound, so that the forecast decides most of the time.
const FORECAST_FACTOR: f64 = 1.7;

/// The fewest pairs whose range covers with `level`: 1 - 2^(1 - n).
fn fewest(level: f64) -> u32 {
    (1.0 - (1.0 - level).log2()).ceil() as u32
}

/// Fewest pairs whose smallest possible p, 2^-n, passes Holm's first step for this number of figures.
pub fn fewest_pairs(figures: usize, level: f64) -> u32 {
    let alpha = (1.0 - level) / 2.0;
    ((figures.max(1) as f64 / alpha).log2().ceil() as u32).max(fewest(level))
}

/// Number of samples that decides at the present ratio: each half of the interval shrinks with the root of n.
fn needed(ratio: f64, interval: Interval, n: usize, margin: f64, band: &Band) -> Option<u32> {
    let (middle, edge) = (ratio.ln(), margin.ln_1p());
    let (below, above) = (middle - interval.low.ln(), interval.high.ln() - middle);
    let times = if middle >= band.ratio {
        below / (middle - band.interval)
    } else if middle <= -band.ratio {
        above / (-band.interval - middle)
    } else {
        (below / (middle + edge)).max(above / (edge - middle))
    };
    // An interval that just reaches the bound decides half of the time.
    let needed = (n as f64 * times * times * FORECAST_FACTOR).ceil();
    (needed.is_finite() && needed <= f64::from(MOST)).then(|| (needed as u32).max(n as u32 + 1))
}

/// The metrics that the run's scenario gates; start-up where it names none. Leaves out names of a newer version.
pub fn metrics_of(results: &Results) -> Vec<Metric> {
    let named = results.run.scenario.get("gate").and_then(|gate| gate.get("metrics")?.as_array());
    let named: Vec<Metric> =
        named.into_iter().flatten().filter_map(|name| Metric::from_name(name.as_str()?)).collect();
    if named.is_empty() { vec![Metric::Startup] } else { named }
}

/// Changes REGRESSED to INCONCLUSIVE for figures that fail Holm's procedure. Each figure comes with its
/// [`Shift::p_no_worse`].
pub fn holm(gated: &mut [(Option<f64>, &mut Judged)], level: f64) {
    let alpha = (1.0 - level) / 2.0;
    let all = gated.len();
    let mut ordered: Vec<(f64, &mut Judged)> =
        gated.iter_mut().map(|(p, judged)| (p.unwrap_or(1.0), &mut **judged)).collect();
    ordered.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut stopped = None;
    for (place, (p, judged)) in ordered.into_iter().enumerate() {
        let asked = alpha / (all - place) as f64;
        // The interval and its own p may differ by a rounding error.
        if stopped.is_none() && p > asked * (1.0 + 1e-9) {
            stopped = Some((p, asked));
        }
        if let (GateVerdict::Regressed, Some((p, asked))) = (judged.verdict, stopped) {
            judged.verdict = GateVerdict::Inconclusive;
            judged.why = format!(
                "{}, which alone would be REGRESSED; but {all} figures gate, and Holm's procedure stops at p = {}, where it \
                 requires {}: more samples decide it",
                judged.why,
                trimmed_p(p),
                trimmed_p(asked),
            );
        }
    }
}

fn trimmed_p(p: f64) -> String {
    format!("{p:.5}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests;
