//! The programs that run and their kernel, as seen inside the instance.

use std::{
    fs::{self, File},
    io::{self, Read},
};

use bootrace_agent::{
    BUILD,
    protocol::{Hello, IMAGE_DIGEST_PATH, Identity, VERSION},
};
use sha2::{Digest, Sha256};

use crate::{program::Process, sys};

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";
/// Most bytes of the workload's argv, which the workload can rewrite.
const MAX_ARGV: u64 = 32 * 1024;
/// Most bytes of the digest's file: a digest has 64, another file in its place may have any number.
const MAX_DIGEST_FILE: u64 = 256;

/// The first message. It is on the measured path and costs two system calls and one small file.
///
/// # Errors
/// Without /proc, and when a system call fails.
pub fn hello(nonce: String) -> Result<Hello, String> {
    let boot_id = fs::read_to_string(BOOT_ID_PATH)
        .map_err(|e| format!("read {BOOT_ID_PATH}: {e}; is /proc mounted in the root file system?"))?;
    Ok(Hello {
        version: VERSION,
        nonce,
        build: BUILD.into(),
        kernel_release: sys::kernel_release().map_err(|e| format!("uname: {e}"))?,
        boot_id: boot_id.trim().into(),
        uptime_ns: sys::uptime().map_err(|e| format!("read the clock: {e}"))?.as_nanos() as u64,
    })
}

/// The sources of an identity. This opens the workload's executable at once and reads it later: hashing takes seconds
/// under emulation, so another thread does it.
#[derive(Debug)]
pub struct Evidence {
    executable: Option<File>,
    argv: Vec<String>,
    hello: Hello,
}

impl Evidence {
    pub fn of(workload: Option<&Process>, alive: bool, hello: &Hello) -> Self {
        let live = workload.filter(|_| alive);
        let executable = live.and_then(|w| File::open(format!("/proc/{}/exe", w.pid)).ok());
        let argv = live.and_then(|w| argv_of(w.pid)).or_else(|| workload.map(|w| w.argv.clone()));
        Evidence {
            executable: executable.or_else(|| File::open(&workload?.path).ok()),
            argv: argv.unwrap_or_default(),
            hello: hello.clone(),
        }
    }

    /// Reads and hashes. A file that can't be read gives null.
    pub fn identity(self) -> Identity {
        Identity {
            image_digest: image_digest(),
            agent_digest: File::open("/proc/self/exe").and_then(digest).ok(),
            workload_digest: self.executable.and_then(|file| digest(file).ok()),
            argv: self.argv,
            kernel_release: self.hello.kernel_release,
            boot_id: self.hello.boot_id,
        }
    }
}

/// `None` after the process's end: a zombie's command line is empty.
fn argv_of(pid: u32) -> Option<Vec<String>> {
    let mut line = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(MAX_ARGV).read_to_end(&mut line).ok()?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    (!line.is_empty())
        .then(|| line.split(|&b| b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect())
}

fn image_digest() -> Option<String> {
    let mut text = Vec::new();
    File::open(IMAGE_DIGEST_PATH).ok()?.take(MAX_DIGEST_FILE).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn digest(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
