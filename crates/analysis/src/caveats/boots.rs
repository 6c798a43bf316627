//! Caveats of targets that boot a whole system: while it starts, it is neither idle nor at its final size.

use std::time::Duration;

use super::super::{TargetAnalysis, is_measured};
use crate::{
    sample::{Boot, Results, Sample},
    scenario::Span,
};

pub(super) fn all(results: &Results, targets: &[TargetAnalysis]) -> Vec<String> {
    let settle =
        results.run.scenario["sampling"]["settle"].as_str().and_then(|text| text.parse::<Span>().ok());
    let settle = settle.map_or(Duration::ZERO, |span| span.0).as_nanos() as u64;
    targets.iter().flat_map(|target| of(results, target, settle)).collect()
}

fn of(results: &Results, target: &TargetAnalysis, settle: u64) -> Vec<String> {
    let good = || results.samples.iter().filter(|s| s.target == target.name && is_measured(s));
    let boots = || good().filter_map(|s| Some((s, s.boot_ns.as_ref()?)));
    let count = good().count();
    let mut found = Vec::new();
    let starting = boots().filter(|(sample, boot)| is_still_starting(sample, boot, settle)).count();
    if starting > 0 {
        found.push(format!(
            "{}: in {starting} of {count} samples the system had not finished its start-up when its memory was read, so \
             memory, idle CPU, work and disk figures are those of a starting system: raise sampling.settle",
            target.name
        ));
    }
    let untold: Vec<&str> = boots().filter_map(|(_, boot)| boot.error.as_deref()).collect();
    if let Some(first) = untold.first() {
        found.push(format!(
            "{}: in {} of {count} samples parts of the boot are missing: fix the agent's error and run again. \
             Error: {first}",
            target.name,
            untold.len()
        ));
    }
    found
}

/// Measures hello and the parts before it by the guest's clock, and the time after it by the host's.
fn is_still_starting(sample: &Sample, boot: &Boot, settle: u64) -> bool {
    let Some(userspace) = boot.userspace else { return false };
    let Some(finished) = boot.finished else { return boot.error.is_none() };
    // Both count from the start of the kernel, or of systemd in a container.
    let hello = [boot.kernel, boot.initrd, boot.agent_unit].into_iter().flatten().sum::<u64>() + userspace;
    let app = sample.timeline_ns.phases().map_or(0, |phases| phases.app);
    finished > hello + app + settle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse;

    /// The committed sample report, with whole systems in its VMs.
    fn caveats(boot: Boot) -> Vec<String> {
        let text = include_str!("../../../../reports/sample/results.json");
        let mut results: Results = serde_json::from_str(text).unwrap();
        for sample in results.samples.iter_mut().filter(|s| s.target == "libvirt") {
            sample.boot_ns = Some(boot.clone());
        }
        let caveats = analyse(&results).caveats;
        caveats
            .into_iter()
            .filter(|d| d.contains("start-up when") || d.contains("parts of the boot"))
            .collect()
    }

    fn boot(finished: Option<u64>) -> Boot {
        let ms = |ms: u64| Some(ms * 1_000_000);
        Boot { kernel: ms(10), userspace: ms(20), agent_unit: ms(1), finished, ..Boot::default() }
    }

    #[test]
    fn a_system_that_is_still_starting_is_a_caveat_with_a_fix() {
        for finished in [None, Some(3_600_000_000_000)] {
            let caveats = caveats(boot(finished));
            assert_eq!(caveats.len(), 1);
            assert!(
                caveats[0].starts_with("libvirt: in ") && caveats[0].ends_with("raise sampling.settle"),
                "{caveats:?}"
            );
        }
        assert_eq!(caveats(boot(Some(31_000_000))), Vec::<String>::new());
        // One that has no systemd.
        assert_eq!(caveats(Boot { userspace: None, ..boot(None) }), Vec::<String>::new());
    }

    #[test]
    fn missing_parts_are_reported_with_the_agents_reason() {
        let caveats = caveats(Boot { error: Some("run systemctl: it hangs".into()), ..boot(None) });
        assert_eq!(caveats.len(), 1);
        assert!(caveats[0].ends_with("Error: run systemctl: it hangs"), "{caveats:?}");
    }
}
