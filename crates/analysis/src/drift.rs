//! Did values drift over a run? Mann-Kendall's test for a trend, with Theil and Sen's slope.
//!
//! The null distribution of Kendall's S is exact, by counting permutations by their inversions:
//! Mann 1945; Kendall, *Rank Correlation Methods*, 4th ed. 1970; Sen 1968. Beyond [`EXACT`] values it is taken as
//! normal, with Kendall's variance and correction for continuity (his chapter 4).

use super::{median, unpaired::erfc};

/// Largest number of values with an exact p; the exact distribution takes O(n^3).
pub const EXACT: usize = 200;

/// How values moved from the first sample to the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Theil-Sen slope over the whole run as a share of the median: 0.1 is 10 % up.
    pub share: f64,
    /// Two-sided p of Mann-Kendall's test; ties make it larger, never smaller.
    pub p: f64,
}

impl Drift {
    /// Whether it is strong and significant enough for a caveat: above 5 % with p < 0.01.
    pub fn matters(&self) -> bool {
        self.share.abs() > 0.05 && self.p < 0.01
    }
}

/// Drift of values given in the order taken; `None` below [`median::FEWEST`] values or when the median is not
/// above zero.
pub fn drift(values: &[f64]) -> Option<Drift> {
    let n = values.len();
    let centre = median::median(values).filter(|m| *m > 0.0 && n >= median::FEWEST)?;
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    let mut s = 0_i64;
    for i in 0..n {
        for j in i + 1..n {
            let rise = values[j] - values[i];
            s += i64::from(rise > 0.0) - i64::from(rise < 0.0);
            slopes.push(rise / (j - i) as f64);
        }
    }
    let slope = median::median(&slopes)?;
    Some(Drift { share: slope * (n - 1) as f64 / centre, p: kendall_p(n, s.unsigned_abs()) })
}

/// P(|S| >= s) for n values in random order. S = pairs - 2 * inversions.
fn kendall_p(n: usize, s: u64) -> f64 {
    if n <= EXACT { exact_p(n, s) } else { normal_p(n, s) }
}

/// Like [`kendall_p`], with the normal approximation of S: mean 0, variance n (n - 1) (2n + 5) / 18. S moves in steps
/// of two.
fn normal_p(n: usize, s: u64) -> f64 {
    let (n, s) = (n as f64, s as f64);
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    erfc((s - 1.0).max(0.0) / deviation / std::f64::consts::SQRT_2)
}

fn exact_p(n: usize, s: u64) -> f64 {
    let pairs = n * (n - 1) / 2;
    let mut chance = vec![0.0; pairs + 1];
    chance[0] = 1.0;
    let mut top = 0;
    for size in 2..=n {
        let before = chance.clone();
        top += size - 1;
        let mut window = 0.0;
        for inversions in 0..=top {
            window += before[inversions];
            if inversions >= size {
                window -= before[inversions - size];
            }
            chance[inversions] = window / size as f64;
        }
    }
    let tail: f64 =
        (0..=pairs).filter(|i| (pairs as i64 - 2 * *i as i64) >= s as i64).map(|i| chance[i]).sum();
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17.1: kendalltau(range(n), y, method="exact") and theilslopes.
    #[test]
    fn p_and_slope_are_those_of_scipy() {
        let y = [1.0, 3.0, 2.0, 4.0, 6.0, 5.0, 7.0, 8.0, 10.0, 9.0];
        let d = drift(&y).unwrap();
        assert!((d.p - 0.00011518959435626102).abs() < 1e-12, "{}", d.p);
        assert!((d.share - 9.0 / 5.5).abs() < 1e-12);
        let y = [5.0, 4.0, 6.0, 7.0, 3.0, 9.0, 8.0, 10.0];
        assert!((drift(&y).unwrap().p - 0.06101190476190476).abs() < 1e-12);
    }

    #[test]
    fn the_normal_approximation_agrees_with_the_exact_p_where_it_takes_over() {
        for n in [EXACT - 1, EXACT, EXACT + 1] {
            let deviation = ((n * (n - 1) * (2 * n + 5)) as f64 / 18.0).sqrt();
            for deviations in [0.5, 1.0, 2.0, 2.576, 3.0] {
                // S has the parity of the number of pairs.
                let s = (deviations * deviation) as u64 / 2 * 2 + (n * (n - 1) / 2 % 2) as u64;
                let (exact, normal) = (exact_p(n, s), normal_p(n, s));
                assert!((exact - normal).abs() < 1e-3, "n = {n}, S = {s}: {exact} against {normal}");
            }
        }
    }

    #[test]
    fn a_steady_rise_matters_and_steady_values_do_not() {
        let rise: Vec<f64> = (0..10).map(|i| 100.0 + 2.0 * f64::from(i)).collect();
        assert!(drift(&rise).unwrap().matters());
        let fall: Vec<f64> = rise.iter().rev().copied().collect();
        assert!(drift(&fall).unwrap().share < -0.05);
        assert!(!drift(&[5.0; 10]).unwrap().matters());
        let tiny: Vec<f64> = (0..10).map(|i| 100.0 + 0.1 * f64::from(i)).collect();
        assert!(!drift(&tiny).unwrap().matters(), "1 % is sure but small");
    }
}
