//! Formats numbers: three digits and a unit.

pub use bootrace_model::foreign::{clean, clean_lines};

use crate::{
    analysis::{self, Interval, Metric, Unit},
    sample::{Accelerator, Host, Image, KvmDegree, Results},
};

/// Label of every figure of an emulated VM.
pub const EMULATED: &str = "TCG (emulated)";
/// Stands where there is no value.
pub const NOTHING: &str = "–";
/// Stands where there are too few samples for an interval.
pub const TOO_FEW: &str = "need >= 6";

/// Shortens a name for charts and tables to `longest` characters, the last one an ellipsis.
pub fn clip(text: &str, longest: usize) -> String {
    let text = clean(text, 4 * longest);
    if text.chars().count() <= longest {
        return text;
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

/// A name of a scenario or target. Those that a scenario allows stay whole, so that two of them stay apart.
pub fn name(name: &str) -> String {
    clip(name, 64)
}

/// Three significant digits or all digits before the point, with thousands separators and without an exponent.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    // A value that rounds up to the next power of ten has one more digit before the point.
    let places = match size {
        s if s < 0.9995 => 2,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.places$}");
    let text = if text.trim_start_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { text };
    if size < 999.5 { text.replace('-', "−") } else { thousands(&text).replace('-', "−") }
}

fn thousands(text: &str) -> String {
    let (sign, number) = text.strip_prefix('-').map_or(("", text), |n| ("-", n));
    let mut out = String::from(sign);
    for (i, c) in number.chars().enumerate() {
        if i > 0 && (number.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The best unit to show `value` (ns, bytes or a share), and its size in the metric's unit.
pub fn scale(unit: Unit, value: f64) -> (&'static str, f64) {
    let size = value.abs();
    match unit {
        Unit::Time if size == 0.0 => ("ms", 1e6),
        Unit::Time if size < 9_995.0 => ("µs", 1e3),
        Unit::Time if size < 999.5e6 => ("ms", 1e6),
        Unit::Time => ("s", 1e9),
        Unit::Size if size > 0.0 && size < 104_857.6 => ("KiB", 1024.0),
        Unit::Size if size < 1023.5 * 1_048_576.0 => ("MiB", 1_048_576.0),
        Unit::Size => ("GiB", 1_073_741_824.0),
        Unit::Share => ("%", 0.01),
    }
}

/// "0.71 ms", "312 ms", "4.28 s", "14.8 MiB", "0.19 %".
pub fn value(unit: Unit, value: f64) -> String {
    let (name, one) = scale(unit, value);
    format!("{} {name}", digits(value / one))
}

/// "+12.9 MiB": for differences.
pub fn signed(unit: Unit, v: f64) -> String {
    if v > 0.0 { format!("+{}", value(unit, v)) } else { value(unit, v) }
}

/// "[280, 312]", in the unit of `beside`.
pub fn interval(unit: Unit, beside: f64, interval: Option<&Interval>) -> String {
    let (_, one) = scale(unit, beside);
    match interval {
        Some(i) => format!("[{}, {}]", digits(i.low / one), digits(i.high / one)),
        None => format!("[{TOO_FEW}]"),
    }
}

/// "204×".
pub fn times(ratio: f64) -> String {
    format!("{}×", digits(ratio))
}

/// "[190, 231]": the interval of a ratio.
pub fn times_interval(interval: Option<&Interval>) -> String {
    match interval {
        Some(i) => format!("[{}, {}]", digits(i.low), digits(i.high)),
        None => format!("[{TOO_FEW}]"),
    }
}

/// "99.8 %".
pub fn coverage(coverage: f64) -> String {
    // Never rounded up: 99.95 % is not 100 %.
    format!("{:.1} %", (coverage * 1000.0).floor() / 10.0)
}

/// Label of every figure from an emulated processor; `None` for a real one.
pub fn emulated_processor(host: &Host) -> Option<String> {
    host.emulated_processor().map(|words| clip(&words, 60))
}

/// Label of a target's accelerator; `None` unless it is a VM.
pub fn accelerator_of(target: &analysis::TargetAnalysis) -> Option<&'static str> {
    on(target.accelerator, target.kvm)
}

/// Label of an accelerator with the degree of KVM.
pub fn on(accelerator: Accelerator, kvm: Option<KvmDegree>) -> Option<&'static str> {
    match (accelerator, kvm) {
        (Accelerator::Kvm, Some(KvmDegree::Nested)) => Some("KVM (nested)"),
        (Accelerator::Kvm, Some(KvmDegree::Paravirtual)) => Some("KVM (pvm)"),
        (Accelerator::Kvm, Some(KvmDegree::Emulated)) => Some("KVM (emulated)"),
        (Accelerator::Kvm, Some(KvmDegree::Broken)) => Some("KVM (broken)"),
        _ => self::accelerator(accelerator),
    }
}

/// Label of an accelerator without KVM's degree.
pub fn accelerator(accelerator: Accelerator) -> Option<&'static str> {
    match accelerator {
        Accelerator::None => None,
        Accelerator::Kvm => Some("KVM"),
        Accelerator::Tcg => Some(EMULATED),
    }
}

/// State of the host's page cache for the image before each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCache {
    Cold,
    Warm,
    /// Neither dropped nor warmed.
    AsFound,
}

impl PageCache {
    /// From the scenario, else from its warm-up rounds.
    pub fn of(results: &Results) -> Self {
        let said =
            results.run.scenario.get("sampling").and_then(|s| s.get("page_cache")).and_then(|c| c.as_str());
        match said {
            Some("cold") => PageCache::Cold,
            Some("warm") => PageCache::Warm,
            _ if results.samples.iter().any(|s| s.warmup) => PageCache::Warm,
            _ => PageCache::AsFound,
        }
    }

    /// For a list of facts.
    pub fn words(self) -> &'static str {
        match self {
            PageCache::Cold => "page cache cold",
            PageCache::Warm => "page cache warm",
            PageCache::AsFound => "page cache as found",
        }
    }

    /// A sentence, for every chart.
    pub fn sentence(self) -> &'static str {
        match self {
            PageCache::Cold => "Page cache: cold, dropped before each sample.",
            PageCache::Warm => "Page cache: warm, by the warm-up rounds.",
            PageCache::AsFound => "Page cache: as found, neither warmed nor dropped.",
        }
    }
}

/// A metric's value, with a sign where it is a difference.
pub fn of(metric: Metric, value: f64) -> String {
    let row = metric.row();
    if row.signed { signed(row.unit, value) } else { self::value(row.unit, value) }
}

/// Capitalises the first letter.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Whether a run measured density alone, so that no single samples exist.
pub fn is_density_alone(results: &Results) -> bool {
    !results.density.is_empty() && results.samples.iter().all(|s| s.warmup)
}

/// "debian bookworm", with "(fallback)" for a fallback.
pub fn image(image: &Image) -> String {
    let fallback = if image.fallback { " (fallback)" } else { "" };
    format!("{} {}{fallback}", clip(&image.distribution, 40), clip(&image.suite, 40))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_the_unit_that_fits() {
        let shown = |ns| value(Unit::Time, ns);
        let known = [
            (0.0, "0 ms"),
            (830.0, "0.83 µs"),
            (9_400.0, "9.40 µs"),
            (710_000.0, "0.71 ms"),
            (1_416_000.0, "1.42 ms"),
            (99_960_000.0, "100 ms"),
            (312_400_000.0, "312 ms"),
            (999_700_000.0, "1.00 s"),
            (4_283_000_000.0, "4.28 s"),
            (68_000_000_000.0, "68.0 s"),
            (1_234_000_000_000.0, "1,234 s"),
        ];
        for (ns, text) in known {
            assert_eq!(shown(ns), text);
        }
    }

    #[test]
    fn sizes_and_shares_have_theirs_and_a_minus_is_a_minus() {
        assert_eq!(value(Unit::Size, 15_518_924.0), "14.8 MiB");
        assert_eq!(value(Unit::Size, 4096.0), "4.00 KiB");
        assert_eq!(value(Unit::Size, 1.5 * 1_073_741_824.0), "1.50 GiB");
        assert_eq!(value(Unit::Size, -314_572.8), "−0.30 MiB");
        assert_eq!(value(Unit::Share, 0.0019), "0.19 %");
        assert_eq!(value(Unit::Share, 0.0), "0 %");
        assert_eq!(signed(Unit::Size, 13_526_630.0), "+12.9 MiB");
    }

    #[test]
    fn an_interval_is_in_the_unit_of_its_value() {
        let i = Interval { low: 0.9e9, high: 1.2e9, coverage: 0.99 };
        assert_eq!(interval(Unit::Time, 1e9, Some(&i)), "[0.90, 1.20]");
        assert_eq!(interval(Unit::Time, 0.95e9, Some(&i)), "[900, 1,200]");
        assert_eq!(interval(Unit::Time, 1e9, None), "[need >= 6]");
        assert_eq!(times(3010.4), "3,010×");
    }

    #[test]
    fn coverage_is_never_rounded_up() {
        assert_eq!(coverage(0.99999), "99.9 %");
        assert_eq!(coverage(0.998046875), "99.8 %");
        assert_eq!(coverage(0.96875), "96.8 %");
    }

    #[test]
    fn a_long_name_is_clipped() {
        assert_eq!(clip("a-very-long-name", 8), "a-very-…");
    }
}
