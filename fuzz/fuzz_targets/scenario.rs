#![no_main]
use libfuzzer_sys::fuzz_target;
fuzz_target!(|data: &[u8]| {
    let _ = bootrace_model::scenario::Scenario::parse(&String::from_utf8_lossy(data), "scenario.toml");
});
