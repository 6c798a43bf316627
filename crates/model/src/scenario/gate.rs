//! `[gate]`: the metrics that decide a comparison of two runs.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Scenario, Share, needs,
    path::at,
    rules::Wrong,
    text::{ensure, fail},
};
use crate::foreign::quoted;

/// The metrics that decide, and the change that each may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Ids of the metrics: at least one, none twice.
    pub metrics: Vec<String>,
    /// Changes within this margin count as no change: a share, above 0 and below 1, in TOML and results as `"5%"`.
    /// None given: the host's noise decides.
    #[cfg_attr(test, schemars(with = "Option<super::Share>"))]
    #[serde(skip_serializing_if = "Option::is_none", with = "as_share")]
    pub margin: Option<f64>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { metrics: vec!["startup".into()], margin: None }
    }
}

mod as_share {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Share>::deserialize(deserializer)?.map(|share| share.0))
    }

    pub fn serialize<S: Serializer>(margin: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        margin.map(Share).serialize(serializer)
    }
}

pub(super) fn check(scenario: &Scenario, wrong: &mut Wrong<'_>) {
    let gate = &scenario.gate;
    if gate.metrics.is_empty() {
        let text = "a gate needs at least one metric: write one, as in [\"startup\"], or leave this out";
        wrong(at!["gate", "metrics"], fail(text));
    }
    for (index, metric) in gate.metrics.iter().enumerate() {
        let path = at!["gate", "metrics", index];
        wrong(path, needs::gated(scenario, metric));
        if gate.metrics[..index].contains(metric) {
            wrong(path, Err(format!("{} is in the list already: leave it out here", quoted(metric))));
        }
    }
    if let Some(margin) = gate.margin {
        let result = ensure(margin > 0.0 && margin < 1.0, || {
            format!("{} is out of range: write more than \"0%\" and less than \"100%\"", Share(margin))
        });
        wrong(at!["gate", "margin"], result);
    }
}
