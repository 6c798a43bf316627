//! The median and its exact, distribution-free confidence interval.
//!
//! The number of samples below the true median is binomial(n, 1/2), so two order statistics
//! enclose it with a known probability, whatever the distribution: Conover, *Practical
//! Nonparametric Statistics*, 3rd ed. 1999, section 3.2; David and Nagaraja, *Order Statistics*,
//! 3rd ed. 2003, section 7.1. With ties the coverage is at least the one stated.

use serde::{Deserialize, Serialize};

/// A confidence interval, in the unit of the value that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Exact probability that such an interval contains the true value; at least the requested level
    /// unless n was too small for it.
    pub coverage: f64,
}

/// Fewest samples with an interval: with 5, even the whole range covers only 93.75 %.
pub const FEWEST: usize = 6;

/// The middle of sorted values, or the mean of the two in the middle; `None` when there are none.
pub fn of_sorted(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[n / 2]),
        _ => Some(sorted[n / 2 - 1].midpoint(sorted[n / 2])),
    }
}

/// The median of values in any order.
pub fn median(values: &[f64]) -> Option<f64> {
    of_sorted(&sorted(values))
}

/// A sorted copy of the values.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The narrowest symmetric order-statistic interval that reaches `level`; [min, max] with its own
/// coverage where none does; `None` below [`FEWEST`] samples.
pub fn interval(sorted: &[f64], level: f64) -> Option<Interval> {
    let n = sorted.len();
    if n < FEWEST {
        return None;
    }
    let (rank, coverage) = rank(n, level);
    Some(Interval { low: sorted[rank - 1], high: sorted[n - rank], coverage })
}

/// The largest rank k >= 1 for which the k-th smallest and k-th largest of `n` samples cover the
/// median with `level`, and their exact coverage: 1 - 2 P(X <= k - 1), X ~ binomial(n, 1/2).
fn rank(n: usize, level: f64) -> (usize, f64) {
    let mut ln_choose = 0.0_f64;
    let ln_all = n as f64 * std::f64::consts::LN_2;
    let mut tail = (-ln_all).exp();
    let mut best = (1, 1.0 - 2.0 * tail);
    for k in 2..=n / 2 {
        ln_choose += ((n - k + 2) as f64).ln() - ((k - 1) as f64).ln();
        tail += (ln_choose - ln_all).exp();
        let coverage = 1.0 - 2.0 * tail;
        if coverage < level {
            break;
        }
        best = (k, coverage);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From scipy 1.17.1: the largest k with `1 - 2 * binom.cdf(k - 1, n, 0.5) >= level`. The
    /// ranks are also those of Conover's table A3 and of Dixon and Massey's table A-25.
    #[test]
    fn ranks_and_coverage_are_those_of_the_binomial_distribution() {
        let known = [
            (8, 0.99, 1, 0.9921875),
            (10, 0.95, 2, 0.978515625),
            (10, 0.99, 1, 0.998046875),
            (12, 0.95, 3, 0.96142578125),
            (12, 0.99, 2, 0.99365234375),
            (15, 0.99, 3, 0.99261474609375),
            (20, 0.95, 6, 0.9586105346679688),
            (20, 0.99, 4, 0.9974231719970703),
            (25, 0.99, 6, 0.9959226846694946),
            (30, 0.95, 10, 0.9572260547429323),
            (50, 0.99, 16, 0.9933995520331891),
            (100, 0.95, 40, 0.9647997997822951),
            (100, 0.99, 37, 0.9933628794840739),
        ];
        for (n, level, k, coverage) in known {
            let (got, its) = rank(n, level);
            assert_eq!(got, k, "n = {n}, level = {level}");
            assert!((its - coverage).abs() < 1e-11, "n = {n}: {its} against {coverage}");
        }
    }

    #[test]
    fn six_and_seven_samples_give_their_range_with_the_coverage_that_it_really_has() {
        let six = interval(&[1.0, 2.0, 3.0, 4.0, 5.0, 9.0], 0.99).unwrap();
        assert_eq!(six, Interval { low: 1.0, high: 9.0, coverage: 0.96875 });
        let seven = interval(&[1.0; 7], 0.99).unwrap();
        assert_eq!(seven.coverage, 0.984375);
    }

    #[test]
    fn five_samples_give_no_interval() {
        assert_eq!(interval(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.99), None);
    }

    #[test]
    fn thousands_of_samples_neither_underflow_nor_take_long() {
        let (k, coverage) = rank(5000, 0.99);
        // The normal approximation: 2500 - 2.576 * sqrt(5000) / 2 = 2408.9.
        assert!((2405..=2412).contains(&k), "{k}");
        assert!((0.99..0.992).contains(&coverage), "{coverage}");
    }

    #[test]
    fn the_median_of_an_even_number_is_the_middle_of_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
