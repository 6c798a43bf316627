//! Values of options, and lines between the sides of an A/B.
#![no_main]

bootrace_fuzz::target!(|data| bootrace::fuzzing::options_of(&String::from_utf8_lossy(data)));
