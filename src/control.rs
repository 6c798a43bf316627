//! The host's side of the control channel: one unix socket per instance, one clock for all.
//!
//! The harness listens before the instance is requested; whoever comes (the agent itself, or QEMU
//! for the virtio-serial port of a VM) is the instance. A thread of its own blocks in `read` and
//! stamps each frame the moment it is whole, so no event loop stands between an event and its time.

/// A moment on the host's CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Moment(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// Nanoseconds from `earlier` to this moment; 0 if it is not earlier.
    pub fn since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
