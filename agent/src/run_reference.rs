//! Runs the workloads of [`reference`](bootrace_agent::reference).

use std::{
    fs::{self, File, OpenOptions},
    hint::black_box,
    io::{self, Read, Seek, Write},
    path::Path,
    thread,
    time::Duration,
};

use bootrace_agent::reference::{READY, ReferenceWorkload};

use crate::sys;

const CHUNK: usize = 1 << 20;
/// On the instance's own root file system; its name is removed at once.
const FILE: &str = "/bootrace-reference";

/// Runs the workload. Returns for `Burn` alone.
///
/// # Errors
/// With the step that failed, and why.
pub fn run(workload: ReferenceWorkload) -> Result<(), String> {
    match workload {
        ReferenceWorkload::Delay { ns } => {
            thread::sleep(Duration::from_nanos(ns));
            print_ready_and_park(())
        }
        ReferenceWorkload::Anonymous { bytes } => print_ready_and_park(touch(bytes)?),
        ReferenceWorkload::File { bytes } => {
            print_ready_and_park(read_file(Path::new(FILE), bytes).map_err(|e| format!("read {FILE}: {e}"))?)
        }
        ReferenceWorkload::Burn { ns } => burn(ns),
    }
}

/// Prints the ready line and keeps `held` for ever.
fn print_ready_and_park<T>(held: T) -> Result<(), String> {
    writeln!(io::stdout(), "{READY}").map_err(|e| format!("print {READY:?}: {e}"))?;
    loop {
        thread::park();
        black_box(&held);
    }
}

/// The kernel gives out a page of zeros only when the process writes to it.
fn touch(bytes: u64) -> Result<Vec<u8>, String> {
    let length = usize::try_from(bytes).map_err(|e| e.to_string())?;
    let mut memory = vec![0_u8; length];
    for at in (0..length).step_by(sys::page_size() as usize) {
        memory[at] = 1;
    }
    Ok(black_box(memory))
}

/// Writes the file, drops its pages, then reads it: the page cache then has the pages of that read alone.
fn read_file(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    let mut chunk = vec![0x5a; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(CHUNK as u64) as usize;
        file.write_all(&chunk[..size])?;
        left -= size as u64;
    }
    file.sync_all()?;
    sys::drop_page_cache(&file)?;
    file.rewind()?;
    let mut read = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => read += n as u64,
        }
    }
    if read != bytes {
        return Err(io::Error::other(format!("it holds {read} bytes and not the {bytes} that were written")));
    }
    Ok(file)
}

/// Sums of floats and integers, a few microseconds at a time.
fn burn(ns: u64) -> Result<(), String> {
    let (mut x, mut sum) = (1_u64, 0.0);
    while sys::process_cpu().map_err(|e| format!("read the CPU time clock: {e}"))? < Duration::from_nanos(ns)
    {
        for _ in 0..2_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sum += (x >> 40) as f64;
        }
        black_box((x, sum));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_and_leaves_no_name() {
        let path = std::env::temp_dir().join(format!("bootrace-reference-{}", std::process::id()));
        let file = read_file(&path, 3 * CHUNK as u64 + 5).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3 * CHUNK as u64 + 5);
        assert!(!path.exists());
    }

    #[test]
    fn burning_uses_the_requested_cpu_time() {
        let before = sys::process_cpu().unwrap();
        burn(before.as_nanos() as u64 + 20_000_000).unwrap();
        assert!(sys::process_cpu().unwrap() - before >= Duration::from_millis(20));
    }
}
