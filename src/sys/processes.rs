//! Processes, found in `/proc`.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Whether a process with this pid exists.
pub fn is_alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// The processes with their root in `dir`, or with it as their directory for temporary files; this process is not one.
pub fn working_in(dir: &Path) -> Vec<i32> {
    let named = [b"TMPDIR=", dir.as_os_str().as_bytes()].concat();
    let has = |environment: &[u8]| environment.split(|byte| *byte == 0).any(|setting| setting == named);
    // Does not check the working directory: that may be the shell of a user who looks at it.
    let works_in = |process: &Path| {
        fs::read_link(process.join("root")).is_ok_and(|root| root.starts_with(dir))
            || fs::read(process.join("environ")).is_ok_and(|environment| has(&environment))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let ours = i32::try_from(std::process::id()).unwrap_or(0);
    pids.filter(|(pid, process)| *pid != ours && works_in(process)).map(|(pid, _)| pid).collect()
}
