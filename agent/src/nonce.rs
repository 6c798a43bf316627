//! The instance's nonce: a secret of the harness, by which it knows its agent from strangers at the control socket.
//!
//! It must not reach the workload: the agent takes it out of its own environment before it starts anything. Where
//! another program is the first process, or the nonce comes from a VM's firmware, only root can read it inside.

use std::{fs::File, io::Read};

use bootrace_agent::protocol::NONCE_VARIABLE;

use crate::sys;

/// The serial number of a VM's machine.
const SERIAL: &str = "/sys/class/dmi/id/product_serial";
/// The environment of the first process: a container's, or on a kernel's command line.
const FIRST: &str = "/proc/1/environ";
/// Most bytes of either file.
const MOST: u64 = 64 * 1024;

/// That of a container's first process or of a bare process, from the environment; empty if it has none.
pub fn of_process() -> String {
    let name = format!("{NONCE_VARIABLE}\0");
    std::ffi::CStr::from_bytes_with_nul(name.as_bytes()).ok().and_then(sys::take_variable).unwrap_or_default()
}

/// That of a whole system: of its first process, or its machine's.
pub fn of_system() -> String {
    let own = of_process();
    if !own.is_empty() {
        return own;
    }
    let first = read(FIRST).and_then(|text| find(&text).map(str::to_owned));
    first.or_else(|| read(SERIAL)).unwrap_or_default().trim().to_owned()
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn find(environment: &str) -> Option<&str> {
    environment.split('\0').find_map(|variable| variable.strip_prefix(NONCE_VARIABLE)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processes_variable_is_found_by_its_whole_name() {
        assert_eq!(find("A=1\0BOOTRACE_NONCE=abc\0B=2\0"), Some("abc"));
        assert_eq!(find("XBOOTRACE_NONCE=abc\0BOOTRACE_NONCES=abc\0"), None);
    }
}
