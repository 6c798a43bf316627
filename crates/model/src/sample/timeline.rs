//! The times of one instance's events.

use serde::{Deserialize, Serialize};

/// The moments of one instance in ns since `requested`, all by the host's CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeline {
    /// Always 0.
    pub requested: u64,
    /// The engine's start call returned; null where it failed.
    pub started: Option<u64>,
    /// The agent's hello arrived.
    pub agent: Option<u64>,
    /// The workload was ready.
    pub ready: Option<u64>,
    /// The request to stop.
    pub stopping: Option<u64>,
    /// Nothing of the instance is left.
    pub gone: Option<u64>,
}

/// The phases of start-up, in ns; they add up to start-up exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// requested -> the earlier of started and agent.
    pub engine: u64,
    /// -> agent.
    pub boot: u64,
    /// agent -> ready.
    pub app: u64,
}

impl Timeline {
    /// requested -> ready, in ns; `None` where the instance never was ready.
    pub fn startup(&self) -> Option<u64> {
        self.ready
    }

    /// stopping -> gone, in ns; `None` where either is missing.
    pub fn teardown(&self) -> Option<u64> {
        self.gone?.checked_sub(self.stopping?)
    }

    /// The phases; `None` where the instance never was ready. An engine's start call may return after the agent's
    /// hello; the hello then ends the engine phase, and the boot phase is 0.
    pub fn phases(&self) -> Option<Phases> {
        let (agent, ready) = (self.agent?, self.ready?);
        let engine = self.started.map_or(agent, |started| started.min(agent));
        Some(Phases { engine, boot: agent - engine, app: ready.checked_sub(agent)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_whichever_of_started_and_agent_comes_first() {
        for started in [None, Some(10), Some(40), Some(90)] {
            let t = Timeline { started, agent: Some(40), ready: Some(100), ..Timeline::default() };
            let p = t.phases().unwrap();
            assert_eq!(p.engine + p.boot + p.app, t.startup().unwrap());
            assert_eq!(p.engine, started.unwrap_or(40).min(40));
        }
    }

    #[test]
    fn an_instance_that_never_was_ready_has_no_phases() {
        assert_eq!(Timeline { agent: Some(4), ..Timeline::default() }.phases(), None);
    }
}
