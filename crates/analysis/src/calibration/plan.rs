//! The checks, their reference workloads and the order of instances. Pure.

use bootrace_agent::{
    protocol::AGENT_PATH,
    reference::{READY, ReferenceWorkload},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::scenario::{self, Scenario};

/// Memory of every instance: the largest known amount, and the needs of a VM's own kernel.
const MEMORY: &str = "768MiB";

/// A check compares one kind of figure with a known amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Ready a known time after its start; its work uses a known CPU time.
    Delay,
    /// Touches a known amount of anonymous memory.
    Memory,
    /// Reads a known amount of file data.
    File,
    /// Burns a known amount of CPU time before it is ready.
    Cpu,
    /// Does nothing.
    Idle,
    /// Answers over the control channel.
    Channel,
    /// Is removed completely, in the reported time.
    Teardown,
}

impl Check {
    /// Every check, in the order of the rows.
    pub const ALL: [Check; 7] =
        [Check::Delay, Check::Memory, Check::File, Check::Cpu, Check::Idle, Check::Channel, Check::Teardown];

    /// As on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Check::Delay => "delay",
            Check::Memory => "memory",
            Check::File => "file",
            Check::Cpu => "cpu",
            Check::Idle => "idle",
            Check::Channel => "channel",
            Check::Teardown => "teardown",
        }
    }

    /// The known amounts, in ns or bytes.
    pub fn amounts(self) -> &'static [u64] {
        const MS: u64 = 1_000_000;
        const MIB: u64 = 1 << 20;
        match self {
            Check::Delay => &[0, 500 * MS, 1000 * MS, 1500 * MS, 2000 * MS],
            // Not from 0: a guest first reuses memory that its kernel freed and the host still holds, about 20 MiB
            // with Ubuntu.
            Check::Memory => &[80 * MIB, 160 * MIB, 240 * MIB, 320 * MIB, 400 * MIB],
            Check::File => &[64 * MIB, 96 * MIB, 128 * MIB, 160 * MIB, 192 * MIB],
            Check::Cpu => &[0, 500 * MS, 1000 * MS, 1500 * MS, 2000 * MS],
            Check::Idle | Check::Channel | Check::Teardown => &[0],
        }
    }

    /// Number of instances with an amount on a target, for a given `--samples`.
    fn repeats(self, amount: u64, vm: bool, samples: u32) -> u32 {
        let some = samples.div_ceil(2).max(2);
        match self {
            // Its bound is close to the noise of a start-up, and an emulated boot has much noise.
            Check::Delay if vm && self.is_end(amount) => 2 * samples,
            Check::Delay => samples,
            Check::Channel => 1,
            // A median needs three.
            Check::Idle => some.max(3),
            // The host backs a VM's memory with huge pages, and the guest kernel's place in it varies between boots:
            // the guest reuses about 10 MiB of free, backed memory or not. The extreme amounts determine a slope.
            Check::Memory | Check::File if vm && self.is_end(amount) => 4 * some.max(3),
            Check::Memory | Check::File if vm => some.max(3),
            _ => some,
        }
    }

    fn is_end(self, amount: u64) -> bool {
        matches!(self.amounts(), [first, .., last] if amount == *first || amount == *last)
    }

    fn workload(self, amount: u64) -> ReferenceWorkload {
        match self {
            Check::Memory => ReferenceWorkload::Anonymous { bytes: amount },
            Check::File => ReferenceWorkload::File { bytes: amount },
            Check::Cpu => ReferenceWorkload::Burn { ns: amount },
            _ => ReferenceWorkload::Delay { ns: amount },
        }
    }

    /// CPU time that its work uses once it is ready, in ns; `None` for a check without work.
    pub fn work_ns(self) -> Option<u64> {
        (self == Check::Delay).then_some(500_000_000)
    }

    /// The scenario of an instance with this amount.
    ///
    /// # Errors
    /// When the generated scenario is invalid, which a test rules out.
    pub fn scenario(self, amount: u64) -> Result<Scenario, scenario::Error> {
        let command = |known: ReferenceWorkload| {
            let words = std::iter::once(AGENT_PATH.to_owned()).chain(known.arguments());
            words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
        };
        let known = self.workload(amount);
        let ready = match known {
            ReferenceWorkload::Burn { .. } => "{ exit = 0 }".to_owned(),
            _ => format!("{{ line = \"^{READY}$\" }}"),
        };
        let work = self
            .work_ns()
            .map(|ns| format!("work = {{ command = [{}] }}", command(ReferenceWorkload::Burn { ns })));
        let work = work.unwrap_or_default();
        let (settle, idle) = match self {
            Check::Delay | Check::Cpu | Check::Teardown => ("0s", "0s"),
            Check::Idle => ("500ms", "4s"),
            _ => ("500ms", "0s"),
        };
        let text = format!(
            "name = \"calibrate-{}\"\n[workload]\ncommand = [{}]\nready = {ready}\n{work}\n[resources]\ncpus = 1\n\
             memory = \"{MEMORY}\"\n[sampling]\nsamples = 1\nwarmup = 0\nsettle = \"{settle}\"\nidle = \"{idle}\"\n",
            self.name(),
            command(known),
        );
        Scenario::parse(&text, "calibration")
    }
}

/// One instance of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Check that the instance belongs to.
    pub check: Check,
    /// Known amount, in ns or bytes by the check.
    pub amount: u64,
    /// Index into the targets.
    pub target: usize,
    /// Repetition, from 0.
    pub round: u32,
}

/// Every instance in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(pub Vec<Step>);

impl Plan {
    /// Orders instances by check and repetition. Each repetition has every remaining amount on every target, in a
    /// random order from the seed, so that disturbances by the host affect all amounts alike and don't bias a slope.
    /// `vms` has an entry for each target: whether it is a VM.
    pub fn new(checks: &[Check], vms: &[bool], samples: u32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut steps = Vec::new();
        for &check in checks {
            for round in 0.. {
                let all = vms.iter().enumerate().flat_map(|(target, vm)| {
                    check.amounts().iter().map(move |&amount| (Step { check, amount, target, round }, *vm))
                });
                let due = all.filter(|(step, vm)| round < check.repeats(step.amount, *vm, samples));
                let mut of_round: Vec<Step> = due.map(|(step, _)| step).collect();
                if of_round.is_empty() {
                    break;
                }
                of_round.shuffle(&mut rng);
                steps.extend(of_round);
            }
        }
        Plan(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_amount_of_every_check_makes_a_scenario_that_is_right() {
        for check in Check::ALL {
            for &amount in check.amounts() {
                let scenario = check.scenario(amount).unwrap();
                assert_eq!(scenario.workload.command[0], AGENT_PATH);
                assert_eq!(scenario.workload.work.is_some(), check == Check::Delay);
            }
        }
    }

    #[test]
    fn every_repetition_has_every_amount_on_every_target_and_the_seed_decides_the_order() {
        let vms = [false, false, true];
        let plan = Plan::new(&[Check::Cpu], &vms, 8, 7);
        assert_eq!(plan.0.len(), 4 * 5 * 3);
        for round in plan.0.chunks(15) {
            let mut all: Vec<_> = round.iter().map(|step| (step.target, step.amount)).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 15);
        }
        assert_eq!(plan, Plan::new(&[Check::Cpu], &vms, 8, 7));
        assert_ne!(plan, Plan::new(&[Check::Cpu], &vms, 8, 8));
    }

    #[test]
    fn the_ends_of_a_vms_memory_are_run_more_often() {
        for (check, amounts) in
            [(Check::Memory, [80, 160, 240, 320, 400]), (Check::File, [64, 96, 128, 160, 192])]
        {
            let plan = Plan::new(&[check], &[false, true], 2, 7);
            let count = |target, amount: u64| {
                plan.0.iter().filter(|step| (step.target, step.amount >> 20) == (target, amount)).count()
            };
            assert_eq!(amounts.map(|amount| count(0, amount)), [2; 5]);
            assert_eq!(amounts.map(|amount| count(1, amount)), [12, 3, 3, 3, 12]);
        }
    }
}
