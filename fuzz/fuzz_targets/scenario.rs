//! A scenario's TOML.
#![no_main]

use bootrace_model::scenario::Scenario;

bootrace_fuzz::target!(|data| {
    if let Err(error) = Scenario::parse(&String::from_utf8_lossy(data), "scenario.toml") {
        let shown = error.to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
});
