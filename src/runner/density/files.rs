//! The limit on this process's open files: every running instance takes some.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files per instance: two ends of its socket, its listener, open counters, a bare process's cgroups.
const EACH: u64 = 16;
const OWN: u64 = 256;

/// Raises this process's soft limit if so many instances need it. Returns a note if it raised the limit or could not.
pub fn allow(instances: u32) -> Option<String> {
    let needed = OWN + EACH * u64::from(instances);
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.filter(|soft| *soft < needed)?;
    let wanted = limit.maximum.map_or(needed, |hard| hard.min(needed));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) if wanted < needed => Some(format!(
            "{instances} instances at once take some {needed} open files, and this process may have {wanted}: \
             raise that (ulimit -Hn), or write fewer instances"
        )),
        Ok(()) => Some(format!(
            "the limit of open files was raised from {soft} to {wanted} for {instances} instances at once, and bare processes \
             inherit that: raise it before (ulimit -n) to have the same limit always"
        )),
        Err(e) => Some(format!(
            "{instances} instances at once take some {needed} open files, and this process may have {soft}: raising that \
             failed ({e}): raise it before (ulimit -n), or write fewer instances"
        )),
    }
}
