//! What can be measured, by its published names: the one list that claims and analysis go by.

/// What a number of a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// ns.
    Time,
    /// Bytes.
    Size,
    /// Of one core: 0.01 is 1 %.
    Share,
}

/// Every metric of an instance.
pub const METRICS: [(&str, Unit); 22] = [
    ("startup", Unit::Time),
    ("startup.engine", Unit::Time),
    ("startup.boot", Unit::Time),
    ("startup.firmware", Unit::Time),
    ("startup.kernel", Unit::Time),
    ("startup.initrd", Unit::Time),
    ("startup.userspace", Unit::Time),
    ("startup.unit", Unit::Time),
    ("startup.launch", Unit::Time),
    ("teardown", Unit::Time),
    ("memory.footprint", Unit::Size),
    ("memory.overhead", Unit::Size),
    ("memory.workload", Unit::Size),
    ("memory.engine", Unit::Size),
    ("memory.cache", Unit::Size),
    ("memory.guest_cache", Unit::Size),
    ("memory.daemons", Unit::Size),
    ("cpu.startup", Unit::Time),
    ("cpu.idle", Unit::Share),
    ("cpu.work", Unit::Time),
    ("cpu.work_host", Unit::Time),
    ("cpu.work_guest", Unit::Time),
];

/// The unit of the metric with this name.
pub fn unit_of(name: &str) -> Option<Unit> {
    METRICS.iter().find(|(metric, _)| *metric == name).map(|(_, unit)| *unit)
}
