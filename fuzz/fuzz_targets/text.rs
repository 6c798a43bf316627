//! The functions that make foreign text safe to show.
#![no_main]

use bootrace_model::foreign::{clean, clean_lines, cut, did_you_mean, is_active, printable, quoted, tail};

bootrace_fuzz::target!(|data| {
    let text = String::from_utf8_lossy(data);
    let shown = [clean(&text, 40), cut(&text), printable(&text), quoted(&text), tail(&text, 100)];
    for shown in &shown {
        assert!(!shown.chars().any(is_active), "{shown:?}");
    }
    assert!(!clean_lines(&text, 100).chars().any(|c| c != '\n' && is_active(c)));
    did_you_mean(&text, &["samples", "targets"]);
});
