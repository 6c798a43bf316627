//! What harness and agent share: the [`protocol`] with what an instance says of its [`isolation`], the [`known`]
//! workloads, and the build that both must be of.

pub mod isolation;
pub mod protocol;
pub mod reference;

/// sha256 of the agent's sources, lower-case hex; what `Hello.build` of an agent of this very build says.
pub const BUILD: &str = env!("BOOTRACE_AGENT_BUILD");
