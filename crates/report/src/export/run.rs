//! The run that every format exports, under harmless names.

use std::collections::BTreeSet;

use crate::{
    analysis::{self, Analysis, Metric, is_measured},
    sample::{self, Results, Sample},
    text,
};

/// Longest name of a scenario or target, as in scenarios.
pub const LONGEST_NAME: usize = 64;

/// A run under names that are harmless in every format.
pub struct Run<'a> {
    pub results: &'a Results,
    pub analysis: &'a Analysis,
    pub scenario: String,
    pub targets: Vec<Target<'a>>,
}

pub struct Target<'a> {
    /// Unique within the run.
    pub name: String,
    /// `<scenario>/<target>`, then emulation of the VM or of the host's processor, and a fallback image.
    pub label: String,
    /// "TCG (emulated)" or "KVM", with its degree where that is not hardware; `None` unless it is a VM.
    pub accelerator: Option<&'static str>,
    pub record: &'a sample::TargetRecord,
    pub analysed: &'a analysis::TargetAnalysis,
    /// Measured samples, in the order taken.
    pub good: Vec<&'a Sample>,
}

impl<'a> Run<'a> {
    pub fn new(results: &'a Results, analysis: &'a Analysis) -> Self {
        let scenario = results.run.scenario.get("name").and_then(|n| n.as_str()).unwrap_or("run");
        let scenario = plain_name(scenario, LONGEST_NAME);
        let names = unique_names(results.targets.iter().map(|t| t.name.as_str()));
        let parts = names.into_iter().zip(&results.targets).zip(&analysis.targets);
        let targets = parts.map(|((name, record), analysed)| {
            let mut label = format!("{scenario}/{name}");
            if record.accelerator == sample::Accelerator::Tcg {
                label = format!("{label}, {}", text::EMULATED);
            }
            if let Some(words) = text::emulated_processor(&results.host) {
                label = format!("{label}, {words}");
            }
            if results.image.fallback {
                label.push_str(", fallback image");
            }
            Target {
                name,
                label,
                accelerator: text::accelerator_of(analysed),
                record,
                analysed,
                good: results.samples.iter().filter(|s| s.target == record.name && is_measured(s)).collect(),
            }
        });
        Run { results, analysis, targets: targets.collect(), scenario }
    }
}

impl Target<'_> {
    /// Values of the good samples, in the order taken and in the metric's unit.
    pub fn values(&self, metric: Metric) -> Vec<f64> {
        self.good.iter().filter_map(|s| metric.of(s)).collect()
    }
}

/// A valid name of a scenario or target is unchanged. In other names, from files edited by hand, '_' replaces all
/// characters but letters, digits, '.', '_' and '-', and a first character other than a letter or digit. The result
/// can't act as a path, option, formula, markup or quote.
pub fn plain_name(name: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let mut out: String = name.chars().take(longest).map(plain).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        out.replace_range(..out.len().min(1), "_");
    }
    out
}

/// Plain names, made unique by a number.
fn unique_names<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let unique = |name: &str| {
        let plain = plain_name(name, LONGEST_NAME);
        let numbered = (2..).map(|n| {
            let number = format!("_{n}");
            format!("{}{number}", &plain[..plain.len().min(LONGEST_NAME - number.len())])
        });
        let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name));
        let free = free.expect("numbers don't end");
        taken.insert(free.clone());
        free
    };
    names.map(unique).collect()
}

/// Indented JSON with a line break at its end.
pub fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("names and numbers are always JSON");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_scenarios_allow_stay_as_they_are() {
        let longest = "x".repeat(LONGEST_NAME);
        for name in ["docker", "vm-2.direct_boot", "0", longest.as_str()] {
            assert_eq!(plain_name(name, LONGEST_NAME), name);
        }
    }

    #[test]
    fn names_that_could_do_something_cannot_any_more() {
        let known = [
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("..", "_."),
            ("", "_"),
            ("=1+1", "_1_1"),
            ("-rf", "_rf"),
            (".hidden", "_hidden"),
            ("a`b|c\n\"d\\{\u{1b}[31m", "a_b_c__d____31m"),
            ("\u{fc}ber", "_ber"),
        ];
        for (name, plain) in known {
            assert_eq!(plain_name(name, LONGEST_NAME), plain, "{name:?}");
        }
        assert_eq!(plain_name(&"a".repeat(99), LONGEST_NAME).len(), LONGEST_NAME);
    }

    #[test]
    fn no_two_targets_get_the_same_name() {
        let long = "x".repeat(80);
        let names = unique_names(["a/b", "a_b", "a b", "c", &long, &long].into_iter());
        assert_eq!(names[..4], ["a_b", "a_b_2", "a_b_3", "c"]);
        assert_eq!(names[5], "x".repeat(LONGEST_NAME - 2) + "_2");
    }
}
