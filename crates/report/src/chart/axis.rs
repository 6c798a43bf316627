//! Converts values to pixels, and places the labelled lines.

use crate::{analysis::Unit, text};

/// A horizontal axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    log: bool,
    low: f64,
    high: f64,
    pixels: (f64, f64),
}

impl Axis {
    /// From zero to a little beyond `high`.
    pub fn linear(high: f64, pixels: (f64, f64)) -> Self {
        let high = if high > 0.0 { high * 1.04 } else { 1.0 };
        Axis { log: false, low: 0.0, high, pixels }
    }

    /// From a little below `low` to a little above `high`, for values close together.
    pub fn within(low: f64, high: f64, pixels: (f64, f64)) -> Self {
        let beyond = if high > low { (high - low) * 0.06 } else { (high.abs() * 0.05).max(1e-3) };
        Axis { log: false, low: low - beyond, high: high + beyond, pixels }
    }

    /// Logarithmic where the values (all above zero) span more than a factor of 8, else from zero.
    pub fn spanning(low: f64, high: f64, pixels: (f64, f64)) -> Self {
        if low <= 0.0 || high / low < 8.0 {
            return Axis::linear(high, pixels);
        }
        Axis { log: true, low: low / 1.4, high: high * 1.4, pixels }
    }

    /// Like [`Axis::spanning`] where that is logarithmic; otherwise from a little below `low`, to show changes rather
    /// than sizes.
    pub fn between(low: f64, high: f64, pixels: (f64, f64)) -> Self {
        if low > 0.0 && high / low >= 8.0 {
            return Axis::spanning(low, high, pixels);
        }
        let size = low.abs().max(high.abs());
        let span = if high - low > size * 1e-3 { high - low } else { size * 0.02 };
        let span = if span > 0.0 { span } else { 1.0 };
        Axis { log: false, low: low - span * 0.08, high: high + span * 0.08, pixels }
    }

    pub fn is_log(&self) -> bool {
        self.log
    }

    pub fn x(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.pixels.0 + share.clamp(0.0, 1.0) * (self.pixels.1 - self.pixels.0)
    }

    /// Values with their labels; on a logarithmic axis also lines without one.
    pub fn ticks(&self, unit: Unit, about: usize) -> Vec<(f64, Option<String>)> {
        if self.log { self.log_ticks(unit) } else { self.linear_ticks(unit, about) }
    }

    fn log_ticks(&self, unit: Unit) -> Vec<(f64, Option<String>)> {
        let decades = (self.high / self.low).log10();
        // A label needs about 70 pixels.
        let room = ((self.pixels.1 - self.pixels.0) / 70.0).max(1.0);
        let every = (decades / room).ceil().max(1.0) as i32;
        let labelled = |step: i32, power: i32| match step {
            1 => power % every == 0,
            2 | 5 => decades * 3.0 < room.min(7.5),
            _ => false,
        };
        let mut ticks = Vec::new();
        for power in self.low.log10().floor() as i32..=self.high.log10().ceil() as i32 {
            for step in 1..10 {
                let value = f64::from(step) * 10_f64.powi(power);
                if value >= self.low && value <= self.high {
                    ticks.push((value, labelled(step, power).then(|| plain(unit, value, value))));
                }
            }
        }
        ticks
    }

    fn linear_ticks(&self, unit: Unit, about: usize) -> Vec<(f64, Option<String>)> {
        // Round numbers of the shown unit, not of bytes.
        let (end, span) = (self.high.abs().max(self.low.abs()), self.high - self.low);
        let one = if unit == Unit::Size { text::scale(unit, end).1 } else { 1.0 };
        let rough = span / one / about.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let wide = |step: &f64| step * power >= rough;
        let mut step = [1.0, 2.0, 5.0, 10.0].into_iter().find(wide).unwrap_or(10.0) * power * one;
        // A single line besides zero would not show the scale.
        if span / step < 2.0 {
            step /= 2.0;
        }
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).map(|i| step * i as f64).map(|v| (v, Some(plain(unit, v, end)))).collect()
    }
}

/// "500 ms", "0.5 s": without needless zeros, in the unit of the axis's end.
fn plain(unit: Unit, value: f64, end: f64) -> String {
    let (name, one) = text::scale(unit, end);
    let number = format!("{:.6}", value / one);
    let number = number.trim_end_matches('0').trim_end_matches('.');
    if value == 0.0 { "0".into() } else { format!("{number} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_span_is_logarithmic_and_labels_decades() {
        let axis = Axis::spanning(1.3e6, 4.6e9, (0.0, 400.0));
        assert!(axis.is_log());
        let labels: Vec<String> = axis.ticks(Unit::Time, 5).into_iter().filter_map(|(_, l)| l).collect();
        assert_eq!(labels, ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert!(axis.x(1.3e6) > 0.0 && axis.x(4.6e9) < 400.0);
    }

    #[test]
    fn labels_are_as_many_as_there_is_room_for() {
        let labels = |low, high, width| {
            let ticks = Axis::spanning(low, high, (0.0, width)).ticks(Unit::Time, 5);
            ticks.into_iter().filter_map(|(_, l)| l).collect::<Vec<_>>()
        };
        assert_eq!(labels(1.3e6, 4.6e9, 140.0), ["1 ms", "100 ms"]);
        assert_eq!(labels(100e6, 1e9, 600.0), ["100 ms", "200 ms", "500 ms", "1 s"]);
    }

    #[test]
    fn a_narrow_span_starts_at_zero_with_round_labels() {
        let axis = Axis::spanning(230e6, 310e6, (0.0, 100.0));
        assert!(!axis.is_log());
        assert_eq!(axis.x(0.0), 0.0);
        let labels: Vec<String> = axis.ticks(Unit::Time, 4).into_iter().filter_map(|(_, l)| l).collect();
        assert_eq!(labels, ["0", "100 ms", "200 ms", "300 ms"]);
        let size = Axis::linear(230.0 * 1_048_576.0, (0.0, 1.0));
        let labels: Vec<String> = size.ticks(Unit::Size, 3).into_iter().filter_map(|(_, l)| l).collect();
        assert_eq!(labels, ["0", "100 MiB", "200 MiB"]);
        let labels = |unit, high| {
            let ticks = Axis::linear(high, (0.0, 1.0)).ticks(unit, 3);
            ticks.into_iter().filter_map(|(_, l)| l).collect::<Vec<_>>()
        };
        assert_eq!(labels(Unit::Size, 28_672.0), ["0", "10 KiB", "20 KiB"]);
        assert_eq!(labels(Unit::Size, 3.1 * 1_073_741_824.0), ["0", "1 GiB", "2 GiB", "3 GiB"]);
        assert_eq!(labels(Unit::Time, 2.9e9), ["0", "1 s", "2 s", "3 s"]);
        assert_eq!(labels(Unit::Share, 0.016), ["0", "0.5 %", "1 %", "1.5 %"]);
    }

    #[test]
    fn values_that_lie_close_together_have_an_axis_of_their_own() {
        let axis = Axis::within(150e6, 190e6, (0.0, 100.0));
        let labels: Vec<String> = axis.ticks(Unit::Time, 4).into_iter().filter_map(|(_, l)| l).collect();
        assert_eq!(labels, ["160 ms", "180 ms"]);
        assert!(axis.x(150e6) > 0.0 && axis.x(190e6) < 100.0);
        let negative = Axis::within(-3.0 * 1_048_576.0, 1_048_576.0, (0.0, 100.0));
        assert!(negative.ticks(Unit::Size, 4).len() >= 2);
        assert!(Axis::within(5.0, 5.0, (0.0, 100.0)).x(5.0).is_finite());
    }

    #[test]
    fn an_axis_between_two_values_needs_no_zero() {
        let labels = |low, high| {
            let ticks = Axis::between(low, high, (0.0, 1.0)).ticks(Unit::Time, 4);
            ticks.into_iter().filter_map(|(_, l)| l).collect::<Vec<_>>()
        };
        assert_eq!(labels(171e6, 214e6), ["180 ms", "200 ms"]);
        assert_eq!(labels(-10e6, 11e6), ["-10 ms", "0", "10 ms"]);
        assert!(Axis::between(1e6, 9e6, (0.0, 1.0)).is_log());
        for (low, high) in [(5e6, 5e6), (0.0, 0.0)] {
            let axis = Axis::between(low, high, (0.0, 1.0));
            assert!((0.4..0.6).contains(&axis.x(low)) && axis.ticks(Unit::Time, 4).len() < 20);
        }
    }

    #[test]
    fn nothing_at_all_still_gives_an_axis() {
        assert!(Axis::linear(0.0, (0.0, 1.0)).x(0.0).is_finite());
        assert!(Axis::spanning(0.0, 0.0, (0.0, 1.0)).ticks(Unit::Time, 4).len() < 20);
    }
}
