//! E-divisive: where the distribution of a series changed, without any model of it. The cross-check of [`super::steps`].
//!
//! Matteson and James, *A nonparametric approach for multiple change point analysis of multivariate data*, JASA 2014:
//! the place that parts a range best, by the energy distance of both sides (their equation 7, exponent 1), is a change
//! if few random orders of the range can be parted as well; then both sides are looked at in the same way. Other than
//! there, a part ends where the range does, as in Daly and others (*The use of change point detection to identify
//! software performance regressions in a continuous integration system*, ICPE 2020), and each range has a test of its
//! own. Sums of distances are kept over ranks (Fenwick 1994), so a search takes n log n. Series longer than
//! [`LONGEST`] are looked at by the medians of blocks.

use std::ops::Range;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    median,
    steps::{ALPHA, SHORTEST},
};

/// More values than these are taken together in blocks.
const LONGEST: usize = 1000;
/// Orders tried, so that no p is below 0.005.
const ORDERS: usize = 199;
/// With so many that can be parted as well, no p is below [`ALPHA`] any more.
const ENOUGH: usize = 2;

/// Indices of the first value after each change, in order, and how exact they are: within so many values.
pub fn changes(values: &[f64], seed: u64) -> (Vec<usize>, usize) {
    let block = values.len().div_ceil(LONGEST).max(1);
    let blocks: Vec<f64> = values.chunks(block).filter_map(median::median).collect();
    let mut found = Vec::new();
    divide(&blocks, 0..blocks.len(), seed, &mut found);
    found.sort_unstable();
    (found.into_iter().map(|at| at * block).collect(), block)
}

fn divide(values: &[f64], range: Range<usize>, seed: u64, found: &mut Vec<usize>) {
    let part = &values[range.clone()];
    if part.len() < 2 * SHORTEST {
        return;
    }
    let mut search = Search::new(part);
    let (place, best) = search.best();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(range.start as u64);
    let mut as_good = 0;
    for _ in 0..ORDERS {
        search.order.shuffle(&mut random);
        as_good += usize::from(search.best().1 >= best * (1.0 - 1e-9));
        if as_good == ENOUGH {
            return;
        }
    }
    if (1 + as_good) as f64 / (1 + ORDERS) as f64 >= ALPHA {
        return;
    }
    let middle = range.start + place;
    found.push(middle);
    divide(values, range.start..middle, seed, found);
    divide(values, middle..range.end, seed, found);
}

/// The values of a range in some order, as ranks among themselves.
struct Search {
    /// Distinct values, ascending.
    sorted: Vec<f64>,
    order: Vec<usize>,
    /// Sums of distances within the first k values, and within the last n - k.
    first: Vec<f64>,
    last: Vec<f64>,
    tree: Tree,
}

impl Search {
    fn new(values: &[f64]) -> Self {
        let mut sorted = median::sorted(values);
        sorted.dedup();
        let order = values.iter().map(|v| sorted.partition_point(|s| s < v)).collect();
        let sums = vec![0.0; values.len() + 1];
        Search { tree: Tree::new(sorted.len()), first: sums.clone(), last: sums, sorted, order }
    }

    /// The place that parts best (index of the first value after), and the energy statistic there.
    fn best(&mut self) -> (usize, f64) {
        let n = self.order.len();
        self.tree.clear();
        for k in 0..n {
            self.first[k + 1] = self.first[k] + self.tree.add(self.order[k], self.sorted[self.order[k]]);
        }
        self.tree.clear();
        for k in (0..n).rev() {
            self.last[k] = self.last[k + 1] + self.tree.add(self.order[k], self.sorted[self.order[k]]);
        }
        let mut best = (0, 0.0);
        for k in SHORTEST..=n - SHORTEST {
            let (m, l) = (k as f64, (n - k) as f64);
            let between = self.first[n] - self.first[k] - self.last[k];
            let within = |sum: f64, m: f64| sum / (m * (m - 1.0) / 2.0);
            let apart = 2.0 * between / (m * l) - within(self.first[k], m) - within(self.last[k], l);
            let q = m * l / (m + l) * apart;
            if q > best.1 {
                best = (k, q);
            }
        }
        best
    }
}

/// Counts and sums of values by rank.
struct Tree {
    nodes: Vec<(f64, f64)>,
    all: (f64, f64),
}

impl Tree {
    fn new(ranks: usize) -> Self {
        Tree { nodes: vec![(0.0, 0.0); ranks + 1], all: (0.0, 0.0) }
    }

    fn clear(&mut self) {
        self.nodes.fill((0.0, 0.0));
        self.all = (0.0, 0.0);
    }

    /// Adds a value; gives the sum of its distances to those that were there.
    fn add(&mut self, rank: usize, value: f64) -> f64 {
        let (mut count, mut sum) = (0.0, 0.0);
        let mut i = rank + 1;
        while i > 0 {
            count += self.nodes[i].0;
            sum += self.nodes[i].1;
            i &= i - 1;
        }
        let distance = value * count - sum + (self.all.1 - sum) - value * (self.all.0 - count);
        let mut i = rank + 1;
        while i < self.nodes.len() {
            self.nodes[i].0 += 1.0;
            self.nodes[i].1 += value;
            i += i & i.wrapping_neg();
        }
        self.all = (self.all.0 + 1.0, self.all.1 + value);
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statistic as the paper writes it.
    fn plainly(values: &[f64], k: usize) -> f64 {
        let (x, y) = values.split_at(k);
        let apart: f64 = x.iter().flat_map(|x| y.iter().map(move |y| (x - y).abs())).sum();
        let within = |part: &[f64]| {
            let sum: f64 = part.iter().flat_map(|a| part.iter().map(move |b| (a - b).abs())).sum();
            sum / 2.0 / (part.len() * (part.len() - 1)) as f64 * 2.0
        };
        let (m, l) = (x.len() as f64, y.len() as f64);
        m * l / (m + l) * (2.0 / (m * l) * apart - within(x) - within(y))
    }

    #[test]
    fn the_statistic_is_the_papers() {
        let values: Vec<f64> =
            (0..23).map(|i| f64::from(i * 7 % 10) + if i > 14 { 6.0 } else { 0.0 }).collect();
        let known = (SHORTEST..=values.len() - SHORTEST).map(|k| (k, plainly(&values, k)));
        let known = known.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let (place, q) = Search::new(&values).best();
        assert_eq!(place, known.0);
        assert!((q - known.1).abs() < 1e-9, "{q} against {}", known.1);
    }

    #[test]
    fn two_changes_are_found_where_they_are_and_none_where_there_is_none() {
        let noise = |i: usize| ((i * 7919 + 13) % 101) as f64 / 101.0;
        let two: Vec<f64> =
            (0..90).map(|i| noise(i) + if (30..60).contains(&i) { 2.0 } else { 0.0 }).collect();
        assert_eq!(changes(&two, 1), (vec![30, 60], 1));
        assert_eq!(changes(&(0..90).map(noise).collect::<Vec<_>>(), 1).0, [] as [usize; 0]);
        assert_eq!(changes(&[1.0; 50], 1).0, [] as [usize; 0]);
        assert_eq!(changes(&[], 1).0, [] as [usize; 0]);
    }

    #[test]
    fn a_long_series_is_taken_by_blocks() {
        let noise = |i: usize| ((i * 7919 + 13) % 101) as f64 / 101.0;
        let long: Vec<f64> = (0..4000).map(|i| noise(i) + if i >= 2600 { 1.0 } else { 0.0 }).collect();
        let (found, block) = changes(&long, 1);
        assert_eq!(block, 4);
        assert!(found.len() == 1 && found[0].abs_diff(2600) <= block, "{found:?}");
    }
}
