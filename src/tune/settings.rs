//! The settings of `--tune` and their values.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use super::{Change, read, write};
use crate::sample::Setting;

const CPUFREQ: &str = "sys/devices/system/cpu/cpufreq";

/// One setting, possibly of many files, such as a governor per CPU.
pub(super) struct Plan {
    name: &'static str,
    pub changes: Vec<Change>,
    /// The explanation if this host has no such file.
    absent: &'static str,
    /// Words for a file's values that are no words themselves.
    words: &'static [(&'static str, &'static str)],
}

/// All settings but the caches, which have no state to restore.
pub(super) fn plan(root: &Path) -> Vec<Plan> {
    let mut plans = vec![governor(root), turbo(root), ksm(root)];
    plans.extend(swappiness(root));
    plans
}

fn governor(root: &Path) -> Plan {
    let files = policies(root).into_iter().map(|policy| policy.join("scaling_governor"));
    Plan::new(
        root,
        "governor",
        "performance",
        files,
        "this kernel has no CPU frequency policy; in a guest the host controls the clock rate",
    )
}

/// Intel's driver inverts the value; other drivers have one switch for all CPUs or one each.
fn turbo(root: &Path) -> Plan {
    let plan = |want, files: Vec<PathBuf>| {
        let plan =
            Plan::new(root, "turbo", want, files, "this kernel has no switch for it; the BIOS may have one");
        let words: &[_] =
            if want == "1" { &[("0", "on"), ("1", "off")] } else { &[("1", "on"), ("0", "off")] };
        Plan { words, ..plan }
    };
    let intel: PathBuf = "sys/devices/system/cpu/intel_pstate/no_turbo".into();
    let boost = Path::new(CPUFREQ).join("boost");
    if root.join(&intel).exists() {
        plan("1", vec![intel])
    } else if root.join(&boost).exists() {
        plan("0", vec![boost])
    } else {
        plan("0", policies(root).into_iter().map(|policy| policy.join("boost")).collect())
    }
}

/// Stops merging and keeps merged pages. Unmerging them (2) takes memory and time, and they would not be merged again
/// at once.
fn ksm(root: &Path) -> Plan {
    let mut plan =
        Plan::new(root, "ksm", "0", ["sys/kernel/mm/ksm/run".into()], "this kernel has no same-page merging");
    plan.changes.iter_mut().filter(|change| change.found == "2").for_each(|change| change.set = "2".into());
    plan
}

/// Swaps as little as possible. Switching swap off could kill processes. `None` on a host without swap.
fn swappiness(root: &Path) -> Option<Plan> {
    let swaps = read(&root.join("proc/swaps")).unwrap_or_default();
    let file: PathBuf = "proc/sys/vm/swappiness".into();
    (swaps.lines().count() > 1).then(|| Plan::new(root, "swappiness", "1", [file], "this kernel has none"))
}

/// Writes out dirty pages and drops the page cache, once: samples then start from the same state, and the warm-up
/// rounds fill the cache.
pub(super) fn drop_caches(root: &Path) -> Setting {
    let file = root.join("proc/sys/vm/drop_caches");
    rustix::fs::sync();
    // The file can't be read back, so `write` of this module does not fit.
    let dropped = OpenOptions::new().write(true).open(&file).and_then(|mut file| file.write_all(b"3"));
    Setting {
        name: "caches".into(),
        found: None,
        set: dropped.is_ok().then(|| "dropped once, before the first sample".into()),
        why_not: dropped.err().map(|e| format!("writing {}: {e}", file.display())),
    }
}

/// Below the root.
fn policies(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(CPUFREQ)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let names = names.filter(|name| name.to_string_lossy().starts_with("policy"));
    let mut found: Vec<PathBuf> = names.map(|name| Path::new(CPUFREQ).join(name)).collect();
    found.sort();
    found
}

impl Plan {
    fn new(
        root: &Path,
        name: &'static str,
        want: &'static str,
        files: impl IntoIterator<Item = PathBuf>,
        absent: &'static str,
    ) -> Self {
        let change =
            |file: PathBuf| Some(Change { found: read(&root.join(&file))?, file, set: want.to_owned() });
        Plan { name, changes: files.into_iter().filter_map(change).collect(), absent, words: &[] }
    }

    /// Sets the files that differ, and reports the state.
    pub fn carry_out(self, root: &Path) -> Setting {
        let Plan { name, changes, absent, words } = self;
        let word = |text: &str| {
            let known = words.iter().find(|(written, _)| *written == text);
            known.map_or(text, |(_, meant)| meant).to_owned()
        };
        let mut found: Vec<String> = changes.iter().map(|change| word(&change.found)).collect();
        found.sort_unstable();
        found.dedup();
        let mut refused = Vec::new();
        for change in changes.iter().filter(|change| change.found != change.set) {
            let path = root.join(&change.file);
            if let Err(why) = write(&path, &change.set) {
                refused.push(format!("writing {} to {}: {why}", change.set, path.display()));
            }
        }
        let why_not = match refused.as_slice() {
            _ if changes.is_empty() => Some(absent.to_owned()),
            [] => None,
            [first, ..] => Some(format!("{} of {} refused: {first}", refused.len(), changes.len())),
        };
        let set = changes.first().filter(|_| refused.len() < changes.len());
        Setting {
            name: name.to_owned(),
            found: (!found.is_empty()).then(|| found.join(", ")),
            set: set.map(|change| word(&change.set)),
            why_not,
        }
    }
}
