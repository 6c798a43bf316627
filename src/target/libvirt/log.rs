//! The logs of QEMU and libvirt_lxc, which libvirt keeps for good in a file per domain. bootrace removes them, since
//! its domain names never recur.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use bootrace_model::foreign::clean;
use tokio::time::{Instant, sleep};

use super::{super::Error, driver::Driver};

/// Bytes read from the end: enough for the command line and KVM's dump of a processor's state.
const TAIL: u64 = 16 << 10;
/// The largest number of lines that are quoted.
const LINES: usize = 6;
const LENGTH: usize = 240;
/// How long to wait for virtlogd, which writes the log shortly after QEMU has ended.
const LOG_DELAY: Duration = Duration::from_millis(500);

pub fn path(driver: Driver, domain: &str) -> PathBuf {
    PathBuf::from(format!("{}/{domain}.log", driver.logs()))
}

/// The domain of a log, from the log's file name: `NAME.log`, and `NAME.log.0` or `NAME.log.1.gz` of a log that virtlogd
/// or logrotate has moved away.
pub fn domain_of(file: &str) -> Option<&str> {
    let (domain, moved) = file.rsplit_once(".log")?;
    let number = moved.strip_suffix(".gz").unwrap_or(moved);
    let is_log = moved.is_empty()
        || number.strip_prefix('.').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    is_log.then_some(domain)
}

/// Removes a domain's log, with the parts that virtlogd moves away when a log grows. Returns whether there was one.
///
/// # Errors
/// When it can't be removed.
pub fn remove(driver: Driver, domain: &str) -> Result<bool, Error> {
    let log = path(driver, domain);
    let moved = (0..).map(|part| PathBuf::from(format!("{}.{part}", log.display())));
    for (removed, file) in std::iter::once(log.clone()).chain(moved).enumerate() {
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(removed > 0),
            Err(e) => return Err(Error::new(format!("removing {}", file.display()), e)),
        }
    }
    Ok(true)
}

/// The lines of a domain's log that explain its end. `over`: it has ended, so wait a little for them.
pub async fn complaints(driver: Driver, domain: &str, over: bool) -> Vec<String> {
    let deadline = Instant::now() + LOG_DELAY;
    loop {
        let lines = tail(&path(driver, domain)).map(|text| relevant_lines(&text)).unwrap_or_default();
        if !lines.is_empty() || !over || Instant::now() >= deadline {
            return lines;
        }
        sleep(LOG_DELAY / 20).await;
    }
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Errors, without the command line, which libvirt writes there too; warnings only if there are no errors. Removes
/// control characters, since the text goes to terminals.
pub(crate) fn relevant_lines(log: &str) -> Vec<String> {
    let complains = |line: &&str| {
        ["qemu-system", "KVM", "error", "failure", "Failure"].iter().any(|sign| line.contains(sign))
            && !["/", "-", "LC_ALL=", "PATH="].iter().any(|start| line.starts_with(start))
            && !line.ends_with('\\')
            && !line.contains("starting up libvirt version")
            && !line.contains("shutting down, reason=")
            // Sent by libvirtd, whose events have the reason.
            && !line.contains("terminating on signal 15")
    };
    let (warnings, errors): (Vec<_>, Vec<_>) =
        log.lines().filter(complains).partition(|line| line.contains("warning:"));
    let lines = if errors.is_empty() { warnings } else { errors };
    lines.into_iter().take(LINES).map(|line| clean(line, LENGTH)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "2026-11-25 01:53:14.3+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.22\n\
        LC_ALL=C \\\nPATH=/usr/sbin:/usr/bin/qemu-system \\\n/usr/bin/qemu-system-x86_64 \\\n\
        -name guest=x,debug-threads=on \\\n-msg timestamp=on\n";
    const WARNING: &str = "qemu-system-x86_64: warning: host doesn't support requested feature: svm\n";
    const END: &str = "2026-11-25 01:53:16.944+0000: shutting down, reason=failed\n";

    #[test]
    fn a_log_is_its_domains_wherever_it_was_moved() {
        for file in ["a-1.log", "a-1.log.0", "a-1.log.12", "a-1.log.2.gz"] {
            assert_eq!(domain_of(file), Some("a-1"), "{file}");
        }
        for file in ["a-1", "a-1.log.old", "a-1.log~", "a-1.log.0.txt", "a-1.login", "a-1.log.gz"] {
            assert_eq!(domain_of(file), None, "{file}");
        }
    }

    #[test]
    fn libvirts_routine_lines_explain_nothing() {
        assert!(relevant_lines(&format!("{START}{END}")).is_empty());
        assert_eq!(relevant_lines(&format!("{START}{WARNING}{END}")).len(), 1);
    }

    #[test]
    fn an_error_of_kvm_is_found_before_all_of_its_registers() {
        let registers = "EAX=00000000 EBX=00000000\n".repeat(40);
        let text = format!(
            "{START}{WARNING}KVM internal error. Suberror: 1\nextra data[0]: 1\nemulation failure\n{registers}{END}"
        );
        assert_eq!(relevant_lines(&text), ["KVM internal error. Suberror: 1", "emulation failure"]);
    }

    #[test]
    fn a_quote_is_bounded_and_fit_for_a_terminal() {
        let lines = relevant_lines(&format!("\u{1b}[2J error {}\n", "x".repeat(10_000)).repeat(50));
        assert_eq!(lines.len(), LINES);
        assert!(
            lines.iter().all(|l| l.starts_with("[2J error x") && l.chars().count() < LENGTH + 20),
            "{lines:?}"
        );
    }
}
