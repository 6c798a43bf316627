//! An image's os-release, and tar's listing of its archive.
#![no_main]

bootrace_fuzz::target!(|data| bootrace::fuzzing::tree(&String::from_utf8_lossy(data)));
