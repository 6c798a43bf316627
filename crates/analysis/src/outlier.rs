//! Flags outliers; every figure includes them.
//!
//! A value is flagged when its modified z-score, 0.6745 (x - median) / MAD, is beyond 3.5: Iglewicz
//! and Hoaglin, *How to Detect and Handle Outliers*, ASQC 1993.

use super::median;

/// Makes the MAD of normal data estimate their standard deviation.
const TO_SIGMA: f64 = 0.6745;
const BEYOND: f64 = 3.5;

/// Indices of the outliers. Empty when the MAD is 0 (over half of the values are
/// equal) or there are fewer than [`median::FEWEST`] values.
pub fn flagged(values: &[f64]) -> Vec<usize> {
    let Some(centre) = median::median(values).filter(|_| values.len() >= median::FEWEST) else {
        return Vec::new();
    };
    let distances: Vec<f64> = values.iter().map(|v| (v - centre).abs()).collect();
    let mad = median::median(&distances).unwrap_or(0.0);
    if mad <= 0.0 {
        return Vec::new();
    }
    let far = |(i, d): (usize, &f64)| (TO_SIGMA * d / mad > BEYOND).then_some(i);
    distances.iter().enumerate().filter_map(far).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scores are -0.19, 0.77, -1.16, 0.29, -0.67, 0 and 19.08 (numpy).
    #[test]
    fn a_value_far_from_all_others_is_flagged() {
        assert_eq!(flagged(&[10.0, 11.0, 9.0, 10.5, 9.5, 10.2, 30.0]), [6]);
    }

    #[test]
    fn a_score_just_below_the_bound_is_not_flagged() {
        // Median 0, MAD 1: the bound is 3.5 / 0.6745 = 5.189.
        assert_eq!(flagged(&[-2.0, -1.0, -1.0, 0.0, 1.0, 1.0, 5.18]), [] as [usize; 0]);
        assert_eq!(flagged(&[-2.0, -1.0, -1.0, 0.0, 1.0, 1.0, 5.20]), [6]);
    }

    #[test]
    fn equal_values_and_few_values_flag_nothing() {
        assert!(flagged(&[1.0, 1.0, 1.0, 1.0, 1.0, 9.0]).is_empty());
        assert!(flagged(&[1.0, 1.1, 50.0]).is_empty());
    }
}
