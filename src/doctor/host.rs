//! Checks the host itself: root, kernel, cgroups, clock.

use super::Check;
use crate::{
    probe::{cgroup, clock, host::facts, process},
    scenario::Kind,
    sys,
};

const PRIVILEGES: &str = "privileges";
const CGROUPS: &str = "cgroups";

/// Controllers of a run and their purposes.
const CONTROLLERS: [(&str, &str); 5] = [
    ("memory", "memory limits and readings"),
    ("cpuacct", "CPU time"),
    ("cpu", "shares of the CPU"),
    ("cpuset", "Docker's binding to CPUs"),
    ("pids", "Docker's limit on processes"),
];
/// Without these a run can't measure.
const ESSENTIAL: [&str; 2] = ["memory", "cpuacct"];

pub fn privileges() -> Check {
    let title = "privileges";
    if sys::is_root() {
        return Check::ok(PRIVILEGES, title, "root");
    }
    let found = "not root: a run reads other users' processes, and makes cgroups and root file systems; here, \
                 much can't be looked at";
    Check::failed(PRIVILEGES, title, found, &Kind::ALL).fix("sudo bootrace doctor, and sudo bootrace run")
}

pub fn kernel() -> Check {
    let (id, title) = ("kernel", "kernel");
    let release = facts().kernel_release;
    match process::splits_memory() {
        Ok(()) => Check::ok(id, title, format!("Linux {release}, tells anonymous from file memory")),
        Err(error) => {
            let found = format!("Linux {release} does not tell anonymous from file memory: {error}");
            Check::failed(id, title, found, &Kind::ALL)
                .fix("boot Linux 5.3 or later, with CONFIG_PROC_PAGE_MONITOR")
        }
    }
}

/// The version and controllers of cgroups; a trial checks that cgroups can be made.
pub fn cgroups() -> Check {
    let title = "control groups";
    let (hierarchy, controllers) = match (cgroup::hierarchy(), cgroup::controllers()) {
        (Ok(hierarchy), Ok(controllers)) => (hierarchy, controllers),
        (Err(error), _) | (_, Err(error)) => {
            return Check::failed(CGROUPS, title, error.to_string(), &Kind::ALL)
                .fix("mount -t cgroup2 none /sys/fs/cgroup");
        }
    };
    judge_cgroups(hierarchy.version, &controllers)
}

fn judge_cgroups(version: u8, controllers: &[String]) -> Check {
    let title = "control groups";
    let missing: Vec<(&str, &str)> =
        CONTROLLERS.into_iter().filter(|(name, _)| !controllers.iter().any(|c| c == name)).collect();
    if missing.is_empty() {
        return Check::ok(CGROUPS, title, format!("version {version}, with {}", controllers.join(", ")));
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let what: Vec<String> = missing.iter().map(|(name, use_)| format!("{name} ({use_})")).collect();
    let found = format!("version {version}, without {}", what.join(", "));
    let fix = match version {
        1 => {
            let mount = |name: &&str| {
                format!(
                    "mkdir -p /sys/fs/cgroup/{name} && mount -t cgroup -o {name} cgroup /sys/fs/cgroup/{name}"
                )
            };
            names.iter().map(mount).collect::<Vec<_>>().join("; ")
        }
        _ => format!(
            "where the kernel has them off, boot with {}; in a container, delegate them to it",
            names.iter().map(|name| format!("cgroup_enable={name}")).collect::<Vec<_>>().join(" ")
        ),
    };
    let essential = names.iter().any(|name| ESSENTIAL.contains(name));
    match essential {
        true => Check::failed(CGROUPS, title, found, &Kind::ALL).fix(fix),
        false => Check::warning(CGROUPS, title, found).fix(fix),
    }
}

pub fn clock() -> Check {
    judge_clock(&clock::measure())
}

fn judge_clock(clock: &clock::Clock) -> Check {
    let (id, title) = ("clock", "clock");
    let source = clock.source.as_deref().unwrap_or("unknown source");
    let step = clock.step_ns.map_or("it stood still".into(), |step| format!("smallest step {step} ns"));
    let found = format!("{source}; a reading costs {} ns, {step}", clock.cost_ns);
    if clock.is_quick() && clock.step_ns.is_some() {
        return Check::ok(id, title, found);
    }
    Check::warning(id, title, format!("{found}: every time stamp costs a call into the kernel or device"))
        .fix(
            "where /sys/devices/system/clocksource/clocksource0/available_clocksource has tsc: \
         echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_controller_that_limits_do_without_is_a_warning_and_memory_stops_everything() {
        let warned = judge_cgroups(1, &named(&["cpu", "cpuacct", "memory", "pids"]));
        assert_eq!((warned.status, warned.stops.len()), (Status::Warning, 0));
        assert_eq!(
            warned.fix.unwrap(),
            "mkdir -p /sys/fs/cgroup/cpuset && mount -t cgroup -o cpuset cgroup /sys/fs/cgroup/cpuset"
        );
        let failed = judge_cgroups(2, &named(&["cpu", "cpuacct", "cpuset", "pids"]));
        assert_eq!((failed.status, failed.stops.len()), (Status::Failed, Kind::ALL.len()));
        assert_eq!(failed.found, "version 2, without memory (memory limits and readings)");
        assert!(failed.fix.unwrap().contains("cgroup_enable=memory"));
    }

    #[test]
    fn all_controllers_are_well_and_are_named() {
        let check = judge_cgroups(2, &named(&["cpu", "cpuacct", "cpuset", "memory", "pids"]));
        assert_eq!(check.status, Status::Ok);
        assert_eq!(check.found, "version 2, with cpu, cpuacct, cpuset, memory, pids");
    }

    #[test]
    fn a_clock_behind_a_device_is_warned_of() {
        let clock =
            |source: &str| clock::Clock { source: Some(source.into()), cost_ns: 1200, step_ns: Some(70) };
        assert_eq!(judge_clock(&clock("tsc")).status, Status::Ok);
        let check = judge_clock(&clock("hpet"));
        assert_eq!(check.status, Status::Warning);
        assert!(check.found.starts_with("hpet; a reading costs 1200 ns, smallest step 70 ns"));
        let still = clock::Clock { step_ns: None, ..clock("tsc") };
        assert_eq!(judge_clock(&still).status, Status::Warning);
    }
}
