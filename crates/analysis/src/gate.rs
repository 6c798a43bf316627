//! The gate: is a figure of NEW worse than that of BASE?
//!
//! The ratio NEW / BASE is Hodges and Lehmann's. How sure a verdict has to be depends on what its noise can be:
//!
//! - **Runs apart** ([`unpaired`]) differ although nothing was changed, and no number of samples of one run tells by how
//!   much. So the whole interval must lie beyond the margin, which is wider than what A/A runs of this host differ by.
//! - **Sides of one job** (`bootrace ab`, [`paired`]) were taken in turn, and a coin for each pair said which goes first.
//!   If nothing was changed, base and new of a pair may be swapped, so that Wilcoxon's test is exact whatever the
//!   distribution and however sessions differ: the interval alone rules chance out, and lying wholly above 1 is enough, if
//!   the ratio itself is beyond the margin. A false alarm then has the chance (1 - level) / 2 at most. That is said of no
//!   change at all: one just within the margin is real, and may be called REGRESSED. To ask for the whole interval beyond
//!   the margin here too would have found 19 of 41 real slowdowns of 10 % at 40 samples, of which this
//!   found all (`examples/gate_figures`).
//!
//! | verdict | sides of one job | runs apart |
//! |---|---|---|
//! | REGRESSED | ratio >= 1 + margin, interval wholly above 1 | interval wholly above 1 + margin |
//! | IMPROVED | ratio <= 1 / (1 + margin), interval wholly below 1 | interval wholly below 1 / (1 + margin) |
//! | UNCHANGED | interval wholly within the margins | the same |
//! | INCONCLUSIVE | all else | all else |
//!
//! That "significant" alone is never enough is on purpose: given enough samples every difference is.
//!
//! Where several figures gate, Holm's procedure (Holm 1979, *Scand. J. Statist.* 6:65) keeps the chance of any false
//! REGRESSED among them at that of one: the p of what REGRESSED has to rule out, which is the interval's own test turned
//! round, must pass (1 - level) / 2 divided by the number of figures that are still to be judged, the smallest p first.

use serde::{Deserialize, Serialize};

use super::{
    median::{FEWEST, Interval},
    paired, unpaired,
};

/// No margin is smaller, unless one is asked for: what users and schedulers can't tell from none.
pub const LEAST_MARGIN: f64 = 0.05;
/// One-sided p of more failures at which chance is no reason for them. Failures are told in any case and mean more than
/// figures do, so it is not the gate's level; where they are rare, as they are, so many by chance are far rarer than it.
pub const FAILURES_BY_CHANCE: f64 = 0.05;
/// More samples than these are not worth a forecast.
pub const MOST: u32 = 10_000;

/// What is to be compared, above zero or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// (base, new) of one round each.
    Paired(Vec<(f64, f64)>),
    Unpaired {
        base: Vec<f64>,
        new: Vec<f64>,
    },
}

/// How NEW lies to BASE.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// NEW / BASE; null where a value is not above zero.
    pub ratio: Option<f64>,
    /// Of the ratio; null with too few samples.
    pub interval: Option<Interval>,
    /// Two-sided p that there is no shift: Mann and Whitney's, or Wilcoxon's signed-rank for pairs.
    pub p: f64,
    /// P(NEW > BASE): the chance that a value of NEW (of a round) is above one of BASE (of that round); ties are half.
    pub superiority: f64,
    /// One-sided p of what REGRESSED has to rule out: that the ratio is 1 or less (pairs), 1 + margin or less (else).
    pub p_no_worse: Option<f64>,
    /// Pairs, or values of the smaller side.
    pub n: usize,
    pub paired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// NEW's instances fail more often: no figure of those that didn't can speak for it.
    Failed,
    Regressed,
    Improved,
    Unchanged,
    Inconclusive,
}

impl GateVerdict {
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
    pub verdict: GateVerdict,
    pub why: String,
    /// How many samples a side would settle it, if they are like these; null where it is settled or there is no telling.
    pub samples_needed: Option<u32>,
}

/// `None` without any value on a side.
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
        // There are no logarithms.
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

/// P(so many of all failures, or more, are among NEW's): Fisher's exact test, one-sided.
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

/// One figure's verdict, as if it were alone; [`holm`] has the last word where several gate.
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
        let why = format!("{} {sides} can't give {}: need >= {}", shift.n, percent(level), fewest(level));
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
        Some(n) => format!("some {n} {sides} would settle it, if the ratio stays about there"),
        None => format!("its middle lies so near the margin that {MOST} {sides} would not settle it"),
    };
    let straddles = match shift.paired && ratio.ln().abs() >= band.ratio {
        true => format!("{sure} reaches across 1"),
        false => format!("{sure} straddles the margin of {}", percent(margin)),
    };
    inconclusive(format!("{straddles}: {forecast}"), needed)
}

/// What a change must be beyond, as logarithms: its ratio, and its whole interval.
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

/// What of it is held to the margin.
fn beyond(paired: bool) -> &'static str {
    if paired { "and the ratio beyond" } else { "beyond" }
}

/// "5", "7.5", "12.34": two places at most.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How many times as many samples settle it most of the time as would just touch.
const TO_BE_SURE: f64 = 1.7;

/// The fewest pairs whose range covers with `level`: 1 - 2^(1 - n).
fn fewest(level: f64) -> u32 {
    (1.0 - (1.0 - level).log2()).ceil() as u32
}

/// The fewest pairs of which the surest p, 2^-n, is sure enough where so many figures gate.
pub fn fewest_pairs(figures: usize, level: f64) -> u32 {
    let alpha = (1.0 - level) / 2.0;
    ((figures.max(1) as f64 / alpha).log2().ceil() as u32).max(fewest(level))
}

/// The interval's halves shrink with the root of n: at which n do they settle it, the ratio staying where it is?
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
    // What just touches settles it every other time.
    let needed = (n as f64 * times * times * TO_BE_SURE).ceil();
    (needed.is_finite() && needed <= f64::from(MOST)).then(|| (needed as u32).max(n as u32 + 1))
}

/// Takes back REGRESSED of figures that several together can't bear out; the others stay. Each comes with the p of its
/// ratio being within the margin.
pub fn holm(gated: &mut [(Option<f64>, &mut Judged)], level: f64) {
    let alpha = (1.0 - level) / 2.0;
    let all = gated.len();
    let mut ordered: Vec<(f64, &mut Judged)> =
        gated.iter_mut().map(|(p, judged)| (p.unwrap_or(1.0), &mut **judged)).collect();
    ordered.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut stopped = None;
    for (place, (p, judged)) in ordered.into_iter().enumerate() {
        let asked = alpha / (all - place) as f64;
        // What an interval was made of may be a rounding away from its own p.
        if stopped.is_none() && p > asked * (1.0 + 1e-9) {
            stopped = Some((p, asked));
        }
        if let (GateVerdict::Regressed, Some((p, asked))) = (judged.verdict, stopped) {
            judged.verdict = GateVerdict::Inconclusive;
            judged.why = format!(
                "{}, and would be REGRESSED alone; {all} figures gate, and Holm's procedure ends at the one with p = {}, of which \
                 it asks for {}: more samples decide it",
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
