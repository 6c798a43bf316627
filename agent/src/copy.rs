//! The cost of copy-on-write: writes to a file of the image.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

use bootrace_agent::protocol::{COW_PATH, Written};

use crate::sys;

const PAGE: usize = 4096;

/// Opens [`COW_PATH`], overwrites the page at `at`, and returns once it is on the disk.
///
/// # Errors
/// When the image lacks the file, the file is too short, or the write fails.
pub fn write(at: u64) -> Result<Written, String> {
    write_page(Path::new(COW_PATH), at).map_err(|e| {
        format!(
            "write a page of {COW_PATH} at {at}: {e}; the image has this file where its scenario has [cow]"
        )
    })
}

/// The time includes the open, since on overlayfs the open copies the file.
fn write_page(path: &Path, at: u64) -> io::Result<Written> {
    let begun = Instant::now();
    // For reading and writing, as a database opens its file; never creates it.
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let page = [0x5a; PAGE];
    if at.saturating_add(PAGE as u64) > file.metadata()?.len() {
        return Err(io::Error::other("the file ends before that"));
    }
    file.write_all_at(&page, at)?;
    file.sync_all()?;
    Ok(Written { wall_ns: begun.elapsed().as_nanos() as u64 })
}

/// Writes the root file system's dirty pages out.
///
/// # Errors
/// When the kernel reports an error of the disk.
pub fn sync() -> Result<(), String> {
    File::open("/").and_then(|root| sys::sync_file_system(&root)).map_err(|e| format!("sync /: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_is_overwritten_and_the_file_keeps_its_size() {
        let path = std::env::temp_dir().join(format!("bootrace-copy-{}", std::process::id()));
        std::fs::write(&path, vec![1; 3 * PAGE]).unwrap();
        assert!(write_page(&path, PAGE as u64).unwrap().wall_ns > 0);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 3 * PAGE);
        assert!(
            content[..PAGE].iter().all(|b| *b == 1) && content[PAGE..2 * PAGE].iter().all(|b| *b == 0x5a)
        );
        assert!(write_page(&path, 3 * PAGE as u64).is_err());
        assert!(write_page(&path, u64::MAX).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(write_page(&path, 0).is_err() && !path.exists());
    }
}
