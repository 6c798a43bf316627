//! A container's privileges: what the workload is granted, what the agent needs, and nothing else, on every engine.

use crate::scenario::{Capabilities, Capability};

/// Executing a file gives no new privileges.
pub(super) const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// The agent takes its own from the workload (SETPCAP), runs it as its user (CHOWN for its output, SETGID, SETUID) and
/// reads which executable that user runs (SYS_PTRACE).
const OF_THE_AGENT: [Capability; 5] =
    [Capability::Chown, Capability::Setgid, Capability::Setuid, Capability::Setpcap, Capability::SysPtrace];

/// The names of the capabilities that a container has.
pub(super) fn added(granted: &Capabilities) -> Vec<String> {
    let agents = OF_THE_AGENT.iter().filter(|own| !granted.0.contains(own));
    granted.0.iter().chain(agents).map(|capability| capability.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_the_granted_capabilities_and_the_agents_each_once() {
        let mut added = added(&Capabilities(vec![Capability::Setuid, Capability::NetAdmin]));
        added.sort();
        assert_eq!(added, ["CHOWN", "NET_ADMIN", "SETGID", "SETPCAP", "SETUID", "SYS_PTRACE"]);
        assert!(!super::added(&Capabilities::default()).iter().any(|name| name == "SYS_ADMIN"));
    }
}
