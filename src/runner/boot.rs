//! Divides an instance's boot phase into its parts, from the host's stamps and the guest's own figures.

use bootrace_agent::protocol::BootTimes;
use bootrace_model::foreign::clean;

use crate::sample::{Boot, Timeline};

/// The longest reason that a sample keeps, in characters.
const LONGEST_ERROR: usize = 500;

/// `uptime_ns`: the uptime of the instance's own kernel at hello; `None` if it shares the host's kernel.
pub fn divided(timeline: &Timeline, uptime_ns: Option<u64>, times: BootTimes) -> Boot {
    let phase = timeline.phases().map(|phases| phases.boot);
    let error = times.error.map(|error| clean(&error, LONGEST_ERROR));
    Boot {
        // `None` for a kernel that was up before the engine's start call returned: its firmware ran before this phase.
        firmware: phase.zip(uptime_ns).and_then(|(phase, uptime)| phase.checked_sub(uptime)),
        kernel: times.kernel_ns,
        initrd: times.initrd_ns,
        userspace: times.userspace_ns,
        agent_unit: times.unit_ns,
        finished: times.finished_ns,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        Timeline { started: Some(700), agent: Some(40_700), ready: Some(41_000), ..Timeline::default() }
    }

    fn times() -> BootTimes {
        BootTimes {
            kernel_ns: Some(2_000),
            initrd_ns: Some(8_000),
            userspace_ns: Some(20_000),
            unit_ns: Some(500),
            ..BootTimes::default()
        }
    }

    #[test]
    fn firmware_is_the_boot_phase_before_the_guests_kernel_so_that_all_add_up() {
        let boot = divided(&timeline(), Some(30_500), times());
        assert_eq!(boot.firmware, Some(9_500));
        assert_eq!(boot.sum(), timeline().phases().unwrap().boot);
    }

    #[test]
    fn without_a_kernel_of_its_own_or_with_one_that_was_first_there_is_no_firmware() {
        assert_eq!(divided(&timeline(), None, times()).firmware, None);
        assert_eq!(divided(&timeline(), Some(40_001), times()).firmware, None);
        assert_eq!(divided(&Timeline::default(), Some(1), times()).firmware, None);
    }

    #[test]
    fn a_guests_reason_is_bounded_and_fit_for_a_terminal() {
        let error = Some(format!("\u{1b}[2J{}", "é".repeat(10_000)));
        let boot = divided(&timeline(), None, BootTimes { error, ..times() });
        let error = boot.error.unwrap();
        assert!(error.chars().count() < LONGEST_ERROR + 20 && error.starts_with("[2Jé"), "{error}");
    }
}
