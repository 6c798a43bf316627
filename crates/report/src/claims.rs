//! Claims in words, the same in every output.

use super::text;
use crate::{
    analysis::{Analysis, Judged, Metric},
    sample::Accelerator,
};

/// "startup of libvirt, TCG (emulated), relative to docker, at most 100x".
pub fn about(claim: &Judged, analysis: &Analysis) -> String {
    let named = |name: &str| {
        let accelerator = analysis.target(name).and_then(text::accelerator_of);
        let accelerator = accelerator.map(|a| format!(", {a}")).unwrap_or_default();
        text::name(name) + &accelerator
    };
    let mut about = format!("{} of {}", text::clip(&claim.metric, 40), named(&claim.target));
    if let Some(other) = &claim.relative_to {
        // After an accelerator in between, a comma separates it.
        let comma = if about.contains(',') { "," } else { "" };
        about.push_str(&format!("{comma} relative to {}", named(other)));
    }
    format!("{about}, {}", text::clip(&claim.bound, 80))
}

/// "290 ms [281, 312]; the 99.6 % interval of the median lies within the bound", with a caveat for metrics that
/// emulation changes.
pub fn finding(claim: &Judged, analysis: &Analysis) -> String {
    let figure = claim.measured.map(|m| match m.unit {
        Some(unit) => {
            let interval = text::interval(unit, m.value, m.interval.as_ref());
            format!("{} {interval}; ", text::value(unit, m.value))
        }
        None => format!("{} {}; ", text::times(m.value), text::times_interval(m.interval.as_ref())),
    });
    let names = [Some(&claim.target), claim.relative_to.as_ref()].into_iter().flatten();
    let emulated = names.filter_map(|name| analysis.target(name)).any(|t| t.accelerator == Accelerator::Tcg);
    // A fact, such as which kernel a target has, does not depend on emulation.
    let changes = Metric::from_name(&claim.metric).is_some_and(|metric| metric.row().emulation_changes_it);
    let caveat = match emulated && changes {
        true => "; this is the cost of emulation: a VM with KVM may get another verdict",
        false => "",
    };
    figure.unwrap_or_default() + &text::clean(&claim.why, 300) + caveat
}
