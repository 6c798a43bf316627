//! Statistics that only other programs' formats need: means, deviations, percentiles and the bootstrap. Percentiles
//! interpolate between order statistics (type 7 of Hyndman and Fan, *Sample Quantiles in Statistical Packages*,
//! 1996), as criterion's do.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::analysis::median::{of_sorted, sorted};

/// Arithmetic mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of the population (n - 1); `None` below two values.
pub fn std_dev(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The value below which `share` (0 to 1) of sorted values lie; `None` without values.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = share.clamp(0.0, 1.0) * last as f64;
    let low = sorted[rank.floor() as usize];
    let high = sorted[(rank.floor() as usize + 1).min(last)];
    Some(low + (high - low) * rank.fract())
}

/// Median absolute deviation times 1.4826, which makes it the standard deviation where values are normal.
fn median_abs_dev(values: &[f64], median: f64) -> f64 {
    let deviations: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    of_sorted(&sorted(&deviations)).unwrap_or(0.0) * 1.4826
}

/// Point estimates of criterion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Points {
    pub mean: f64,
    pub median: f64,
    pub median_abs_dev: f64,
    pub std_dev: f64,
}

impl Points {
    /// Estimates of a sample; `None` below two values, which have no deviation.
    pub fn of(values: &[f64]) -> Option<Points> {
        let median = of_sorted(&sorted(values))?;
        Some(Points {
            mean: mean(values)?,
            median,
            median_abs_dev: median_abs_dev(values, median),
            std_dev: std_dev(values)?,
        })
    }
}

/// Estimates of `draws` samples, drawn with replacement from the values: Efron and Tibshirani, *An Introduction to the
/// Bootstrap*, 1993. The draws depend on the seed only.
pub fn bootstrap(values: &[f64], draws: usize, seed: u64) -> Vec<Points> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = values.to_vec();
    let draw = |_| {
        for value in &mut drawn {
            // As u32: the draws must not depend on the width of usize.
            *value = values[rng.random_range(0..values.len() as u32) as usize];
        }
        Points::of(&drawn)
    };
    (0..draws).filter_map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_textbook() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), Some(5.0));
        assert!((std_dev(&values).unwrap() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!((mean(&[]), std_dev(&[3.0]), percentile(&[], 0.5)), (None, None, None));
        assert_eq!(Points::of(&values).unwrap().median_abs_dev, 0.5 * 1.4826);
    }

    /// From numpy 2.4: `np.percentile(values, [0, 5, 25, 50, 75, 100])`.
    #[test]
    fn percentiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let known = [(0.0, 1.0), (0.05, 1.25), (0.25, 2.5), (0.5, 6.0), (0.75, 14.0), (1.0, 32.0)];
        for (share, value) in known {
            assert!((percentile(&values, share).unwrap() - value).abs() < 1e-12, "{share}");
        }
    }

    #[test]
    fn the_bootstrap_of_a_mean_spreads_by_its_standard_error_and_the_seed_decides_it() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        let means = |seed| bootstrap(&values, 4000, seed).iter().map(|p| p.mean).collect::<Vec<_>>();
        let spread = std_dev(&means(1)).unwrap();
        // sqrt((n^2 - 1) / 12 / n): the sample itself is the population.
        let known = (399.0_f64 / 12.0 / 20.0).sqrt();
        assert!((spread / known - 1.0).abs() < 0.05, "{spread} against {known}");
        assert_eq!(means(1), means(1));
        assert_ne!(means(1), means(2));
    }
}
