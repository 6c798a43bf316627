//! The head of a cloud image's file.
#![no_main]

use bootrace::fuzzing;

bootrace_fuzz::target!(|data| {
    fuzzing::qcow2(data, data.len() as u64);
    fuzzing::qcow2(data, u64::MAX);
});
