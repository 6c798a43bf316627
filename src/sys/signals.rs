//! The signals that end a command.

use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Each with its number: a hang-up, Ctrl-C, Ctrl-\ and SIGTERM.
const ENDING: [(fn() -> SignalKind, u8); 4] =
    [(SignalKind::hangup, 1), (SignalKind::interrupt, 2), (SignalKind::quit, 3), (SignalKind::terminate, 15)];

/// Listens to the signals that end a command, each with its number. One that is ignored, as by nohup, stays ignored.
///
/// # Errors
/// When the kernel's list of ignored signals can't be read, or a handler can't be installed.
pub fn ending() -> io::Result<Vec<(Signal, u8)>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored = ignored(&status).ok_or_else(|| io::Error::other("/proc/self/status has no SigIgn"))?;
    let heeded = ENDING.iter().filter(|(_, number)| ignored >> (number - 1) & 1 == 0);
    heeded.map(|(kind, number)| Ok((signal(kind())?, *number))).collect()
}

/// The set of ignored signals, the lowest bit for signal 1.
pub(crate) fn ignored(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernels_status() {
        // Rust's runtime ignores broken pipes: signal 13.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert_eq!(ignored(&status).unwrap() >> 12 & 1, 1);
        assert_eq!(ignored("SigBlk:\t00\nSigIgn:\t0000000000001001\n"), Some(0x1001));
        assert_eq!(ignored("Name:\tx\n"), None);
    }
}
