//! Bencher Metric Format (<https://bencher.dev/docs/reference/bencher-metric-format>): benchmarks with measures,
//! times in ns and sizes in bytes. The names carry remarks such as emulation, for which the format has no other
//! place.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Run;

#[derive(Serialize)]
struct Value {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

/// Medians with their intervals, by label and metric.
pub fn file(run: &Run<'_>) -> Vec<u8> {
    let mut benchmarks: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for target in run.targets.iter().filter(|t| !t.analysed.figures.is_empty()) {
        let measures = target.analysed.figures.iter().map(|figure| {
            let value = Value {
                value: figure.median,
                lower_value: figure.interval.map(|i| i.low),
                upper_value: figure.interval.map(|i| i.high),
            };
            (figure.metric.name(), value)
        });
        benchmarks.insert(&target.label, measures.collect());
    }
    super::json(&benchmarks)
}
