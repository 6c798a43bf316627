//! The code that bootrace (the harness) and the agent share: the [`protocol`], an instance's report of its
//! [`isolation`], the [`reference`] workloads, and the [`BUILD`] that both must have.

pub mod isolation;
pub mod protocol;
pub mod reference;
pub mod surroundings;

/// sha256 of the agent's sources, lower-case hex: the value of `Hello.build` of an agent of this build.
pub const BUILD: &str = env!("BOOTRACE_AGENT_BUILD");
