//! The fstab of a cloud image.
#![no_main]

bootrace_fuzz::target!(|data| bootrace::fuzzing::fstab(&String::from_utf8_lossy(data)));
