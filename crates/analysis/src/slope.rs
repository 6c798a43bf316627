//! How much one quantity grows with another: Theil and Sen's slope, which is robust against a few outliers.
//!
//! The slope is the median of the slopes of all pairs of points that differ in x; its interval are two order
//! statistics of those, by the normal approximation of Kendall's S with the correction for ties in x: Sen 1968,
//! section 4; Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, 3rd ed. 2014, section 9.3.

use super::{median, unpaired::erfc};

/// A fitted line with the interval of its slope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Change of y per unit of x.
    pub slope: f64,
    /// Median of y - slope * x.
    pub intercept: f64,
    /// Lower bound of the slope.
    pub low: f64,
    /// Upper bound of the slope.
    pub high: f64,
}

/// Fits (x, y) points; `None` below [`median::FEWEST`] points or when all have the same x. `level` is the
/// interval's.
pub fn fit(points: &[(f64, f64)], level: f64) -> Option<Fit> {
    if points.len() < median::FEWEST {
        return None;
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (i, a) in points.iter().enumerate() {
        let others = points[i + 1..].iter().filter(|b| b.0 != a.0);
        slopes.extend(others.map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    slopes.sort_by(f64::total_cmp);
    let slope = median::of_sorted(&slopes)?;
    let rest: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    // Ranks from 1: (N - C) / 2 and (N + C) / 2 + 1, rounded outwards.
    let (all, c) = (slopes.len() as f64, quantile(level) * deviation(points));
    let low = (((all - c) / 2.0).floor() - 1.0).max(0.0) as usize;
    let high = (((all + c) / 2.0).ceil() as usize).min(slopes.len() - 1);
    Some(Fit { slope, intercept: median::median(&rest)?, low: slopes[low], high: slopes[high] })
}

/// Standard deviation of Kendall's S when y does not depend on x.
fn deviation(points: &[(f64, f64)]) -> f64 {
    let mut xs: Vec<f64> = points.iter().map(|p| p.0).collect();
    xs.sort_by(f64::total_cmp);
    let term = |n: usize| (n * (n - 1) * (2 * n + 5)) as f64;
    let ties: f64 = xs.chunk_by(|a, b| a == b).map(|tied| term(tied.len())).sum();
    ((term(xs.len()) - ties) / 18.0).sqrt()
}

/// z for which a standard normal variable lies within -z and z with this probability.
pub(super) fn quantile(level: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 10.0_f64);
    for _ in 0..60 {
        let z = low.midpoint(high);
        *if 1.0 - erfc(z / std::f64::consts::SQRT_2) < level { &mut low } else { &mut high } = z;
    }
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (level, z) in [(0.95, 1.959964), (0.99, 2.575829), (0.999, 3.290527)] {
            assert!((quantile(level) - z).abs() < 1e-5, "{level}: {}", quantile(level));
        }
    }

    #[test]
    fn a_line_has_its_slope_and_one_outlier_does_not_bend_it() {
        let mut points: Vec<(f64, f64)> = (0..9).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        let fit_of = |points: &[(f64, f64)]| fit(points, 0.99).unwrap();
        let straight = fit_of(&points);
        assert_eq!((straight.slope, straight.intercept, straight.low, straight.high), (2.0, 3.0, 2.0, 2.0));
        points[4].1 = 400.0;
        assert_eq!(fit_of(&points).slope, 2.0);
    }

    /// Sen's own example (1968, section 6): t = 1, 2, 3, 4, 10, 12, 18 and x = 9, 15, 19, 20, 45, 55, 78. The
    /// slope is 4; the 93 % interval that he gives from the exact distribution is (3.71, 4.11), and the normal
    /// approximation, rounded outwards, may only be as wide or wider.
    #[test]
    fn sens_example_gives_his_slope_and_no_narrower_interval() {
        let t = [1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 18.0];
        let x = [9.0, 15.0, 19.0, 20.0, 45.0, 55.0, 78.0];
        let points: Vec<(f64, f64)> = t.into_iter().zip(x).collect();
        let fit = fit(&points, 0.93).unwrap();
        assert_eq!(fit.slope, 4.0);
        assert!(fit.low <= 3.72 && fit.high >= 4.11, "{fit:?}");
        assert!(fit.low > 3.0 && fit.high < 5.0, "{fit:?}");
    }

    #[test]
    fn ties_in_x_narrow_nothing_that_they_should_not() {
        // n = 10, two values of x, five times each: variance (10*9*25 - 2*5*4*15) / 18.
        let points: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i % 2), f64::from(i))).collect();
        assert!((deviation(&points) - (1650.0_f64 / 18.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn few_points_or_one_x_have_no_slope() {
        assert_eq!(fit(&[(0.0, 1.0), (1.0, 2.0)], 0.99), None);
        assert_eq!(fit(&[(1.0, 1.0); 8], 0.99), None);
    }
}
