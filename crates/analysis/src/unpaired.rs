//! Two sets of unpaired samples, such as those of two runs: ratio, Mann-Whitney p and P(B > A).
//!
//! The ratio is Hodges and Lehmann's: exp of the median of all differences of logarithms between
//! the sets; its interval are two order statistics of them, chosen by the exact null distribution
//! of Mann and Whitney's U (Hollander, Wolfe and Chicken 2014, sections 4.2 and 4.3). p is two-sided
//! and exact also with ties, from the permutation distribution of the midranks' sum; beyond
//! [`EXACT`] values in all it is the normal approximation with corrections for ties and continuity
//! (section 4.1). P(B > A) counts a tie as half: Vargha and Delaney 2000.

use super::median::{self, FEWEST, Interval};

/// Largest number of values, both sets together, with an exact p.
pub const EXACT: usize = 120;

/// Largest number of differences between the sets with exact ranks; the exact distribution takes O(m^2 n).
const EXACT_PAIRS: usize = 40_000;

/// B compared with A.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unpaired {
    /// Ratio of B's values to A's; `None` when a value is not above zero.
    pub ratio: Option<f64>,
    /// Interval of the ratio; `None` without a ratio and below [`FEWEST`] values in either set.
    pub interval: Option<Interval>,
    /// Two-sided p of Mann-Whitney's test that neither set tends to larger values.
    pub p: f64,
    /// The chance that a value of B is above one of A.
    pub superiority: f64,
    /// Number of values in A.
    pub n_a: usize,
    /// Number of values in B.
    pub n_b: usize,
}

/// Compares two sets; `None` when either is empty.
pub fn compare(a: &[f64], b: &[f64], level: f64) -> Option<Unpaired> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (ratio, interval) = ratio(a, b, level).unzip();
    let above: f64 = b.iter().flat_map(|b| a.iter().map(move |a| wins(*a, *b))).sum();
    let superiority = above / (a.len() * b.len()) as f64;
    Some(Unpaired {
        ratio,
        interval: interval.flatten(),
        p: p_value(a, b),
        superiority,
        n_a: a.len(),
        n_b: b.len(),
    })
}

/// One-sided p of Mann and Whitney's test that ln(B / A) is `shift` or less: P(U <= u), u being how many of all
/// differences of logarithms are not above `shift`. The ratio's interval inverts this test: the interval of a level
/// lies above `shift` exactly where p is (1 - level) / 2 or less. Ties increase p.
pub fn p_not_above(a: &[f64], b: &[f64], shift: f64) -> f64 {
    let not_above = b.iter().map(|b| a.iter().filter(|a| (b / **a).ln() <= shift).count()).sum::<usize>();
    let (m, n) = (a.len(), b.len());
    if m * n > EXACT_PAIRS {
        let (mean, deviation) = moments(m, n);
        return erfc((mean - (not_above as f64 + 0.5)) / deviation / std::f64::consts::SQRT_2) / 2.0;
    }
    let ways = ways(m, n);
    let all: f64 = ways.iter().sum();
    (ways[..=not_above].iter().sum::<f64>() / all).min(1.0)
}

/// Mean m n / 2 and deviation, the root of m n (m + n + 1) / 12, of U.
fn moments(m: usize, n: usize) -> (f64, f64) {
    let (m, n) = (m as f64, n as f64);
    (m * n / 2.0, (m * n * (m + n + 1.0) / 12.0).sqrt())
}

fn wins(a: f64, b: f64) -> f64 {
    match b.total_cmp(&a) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    }
}

fn ratio(a: &[f64], b: &[f64], level: f64) -> Option<(f64, Option<Interval>)> {
    if a.iter().chain(b).any(|v| *v <= 0.0) {
        return None;
    }
    let mut logs: Vec<f64> = b.iter().flat_map(|b| a.iter().map(move |a| (b / a).ln())).collect();
    logs.sort_unstable_by(f64::total_cmp);
    let centre = median::of_sorted(&logs)?.exp();
    let interval = (a.len().min(b.len()) >= FEWEST).then(|| {
        let (rank, coverage) = rank(a.len(), b.len(), level);
        Interval { low: logs[rank - 1].exp(), high: logs[logs.len() - rank].exp(), coverage }
    });
    Some((centre, interval))
}

/// The largest k >= 1 for which the k-th smallest and k-th largest difference cover the shift with
/// `level`, and their exact coverage: 1 - 2 P(U <= k - 1).
fn rank(m: usize, n: usize, level: f64) -> (usize, f64) {
    if m * n > EXACT_PAIRS { normal_rank(m, n, level) } else { exact_rank(m, n, level) }
}

/// Like [`rank`], with the normal approximation of U and half a step for continuity.
fn normal_rank(m: usize, n: usize, level: f64) -> (usize, f64) {
    let (mean, deviation) = moments(m, n);
    let coverage = |k: usize| 1.0 - erfc((mean - (k as f64 - 0.5)) / deviation / std::f64::consts::SQRT_2);
    // Coverage falls as k grows: bisect between one that reaches the level and one that does not.
    let (mut reaches, mut falls_short) = (1, (mean as usize).max(2));
    while falls_short - reaches > 1 {
        let k = reaches.midpoint(falls_short);
        *if coverage(k) >= level { &mut reaches } else { &mut falls_short } = k;
    }
    (reaches, coverage(reaches))
}

fn exact_rank(m: usize, n: usize, level: f64) -> (usize, f64) {
    let ways = ways(m, n);
    let all: f64 = ways.iter().sum();
    let mut tail = ways[0] / all;
    let mut best = (1, 1.0 - 2.0 * tail);
    for (k, w) in (2..=ways.len() / 2).zip(&ways[1..]) {
        tail += w / all;
        if 1.0 - 2.0 * tail < level {
            break;
        }
        best = (k, 1.0 - 2.0 * tail);
    }
    best
}

/// In how many orders of m and n values U is u, for every u. The lower half is counted, small numbers from
/// small numbers, and mirrored: the Gaussian binomial's product, (1 - q^(n+i)) / (1 - q^i).
fn ways(m: usize, n: usize) -> Vec<f64> {
    let half = m * n / 2;
    let mut ways = vec![0.0; half + 1];
    ways[0] = 1.0;
    for i in 1..=m {
        for u in (n + i..=half).rev() {
            ways[u] -= ways[u - n - i];
        }
        for u in i..=half {
            ways[u] += ways[u - i];
        }
    }
    (0..=m * n).map(|u| ways[u.min(m * n - u)]).collect()
}

fn p_value(a: &[f64], b: &[f64]) -> f64 {
    let (ranks, ties) = doubled_ranks(a, b);
    let (m, n) = (a.len(), b.len());
    let sum: usize = ranks[m..].iter().sum();
    // Doubled like the ranks: the mean of the sum of B's.
    let mean = n * (m + n + 1);
    let off = sum.abs_diff(mean);
    if m + n > EXACT { normal_p(m, n, off as f64 / 2.0, ties) } else { permutation_p(&ranks, n, mean, off) }
}

/// Twice the midrank of every value of A, then of B; and the sum of t^3 - t over ties of t values.
fn doubled_ranks(a: &[f64], b: &[f64]) -> (Vec<usize>, f64) {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let sorted = median::sorted(&all);
    let mut ties = 0.0;
    for group in sorted.chunk_by(|x, y| x == y) {
        let t = group.len() as f64;
        ties += t.powi(3) - t;
    }
    let rank = |v: &f64| {
        let below = sorted.partition_point(|s| s < v);
        let upto = sorted.partition_point(|s| s <= v);
        below + upto + 1
    };
    (all.iter().map(rank).collect(), ties)
}

/// P(|sum - mean| >= off) when any `n` of the ranks are as likely as any others.
fn permutation_p(ranks: &[usize], n: usize, mean: usize, off: usize) -> f64 {
    let top: usize = ranks.iter().sum();
    // chance[k][s]: that of the ranks seen so far, weighted alike, k sum to s.
    let mut ways = vec![vec![0.0_f64; top + 1]; n + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for k in (1..=n).rev() {
            let (fewer, these) = ways.split_at_mut(k);
            for s in *rank..=top {
                these[0][s] += fewer[k - 1][s - rank];
            }
        }
    }
    let all: f64 = ways[n].iter().sum();
    let beyond = ways[n].iter().enumerate().filter(|(s, _)| s.abs_diff(mean) >= off);
    beyond.map(|(_, w)| w).sum::<f64>() / all
}

fn normal_p(m: usize, n: usize, off: f64, ties: f64) -> f64 {
    let (m, n) = (m as f64, n as f64);
    let all = m + n;
    let variance = m * n / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    erfc((off - 0.5).max(0.0) / variance.sqrt() / std::f64::consts::SQRT_2)
}

/// Complementary error function, relative error below 1.2e-7: Press et al., *Numerical Recipes*, 3rd ed. 2007, 6.2.2.
pub(super) fn erfc(x: f64) -> f64 {
    const TERMS: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let polynomial = TERMS.iter().rev().fold(0.0, |sum, term| sum * t + term);
    let tail = t * (-x * x + polynomial).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 10] = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
    const B: [f64; 6] = [1.15, 0.88, 0.90, 0.74, 1.21, 1.31];

    /// Two-sided critical values of U (reject when U <= value): Mann and Whitney's table, as in Siegel and
    /// Castellan 1988. The rank is one more. Coverage: exact sums of integers in Python.
    #[test]
    fn critical_values_are_those_of_the_published_table() {
        let known = [
            (6, 6, 0.95, 5, 0.9588744588744589),
            (6, 6, 0.99, 2, 0.9913419913419913),
            (6, 9, 0.95, 10, 0.9504495504495505),
            (8, 8, 0.99, 7, 0.993006993006993),
            (10, 10, 0.95, 23, 0.9567429474550218),
            (10, 10, 0.99, 16, 0.991069302214813),
            (15, 12, 0.99, 37, 0.9912903118179737),
            (20, 20, 0.95, 127, 0.9509096748106276),
            (20, 20, 0.99, 105, 0.990516392808795),
        ];
        for (m, n, level, critical, coverage) in known {
            let (k, its) = rank(m, n, level);
            assert_eq!(k, critical + 1, "{m} and {n} at {level}");
            assert!((its - coverage).abs() < 1e-11, "{m} and {n}: {its} against {coverage}");
        }
    }

    /// scipy 1.17.1: mannwhitneyu(A, B, method="exact") and numpy's order statistics of all log ratios.
    /// A and the first five of B are the permeability data of Hollander and Wolfe, table 4.1.
    #[test]
    fn p_ratio_and_superiority_are_those_of_scipy() {
        let both = compare(&A, &B, 0.95).unwrap();
        assert!((both.p - 0.26348651348651353).abs() < 1e-12, "{}", both.p);
        assert!((both.superiority - 0.31666666666666665).abs() < 1e-12);
        assert!((both.ratio.unwrap() - 0.8136356721631443).abs() < 1e-12);
        let interval = both.interval.unwrap();
        assert!((interval.low - 0.5487804878048781).abs() < 1e-12);
        assert!((interval.high - 1.2054794520547945).abs() < 1e-12);
        assert!((interval.coverage - 0.958041958041958).abs() < 1e-11);
    }

    /// All 462 ways to choose 6 of the 11 midranks, counted in Python: 28 are as far from the mean.
    #[test]
    fn p_is_exact_with_ties_too() {
        let p = compare(&[1.0, 2.0, 2.0, 3.0, 4.0], &[2.0, 3.0, 5.0, 5.0, 6.0, 7.0], 0.99).unwrap().p;
        assert!((p - 28.0 / 462.0).abs() < 1e-12, "{p}");
    }

    /// scipy 1.17.1: mannwhitneyu(x, y, method="asymptotic").
    #[test]
    fn many_values_fall_back_to_the_normal_approximation_with_ties() {
        let x: Vec<f64> = (0..80).map(|i| f64::from(i * 7 % 41 + 1)).collect();
        let y: Vec<f64> = (0..70).map(|i| f64::from(i * 5 % 41 + 4)).collect();
        let p = compare(&x, &y, 0.99).unwrap().p;
        assert!((p - 0.15543740304580675).abs() < 1e-6, "{p}");
    }

    /// All 8,008 ways to choose 6 of 16 ranks, counted in Python: 7,128 have as large a sum.
    #[test]
    fn the_one_sided_p_is_exact_and_is_the_intervals_own_test() {
        let p = p_not_above(&A, &B, 0.0);
        assert!((p - 7128.0 / 8008.0).abs() < 1e-12, "{p}");
        let interval = compare(&A, &B, 0.95).unwrap().interval.unwrap();
        let level = (1.0 - interval.coverage) / 2.0;
        assert!(p_not_above(&A, &B, interval.low.ln() - 1e-9) <= level + 1e-12);
        assert!(p_not_above(&A, &B, interval.low.ln() + 1e-9) > level);
    }

    #[test]
    fn ranks_of_large_sets_are_those_of_the_normal_approximation() {
        for level in [0.95, 0.99] {
            let ((exact, its), (normal, coverage)) =
                (exact_rank(200, 200, level), normal_rank(200, 200, level));
            assert!(exact.abs_diff(normal) <= 20, "{exact} against {normal}");
            assert!((its - coverage).abs() < 1e-3, "{its} against {coverage}");
        }
        let large: Vec<f64> = (1..=2000).map(f64::from).collect();
        assert!((p_not_above(&large, &large, 0.0) - 0.5).abs() < 0.02);
    }

    #[test]
    fn exact_and_approximate_p_meet_where_one_takes_over() {
        let a: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 101)).collect();
        let b: Vec<f64> = (0..60).map(|i| f64::from(i * 53 % 97) + 12.5).collect();
        let exact = compare(&a, &b, 0.99).unwrap().p;
        let (ranks, ties) = doubled_ranks(&a, &b);
        let off = ranks[60..].iter().sum::<usize>().abs_diff(60 * 121) as f64 / 2.0;
        let approximate = normal_p(60, 60, off, ties);
        assert!((exact - approximate).abs() < 0.002, "{exact} against {approximate}");
    }

    #[test]
    fn order_does_not_matter_and_swapping_sides_inverts() {
        let both = compare(&A, &B, 0.99).unwrap();
        let turned: Vec<f64> = A.iter().rev().copied().collect();
        assert_eq!(compare(&turned, &B, 0.99).unwrap(), both);
        let swapped = compare(&B, &A, 0.99).unwrap();
        assert!((swapped.p - both.p).abs() < 1e-12);
        assert!((swapped.superiority + both.superiority - 1.0).abs() < 1e-12);
        assert!((swapped.ratio.unwrap() * both.ratio.unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn equal_sets_differ_in_nothing_and_zero_has_no_ratio() {
        let same = compare(&[2.0; 8], &[2.0; 8], 0.99).unwrap();
        assert_eq!((same.p, same.superiority, same.ratio), (1.0, 0.5, Some(1.0)));
        let zero = compare(&[0.0, 1.0], &[1.0, 2.0], 0.99).unwrap();
        assert_eq!((zero.ratio, zero.interval), (None, None));
        assert_eq!(compare(&[], &[1.0], 0.99), None);
    }
}
