//! A manifest in the cache, the record of a host's noise, and a CI's event.
#![no_main]

use bootrace::fuzzing;

bootrace_fuzz::target!(|data| {
    let file = bootrace_fuzz::file(data);
    fuzzing::records(file);
    fuzzing::event(file);
});
