//! Sums over ranges of weighted values, and the search for the best places of steps.

use std::ops::Range;

/// Fewest values between two changes: fewer could be outliers.
pub const SHORTEST: usize = 3;

/// Values with weights, as running sums.
#[derive(Debug)]
pub struct Weighted {
    pairs: Vec<(f64, f64)>,
    /// Sums of w, w x and w x^2 before each index.
    w: Vec<f64>,
    wx: Vec<f64>,
    wxx: Vec<f64>,
    /// Subtracted from every value, so that sums of squares stay exact.
    centre: f64,
}

/// A weighted least-squares line through a range.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub start: f64,
    pub end: f64,
    pub cost: f64,
    /// Standard error of either end.
    pub error: f64,
    /// Standard error of the slope per value.
    pub slope_error: f64,
}

impl Weighted {
    /// From (value, weight) pairs.
    pub fn new(pairs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut pairs: Vec<(f64, f64)> = pairs.collect();
        let centre = pairs.iter().map(|p| p.0).sum::<f64>() / pairs.len().max(1) as f64;
        pairs.iter_mut().for_each(|p| p.0 -= centre);
        let sums = |of: fn(f64, f64) -> f64| {
            let mut sum = 0.0;
            let mut sums = vec![0.0];
            sums.extend(pairs.iter().map(|&(x, w)| {
                sum += of(x, w);
                sum
            }));
            sums
        };
        let (w, wx, wxx) = (sums(|_, w| w), sums(|x, w| w * x), sums(|x, w| w * x * x));
        Weighted { pairs, w, wx, wxx, centre }
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn pairs(&self, range: &Range<usize>) -> Vec<(f64, f64)> {
        self.pairs[range.clone()].to_vec()
    }

    fn sum(sums: &[f64], range: &Range<usize>) -> f64 {
        sums[range.end] - sums[range.start]
    }

    /// Weighted squares about the range's own level.
    pub fn cost(&self, range: &Range<usize>) -> f64 {
        let (w, wx) = (Self::sum(&self.w, range), Self::sum(&self.wx, range));
        (Self::sum(&self.wxx, range) - wx * wx / w).max(0.0)
    }

    /// The weighted mean and its standard error, which is larger where values scatter more than their weights imply.
    pub fn level(&self, range: &Range<usize>) -> (f64, f64) {
        let w = Self::sum(&self.w, range);
        let excess = (self.cost(range) / (range.len().max(2) - 1) as f64).max(1.0);
        (Self::sum(&self.wx, range) / w + self.centre, (excess / w).sqrt())
    }

    /// Reduction of the range's cost by a step before `at`.
    pub fn gain(&self, range: &Range<usize>, at: usize) -> f64 {
        self.cost(range) - self.cost(&(range.start..at)) - self.cost(&(at..range.end))
    }

    /// The best place for a step in the range (its start where there is none), and its gain.
    pub fn best_step(&self, range: &Range<usize>) -> (usize, f64) {
        let places = range.start + SHORTEST..(range.end + 1).saturating_sub(SHORTEST);
        let gains = places.map(|at| (at, self.gain(range, at)));
        gains.fold((range.start, 0.0), |best, this| if this.1 > best.1 { this } else { best })
    }

    pub fn line(&self, range: &Range<usize>) -> Line {
        let w = Self::sum(&self.w, range);
        let mean = Self::sum(&self.wx, range) / w;
        let numbered = || range.clone().zip(&self.pairs[range.clone()]).map(|(i, p)| (i as f64, p.0, p.1));
        let middle = numbered().map(|(i, _, w)| w * i).sum::<f64>() / w;
        let spread = numbered().map(|(i, _, w)| w * (i - middle).powi(2)).sum::<f64>();
        let slope = numbered().map(|(i, x, w)| w * (i - middle) * (x - mean)).sum::<f64>() / spread;
        let at = |i: usize| mean + slope * (i as f64 - middle) + self.centre;
        let last = range.end - 1;
        let cost = (self.cost(range) - slope * slope * spread).max(0.0);
        let excess = (cost / (range.len().max(3) - 2) as f64).max(1.0);
        Line {
            start: at(range.start),
            end: at(last),
            cost,
            error: (excess * (1.0 / w + (last as f64 - middle).powi(2) / spread)).sqrt(),
            slope_error: (excess / spread).sqrt(),
        }
    }
}

/// The gain of [`Weighted::best_step`] for values in an order of their own.
pub fn best_gain_of(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len();
    let (all_w, all_wx) = pairs.iter().fold((0.0, 0.0), |(w, wx), p| (w + p.1, wx + p.0 * p.1));
    let (mut w, mut wx, mut best) = (0.0, 0.0, 0.0_f64);
    for (i, pair) in pairs.iter().enumerate().take((n + 1).saturating_sub(SHORTEST)) {
        if i >= SHORTEST {
            let (rest, rest_x) = (all_w - w, all_wx - wx);
            best = best.max(wx * wx / w + rest_x * rest_x / rest - all_wx * all_wx / all_w);
        }
        w += pair.1;
        wx += pair.0 * pair.1;
    }
    best
}

/// The places of steps (index of the first value after) with the least cost, where each step costs `penalty`: PELT.
/// Pruned candidates stay for [`SHORTEST`] more values, the shortest distance to the step that replaces them.
pub fn best(weighted: &Weighted, penalty: f64) -> Vec<usize> {
    let n = weighted.len();
    let mut least = vec![f64::INFINITY; n + 1];
    least[0] = -penalty;
    let mut from = vec![0; n + 1];
    // Each with the end from which on it is pruned.
    let mut candidates: Vec<(usize, usize)> = Vec::new();
    for end in SHORTEST..=n {
        let fresh = end - SHORTEST;
        if least[fresh].is_finite() {
            candidates.push((fresh, usize::MAX));
        }
        candidates.retain(|(_, until)| end < *until);
        for (start, _) in &candidates {
            let cost = least[*start] + weighted.cost(&(*start..end)) + penalty;
            if cost < least[end] {
                (least[end], from[end]) = (cost, *start);
            }
        }
        for (start, until) in candidates.iter_mut().filter(|(_, until)| *until == usize::MAX) {
            if least[*start] + weighted.cost(&(*start..end)) >= least[end] {
                *until = end + SHORTEST;
            }
        }
    }
    let mut places = Vec::new();
    let mut end = if n < SHORTEST { 0 } else { from[n] };
    while end > 0 {
        places.push(end);
        end = from[end];
    }
    places.reverse();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Weighted {
        let value = |i: usize| {
            let step = if (7..13).contains(&i) { 1.5 } else { 0.0 };
            (step + ((i * 37 % 11) as f64 - 5.0) / 8.0, 1.0 + (i * 7 % 5) as f64)
        };
        Weighted::new((0..17).map(value))
    }

    /// Every set of places, by brute force.
    fn cheapest(weighted: &Weighted, start: usize, penalty: f64) -> (f64, Vec<usize>) {
        let n = weighted.len();
        let mut best = (weighted.cost(&(start..n)), Vec::new());
        for at in start + SHORTEST..=n - SHORTEST {
            let (rest, places) = cheapest(weighted, at, penalty);
            let cost = weighted.cost(&(start..at)) + penalty + rest;
            if cost < best.0 {
                best = (cost, [at].into_iter().chain(places).collect());
            }
        }
        best
    }

    #[test]
    fn the_segmentation_is_the_best_of_all() {
        let weighted = values();
        let mut seen = std::collections::BTreeSet::new();
        for penalty in [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 30.0] {
            let places = best(&weighted, penalty);
            assert_eq!(places, cheapest(&weighted, 0, penalty).1, "penalty {penalty}");
            seen.insert(places.len());
        }
        assert!(seen.len() >= 3 && seen.contains(&0), "{seen:?}");
    }

    #[test]
    fn sums_over_ranges_are_those_of_the_values() {
        let weighted = values();
        let range = 3..12;
        let pairs = weighted.pairs(&range);
        let w: f64 = pairs.iter().map(|p| p.1).sum();
        let mean = pairs.iter().map(|p| p.0 * p.1).sum::<f64>() / w;
        let cost: f64 = pairs.iter().map(|p| p.1 * (p.0 - mean).powi(2)).sum();
        assert!((weighted.cost(&range) - cost).abs() < 1e-9);
        assert!((weighted.best_step(&range).1 - best_gain_of(&pairs)).abs() < 1e-9);
        assert!(weighted.best_step(&range).1 >= weighted.gain(&range, 7) && weighted.gain(&range, 7) > 0.0);
    }

    #[test]
    fn a_line_through_points_of_a_line_costs_nothing() {
        let weighted = Weighted::new((0..9).map(|i| (2.0 + 0.25 * f64::from(i), f64::from(1 + i % 3))));
        let line = weighted.line(&(2..8));
        assert!((line.start - 2.5).abs() < 1e-9 && (line.end - 3.75).abs() < 1e-9, "{line:?}");
        assert!(line.cost < 1e-9);
    }

    #[test]
    fn too_few_values_have_no_place_for_a_step() {
        for n in 0..2 * SHORTEST {
            assert_eq!(best(&Weighted::new((0..n).map(|i| (i as f64 * 100.0, 1.0))), 0.1), [] as [usize; 0]);
        }
    }
}
