//! The rules of `[gate]`.

use super::{bounds::Wrong, needs};
use crate::{
    foreign::quoted,
    scenario::{
        Scenario, Share,
        path::at,
        text::{ensure, fail},
    },
};

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
