//! The one clock of all timestamps.

/// A timestamp of the host's CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Timestamp(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// Nanoseconds from `earlier` to this timestamp; 0 if it is not earlier.
    pub fn since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
