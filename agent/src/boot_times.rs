//! The parts of the present boot, by its own kernel and systemd. The harness asks after all measuring, since this
//! spawns systemctl and reads the kernel's log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    os::unix::fs::OpenOptionsExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bootrace_agent::protocol::{BootTimes, UNIT};

use crate::sys;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Longest wait for systemctl, which takes a second or two under emulation.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of its output, which is a handful of numbers.
const MAX_OUTPUT: usize = 16 * 1024;
/// Most records of the kernel's log to read: more than its buffer holds at this age.
const MAX_RECORDS: usize = 100_000;

/// How the agent came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootOrigin {
    /// In a system that was already running: there is no boot to divide.
    Elsewhere,
    /// As the initrd's first program, this long after the kernel's start.
    AsInit(Duration),
    /// As a unit of systemd.
    AsService,
}

/// Times by this kernel's CLOCK_MONOTONIC; `None` where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Milestones {
    /// The exec of the initrd's first program; `None` in a container.
    initrd: Option<Duration>,
    systemd: Option<Duration>,
    unit: Option<Duration>,
    finished: Option<Duration>,
}

/// The parts of the time until hello, when the kernel's uptime was `uptime_ns`.
pub fn read(origin: BootOrigin, uptime_ns: u64) -> BootTimes {
    let uptime = Duration::from_nanos(uptime_ns);
    match origin {
        BootOrigin::Elsewhere => BootTimes::default(),
        BootOrigin::AsInit(origin) => BootTimes {
            kernel_ns: Some(ns(origin)),
            initrd_ns: uptime.checked_sub(origin).map(ns),
            ..BootTimes::default()
        },
        BootOrigin::AsService => {
            // systemd's clock stops during suspend.
            let asleep = match (sys::uptime(), sys::monotonic()) {
                (Ok(uptime), Ok(monotonic)) => uptime.saturating_sub(monotonic),
                _ => Duration::ZERO,
            };
            let own_kernel = !in_container();
            let (mut moments, error) = match of_systemd() {
                Ok(moments) => (moments, None),
                Err(error) => (Milestones::default(), Some(error)),
            };
            if own_kernel && moments.initrd.is_none() {
                moments.initrd = of_kernel_log();
            }
            BootTimes { error, ..divide(uptime.saturating_sub(asleep), moments, own_kernel) }
        }
    }
}

/// A container's engine sets `container` in PID 1's environment.
fn in_container() -> bool {
    let mut environment = Vec::new();
    let read = File::open("/proc/1/environ")
        .and_then(|file| file.take(MAX_OUTPUT as u64).read_to_end(&mut environment));
    read.is_ok() && environment.split(|&b| b == 0).any(|variable| variable.starts_with(b"container="))
}

fn ns(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// A part lasts from one known time to the next known one; the part before includes a part of unknown start.
fn divide(hello: Duration, moments: Milestones, own_kernel: bool) -> BootTimes {
    let Milestones { initrd, systemd, unit, finished } = moments;
    let part = |from: Option<Duration>, to: [Option<Duration>; 3]| {
        let to = to.into_iter().flatten().next().unwrap_or(hello);
        to.checked_sub(from?).map(ns)
    };
    let start = own_kernel.then_some(Duration::ZERO);
    let since = if own_kernel { start } else { systemd };
    BootTimes {
        kernel_ns: part(start, [initrd, systemd, unit]),
        initrd_ns: part(initrd.filter(|_| own_kernel), [systemd, unit, None]),
        userspace_ns: part(systemd, [unit, None, None]),
        unit_ns: part(unit, [None; 3]),
        finished_ns: finished.zip(since).and_then(|(finished, since)| finished.checked_sub(since)).map(ns),
        error: None,
    }
}

fn of_systemd() -> Result<Milestones, String> {
    let (initrd, systemd, finished, unit) = (
        "InitRDTimestampMonotonic",
        "UserspaceTimestampMonotonic",
        "FinishTimestampMonotonic",
        "ExecMainStartTimestampMonotonic",
    );
    let manager = show(&[initrd, systemd, finished], None)?;
    let ours = show(&[unit], Some(UNIT))?;
    let missing = |name: &str| format!("{SYSTEMCTL} show says no {name}");
    Ok(Milestones {
        initrd: stamp(&manager, initrd),
        systemd: Some(stamp(&manager, systemd).ok_or_else(|| missing(systemd))?),
        unit: Some(stamp(&ours, unit).ok_or_else(|| missing(unit))?),
        finished: stamp(&manager, finished),
    })
}

/// The value of `NAME=MICROSECONDS`; 0 is an event that has not happened.
fn stamp(output: &str, name: &str) -> Option<Duration> {
    let value = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    value.trim().parse().ok().filter(|&us| us > 0).map(Duration::from_micros)
}

/// The output of `systemctl show` for these properties of a unit, or else of the manager.
fn show(properties: &[&str], unit: Option<&str>) -> Result<String, String> {
    let failed = |why: String| format!("run {SYSTEMCTL} show: {why}");
    let mut child = Command::new(SYSTEMCTL)
        .arg("show")
        .args(properties.iter().map(|property| format!("--property={property}")))
        .args(unit)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    let output = match child.stdout.take() {
        Some(mut stdout) => read_all(&mut stdout),
        None => Err("it has no output".into()),
    };
    if output.is_err() {
        // It may have ended already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    let output = output.map_err(failed)?;
    if status.success() { Ok(output) } else { Err(failed(format!("it ended with {status}"))) }
}

fn read_all(stream: &mut (impl Read + AsRawFd)) -> Result<String, String> {
    sys::set_nonblocking(stream).map_err(|e| e.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it has not answered for {PATIENCE:?}"));
        }
        let mut fds = [sys::readable(stream.as_raw_fd())];
        sys::poll(&mut fds, Some(left)).map_err(|e| e.to_string())?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&all).into_owned()),
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e.to_string()),
        }
        if all.len() > MAX_OUTPUT {
            return Err(format!("it says more than {MAX_OUTPUT} bytes"));
        }
    }
}

/// The time at which the kernel executed the initrd's first program, by the kernel's log: an initrd without systemd
/// reports it nowhere else. The log has its own clock; a line that the agent writes relates it to CLOCK_MONOTONIC.
fn of_kernel_log() -> Option<Duration> {
    let path = "/dev/kmsg";
    let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mark = format!("bootrace-agent: {} reads the time of its start", std::process::id());
    let now = sys::monotonic().ok()?;
    // At this level no console prints it.
    OpenOptions::new().write(true).open(path).ok()?.write_all(format!("<7>{mark}\n").as_bytes()).ok()?;
    let (mut executed, mut marked) = (None, None);
    let mut buffer = [0; 8192];
    for _ in 0..MAX_RECORDS {
        let record = match log.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => String::from_utf8_lossy(&buffer[..n]),
            // The kernel has overwritten older records; the next read continues after them.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(_) => break,
        };
        let Some((at, text)) = record_of(&record) else { continue };
        if text.starts_with("Run ") && text.ends_with(" as init process") {
            executed = executed.or(Some(at));
        }
        if text == mark {
            marked = Some(at);
        }
    }
    // The difference by the log's clock.
    now.checked_sub(marked?.checked_sub(executed?)?)
}

/// Time and text of a record: `LEVEL,NUMBER,MICROSECONDS,FLAGS;TEXT` and lines of details.
fn record_of(record: &str) -> Option<(Duration, &str)> {
    let (head, text) = record.split_once(';')?;
    let at = head.split(',').nth(2)?.parse().ok()?;
    Some((Duration::from_micros(at), text.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    fn sum(times: &BootTimes) -> u64 {
        [times.kernel_ns, times.initrd_ns, times.userspace_ns, times.unit_ns].into_iter().flatten().sum()
    }

    #[test]
    fn the_parts_of_a_machines_boot_add_up_to_the_uptime_at_hello_whatever_is_unknown() {
        let whole =
            Milestones { initrd: ms(2_000), systemd: ms(9_000), unit: ms(30_000), finished: ms(35_000) };
        let hello = Duration::from_millis(31_000);
        let times = divide(hello, whole, true);
        let parts = [times.kernel_ns, times.initrd_ns, times.userspace_ns, times.unit_ns];
        assert_eq!(parts, [2_000, 7_000, 21_000, 1_000].map(|ms| Some(ms * 1_000_000)));
        assert_eq!(times.finished_ns, Some(35_000_000_000));
        for moments in [
            Milestones { initrd: None, ..whole },
            Milestones { systemd: None, ..whole },
            Milestones { unit: None, ..whole },
            Milestones { systemd: None, unit: None, ..whole },
            Milestones::default(),
        ] {
            let times = divide(hello, moments, true);
            assert_eq!(sum(&times), 31_000_000_000, "{moments:?}: {times:?}");
        }
    }

    #[test]
    fn a_container_has_systemds_parts_alone() {
        let moments =
            Milestones { initrd: ms(1), systemd: ms(900_000), unit: ms(900_400), finished: ms(900_700) };
        let times = divide(Duration::from_millis(900_410), moments, false);
        assert_eq!((times.kernel_ns, times.initrd_ns), (None, None));
        assert_eq!((times.userspace_ns, times.unit_ns), (Some(400_000_000), Some(10_000_000)));
        assert_eq!(times.finished_ns, Some(700_000_000));
    }

    #[test]
    fn an_agent_that_is_init_itself_divides_by_its_own_start() {
        let times = read(BootOrigin::AsInit(Duration::from_millis(1_500)), 1_800_000_000);
        assert_eq!((times.kernel_ns, times.initrd_ns), (Some(1_500_000_000), Some(300_000_000)));
        assert_eq!(read(BootOrigin::Elsewhere, 5), BootTimes::default());
    }

    #[test]
    fn a_moment_that_has_not_come_or_is_no_number_is_none() {
        let output =
            "FirmwareTimestampMonotonic=0\nUserspaceTimestampMonotonic=3141592\nFinishTimestampMonotonic=\n";
        assert_eq!(stamp(output, "UserspaceTimestampMonotonic"), Some(Duration::from_micros(3_141_592)));
        for name in ["FirmwareTimestampMonotonic", "FinishTimestampMonotonic", "Userspace", "x"] {
            assert_eq!(stamp(output, name), None, "{name}");
        }
    }

    #[test]
    fn a_record_of_the_kernels_log_is_read_without_its_details() {
        let record = "6,339,2140900,-;Run /init as init process\n SUBSYSTEM=x\n";
        assert_eq!(record_of(record), Some((Duration::from_micros(2_140_900), "Run /init as init process")));
        assert_eq!(record_of("no record"), None);
        assert_eq!(record_of("6,1,x,-;y"), None);
    }
}
