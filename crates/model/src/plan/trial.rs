//! One trial of a plan.

/// One instance to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Index into the scenario's targets.
    pub target: usize,
    /// From 0, warm-up rounds included.
    pub round: u32,
    /// Place within the round, from 0.
    pub position: u32,
    /// Whether its round is a warm-up round.
    pub warmup: bool,
}
