//! What all fuzz targets share: the limits of an input's cost, and files whose content is the input.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// Most memory that an input may take at once, in bytes.
const MOST_MEMORY: usize = 512 << 20;
/// Most CPU time that an input may take, in ns.
const MOST_TIME: u64 = 1_000_000_000;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn grow(by: usize) {
    // Fails only while the thread ends.
    let _ = LIVE.try_with(|live| {
        let now = live.get().wrapping_add(by);
        live.set(now);
        // A value freed by another thread than its maker's leaves the count beyond 0.
        let _ = MOST.try_with(|most| most.set(most.get().max(if now > usize::MAX / 2 { 0 } else { now })));
    });
}

fn shrink(by: usize) {
    let _ = LIVE.try_with(|live| live.set(live.get().wrapping_sub(by)));
}

// SAFETY: hands all to the system's allocator, and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        shrink(layout.size());
        grow(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Runs a parser, and fails where it takes more than 512 MiB at once or 1 s of CPU time.
pub fn within_limits(parse: impl FnOnce()) {
    LIVE.set(0);
    MOST.set(0);
    let begun = cpu_ns();
    parse();
    let (took, memory) = (cpu_ns() - begun, MOST.get());
    assert!(took <= MOST_TIME, "the input takes {} ms of CPU time", took / 1_000_000);
    assert!(memory <= MOST_MEMORY, "the input takes {} MiB", memory >> 20);
}

/// A fuzz target: `target!(|data| { ... })`, where `data` are the input's bytes.
#[macro_export]
macro_rules! target {
    (|$data:ident| $body:expr) => {
        libfuzzer_sys::fuzz_target!(|$data: &[u8]| { $crate::within_limits(|| $body) });
    };
}

/// A directory of this process in memory.
fn scratch() -> PathBuf {
    let dir = PathBuf::from(format!("/dev/shm/bootrace-fuzz-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("/dev/shm takes directories");
    dir
}

/// Writes the input to the one file of this process. The same call removes the directories of processes that ended.
pub fn file(data: &[u8]) -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix("bootrace-fuzz-"));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        scratch().join("input")
    });
    fs::write(&*FILE, data).expect("/dev/shm takes files");
    &FILE
}

/// A directory in which each of these paths is the file of [`file`].
pub fn tree(paths: &[PathBuf]) -> PathBuf {
    let root = scratch().join("tree");
    for path in paths {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it is below the root")).expect("/dev/shm takes directories");
        let _ = symlink(scratch().join("input"), path);
    }
    root
}

/// An empty directory of this process for output.
pub fn output() -> PathBuf {
    scratch().join("output")
}

/// Takes values from an input's bytes, zeros after its end.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub fn number(&mut self) -> u64 {
        (0..self.byte() % 9).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// As many bytes as the next byte says.
    pub fn text(&mut self) -> String {
        let length = usize::from(self.byte()).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}
