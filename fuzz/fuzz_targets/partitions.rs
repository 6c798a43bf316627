//! The partitions and file systems of a cloud image's disk.
#![no_main]

use bootrace::fuzzing;

bootrace_fuzz::target!(|data| {
    let text = String::from_utf8_lossy(data);
    fuzzing::partitions(&text, 8 << 30);
    fuzzing::partitions(&text, u64::MAX);
});
