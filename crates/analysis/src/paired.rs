//! Ratios of paired samples: the Hodges-Lehmann estimate on logarithms.
//!
//! For pairs (a, b) of one round, d = ln(b / a). The estimate is exp of the median of all Walsh
//! averages (d_i + d_j) / 2, i <= j; its interval are two order statistics of them, chosen by the
//! exact null distribution of Wilcoxon's signed-rank statistic: Hodges and Lehmann 1963;
//! Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, 3rd ed. 2014, sections 3.2
//! and 3.3; beyond [`EXACT`] pairs, by its normal approximation with a correction for continuity
//! (sections 3.1 and 3.3, large samples). Its only assumption: log ratios are symmetric about their centre.

use std::collections::BTreeMap;

use super::{
    median::{FEWEST, Interval},
    unpaired::erfc,
};

/// Largest number of pairs with exact ranks; the exact distribution takes O(n^3).
pub const EXACT: usize = 200;

/// A ratio with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Hodges-Lehmann estimate of b / a.
    pub estimate: f64,
    /// `None` below [`FEWEST`] pairs.
    pub interval: Option<Interval>,
    /// Number of pairs.
    pub pairs: usize,
}

/// Caches the critical ranks, which cost O(n^3) each and recur with every metric.
#[derive(Debug, Default)]
pub struct Ranks(BTreeMap<usize, (usize, f64)>);

impl Ranks {
    /// Ratio of b to a for pairs (a, b). `None` without pairs or when a value is not above zero: a
    /// ratio of the remaining pairs would be biased.
    pub fn ratio(&mut self, pairs: &[(f64, f64)], level: f64) -> Option<Ratio> {
        if pairs.is_empty() || pairs.iter().any(|&(a, b)| a <= 0.0 || b <= 0.0) {
            return None;
        }
        let logs: Vec<f64> = pairs.iter().map(|&(a, b)| (b / a).ln()).collect();
        let mut walsh = walsh_averages(&logs);
        let mut nth = |index: usize| *walsh.select_nth_unstable_by(index, f64::total_cmp).1;
        let count = logs.len() * (logs.len() + 1) / 2;
        let centre = nth((count - 1) / 2).midpoint(nth(count / 2));
        let interval = (logs.len() >= FEWEST).then(|| {
            let (rank, coverage) = *self.0.entry(logs.len()).or_insert_with(|| rank(logs.len(), level));
            Interval { low: nth(rank - 1).exp(), high: nth(count - rank).exp(), coverage }
        });
        Some(Ratio { estimate: centre.exp(), interval, pairs: logs.len() })
    }
}

/// One-sided p of Wilcoxon's signed-rank test that the centre of ln(b / a) is `shift` or less: P(W <= w), w being how
/// many Walsh averages are not above `shift`. The ratio's interval inverts this test: the interval of a level lies
/// above `shift` exactly where p is (1 - level) / 2 or less. Ties increase p.
pub fn p_not_above(pairs: &[(f64, f64)], shift: f64) -> f64 {
    let logs: Vec<f64> = pairs.iter().map(|&(a, b)| (b / a).ln()).collect();
    let not_above = walsh_averages(&logs).iter().filter(|average| **average <= shift).count();
    tail(logs.len(), not_above)
}

/// P(W <= w) of the signed-rank statistic of `n` values.
fn tail(n: usize, w: usize) -> f64 {
    if n <= EXACT {
        return signed_rank(n)[..=w.min(n * (n + 1) / 2)].iter().sum::<f64>().min(1.0);
    }
    let (mean, deviation) = moments(n);
    erfc((mean - (w as f64 + 0.5)) / deviation / std::f64::consts::SQRT_2) / 2.0
}

/// Mean n (n + 1) / 4 and deviation, the root of n (n + 1) (2n + 1) / 24, of W.
fn moments(n: usize) -> (f64, f64) {
    let n = n as f64;
    (n * (n + 1.0) / 4.0, (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt())
}

/// All averages of two values, each with itself too. They stay unsorted: 2,000 values have two million averages,
/// of which the estimate needs four.
fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (i, a) in values.iter().enumerate() {
        averages.extend(values[i..].iter().map(|b| a.midpoint(*b)));
    }
    averages
}

/// P(W = w) for every w, W the sum of the ranks of n signs that are fair coins.
fn signed_rank(n: usize) -> Vec<f64> {
    let mut chance = vec![0.0; n * (n + 1) / 2 + 1];
    chance[0] = 1.0;
    let mut top = 0;
    for rank in 1..=n {
        top += rank;
        for w in (0..=top).rev() {
            let with = if w >= rank { chance[w - rank] } else { 0.0 };
            chance[w] = (chance[w] + with) / 2.0;
        }
    }
    chance
}

/// The largest k >= 1 for which the k-th smallest and k-th largest Walsh average cover the centre
/// with `level`, and their exact coverage: 1 - 2 P(W <= k - 1).
fn rank(n: usize, level: f64) -> (usize, f64) {
    if n <= EXACT { exact_rank(n, level) } else { normal_rank(n, level) }
}

/// Like [`rank`], with the normal approximation of W.
fn normal_rank(n: usize, level: f64) -> (usize, f64) {
    let (mean, deviation) = moments(n);
    // P(W <= k - 1) with half a step for continuity.
    let coverage = |k: usize| 1.0 - erfc((mean - (k as f64 - 0.5)) / deviation / std::f64::consts::SQRT_2);
    // Coverage falls as k grows: bisect between one that reaches the level and one that does not.
    let (mut reaches, mut falls_short) = (1, mean as usize);
    while falls_short - reaches > 1 {
        let k = reaches.midpoint(falls_short);
        *if coverage(k) >= level { &mut reaches } else { &mut falls_short } = k;
    }
    (reaches, coverage(reaches))
}

fn exact_rank(n: usize, level: f64) -> (usize, f64) {
    let chance = signed_rank(n);
    let mut tail = chance[0];
    let mut best = (1, 1.0 - 2.0 * tail);
    for (k, p) in (2..=chance.len() / 2).zip(&chance[1..]) {
        tail += p;
        if 1.0 - 2.0 * tail < level {
            break;
        }
        best = (k, 1.0 - 2.0 * tail);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two-sided critical values of the signed-rank statistic (reject when T <= value): Wilcoxon
    /// and Wilcox 1964, table as in Conover 1999, A12. The rank is one more. Coverage: exact
    /// sums by numpy.
    #[test]
    fn critical_values_are_those_of_the_published_table() {
        let known = [
            (6, 0.95, 0, 0.96875),
            (8, 0.95, 3, 0.9609375),
            (8, 0.99, 0, 0.9921875),
            (10, 0.95, 8, 0.951171875),
            (10, 0.99, 3, 0.990234375),
            (12, 0.95, 13, 0.95751953125),
            (12, 0.99, 7, 0.99072265625),
            (15, 0.95, 25, 0.95208740234375),
            (15, 0.99, 15, 0.99163818359375),
            (20, 0.95, 52, 0.9515590667724609),
            (20, 0.99, 37, 0.9905643463134766),
            (25, 0.95, 89, 0.9517375826835632),
            (25, 0.99, 68, 0.9903649687767029),
            (30, 0.95, 137, 0.9502898789942265),
            (30, 0.99, 109, 0.9900684896856546),
        ];
        for (n, level, critical, coverage) in known {
            let (k, its) = rank(n, level);
            assert_eq!(k, critical + 1, "n = {n}, level = {level}");
            assert!((its - coverage).abs() < 1e-11, "n = {n}: {its} against {coverage}");
        }
    }

    #[test]
    fn the_normal_approximation_agrees_with_the_exact_ranks_where_it_takes_over() {
        for n in [EXACT - 1, EXACT, EXACT + 1] {
            for level in [0.9, 0.95, 0.99] {
                let ((exact, its), (normal, coverage)) = (exact_rank(n, level), normal_rank(n, level));
                // Within a thousandth of the mean of W: ten ranks, some 1e-4 of coverage each.
                let most = n * n / 4 / 1000;
                assert!(exact.abs_diff(normal) <= most, "n = {n}, {level}: {exact} against {normal}");
                assert!((its - coverage).abs() < 1e-3, "n = {n}, {level}: {its} against {coverage}");
            }
        }
    }

    /// Darwin's maize, cross-fertilised less self-fertilised, in eighths of an inch (Fisher, *The
    /// Design of Experiments*, 1935). In R: wilcox.test(x, conf.int = TRUE, exact = TRUE), all
    /// differences taken as logs: estimate 25, 95 % interval [4, 41.5], 99 % [-13, 49].
    #[test]
    fn darwins_maize_gives_the_known_estimate_and_interval() {
        let maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];
        let pairs: Vec<(f64, f64)> = maize.iter().map(|d| (1.0, (f64::from(*d) / 100.0).exp())).collect();
        for (level, low, high, coverage) in
            [(0.95, 4.0, 41.5, 0.95208740234375), (0.99, -13.0, 49.0, 0.99163818359375)]
        {
            let ratio = Ranks::default().ratio(&pairs, level).unwrap();
            let interval = ratio.interval.unwrap();
            let logs = [ratio.estimate, interval.low, interval.high].map(|x| x.ln() * 100.0);
            for (got, known) in logs.into_iter().zip([25.0, low, high]) {
                assert!((got - known).abs() < 1e-9, "{got} against {known}");
            }
            assert!((interval.coverage - coverage).abs() < 1e-11);
            assert_eq!(ratio.pairs, 15);
        }
    }

    #[test]
    fn the_order_of_pairs_does_not_matter_and_swapping_sides_inverts() {
        let mut pairs: Vec<(f64, f64)> = (1..=11).map(|i| (f64::from(i), f64::from(i * i % 7 + 3))).collect();
        let before = Ranks::default().ratio(&pairs, 0.99).unwrap();
        pairs.reverse();
        pairs.swap(2, 7);
        assert_eq!(Ranks::default().ratio(&pairs, 0.99).unwrap(), before);
        let swapped: Vec<_> = pairs.iter().map(|&(a, b)| (b, a)).collect();
        let inverse = Ranks::default().ratio(&swapped, 0.99).unwrap();
        assert!((inverse.estimate * before.estimate - 1.0).abs() < 1e-12);
        let (i, b) = (inverse.interval.unwrap(), before.interval.unwrap());
        assert!((i.low * b.high - 1.0).abs() < 1e-12);
    }

    /// P(W >= 96), counted in Python; twice it is the p-value of R's wilcox.test(maize, exact = TRUE).
    #[test]
    fn the_one_sided_p_is_exact_and_is_the_intervals_own_test() {
        let maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];
        let pairs: Vec<(f64, f64)> = maize.iter().map(|d| (1.0, (f64::from(*d) / 100.0).exp())).collect();
        let p = p_not_above(&pairs, 0.0);
        assert!((p - 0.0206298828125).abs() < 1e-12, "{p}");
        let interval = Ranks::default().ratio(&pairs, 0.95).unwrap().interval.unwrap();
        let level = (1.0 - interval.coverage) / 2.0;
        assert!(p_not_above(&pairs, interval.low.ln() - 1e-9) <= level + 1e-12);
        assert!(p_not_above(&pairs, interval.low.ln() + 1e-9) > level);
    }

    #[test]
    fn many_pairs_have_the_p_of_the_normal_approximation() {
        let w = EXACT * (EXACT + 1) / 4 - 2500;
        let (exact, normal) = (tail(EXACT, w), tail(EXACT + 1, w + EXACT.div_ceil(2)));
        assert!((exact - normal).abs() < 2e-3, "{exact} against {normal}");
    }

    #[test]
    fn a_change_that_hits_a_whole_round_leaves_the_ratio_alone() {
        let pairs: Vec<(f64, f64)> =
            (0..10).map(|i| (1.0 + 0.1 * f64::from(i), 3.0 + 0.3 * f64::from(i))).collect();
        let ratio = Ranks::default().ratio(&pairs, 0.99).unwrap();
        assert!((ratio.estimate - 3.0).abs() < 1e-12);
        let interval = ratio.interval.unwrap();
        assert!(interval.high - interval.low < 1e-12);
    }

    #[test]
    fn zero_has_no_ratio_and_few_pairs_have_no_interval() {
        assert_eq!(Ranks::default().ratio(&[(0.0, 1.0), (1.0, 1.0)], 0.99), None);
        assert_eq!(Ranks::default().ratio(&[], 0.99), None);
        let few = Ranks::default().ratio(&[(1.0, 2.0); 5], 0.99).unwrap();
        assert_eq!((few.estimate, few.interval), (2.0, None));
    }
}
