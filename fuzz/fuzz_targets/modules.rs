//! The lists of modules of an image's kernel, separated by form feeds.
#![no_main]

bootrace_fuzz::target!(|data| {
    let text = String::from_utf8_lossy(data);
    let mut lists = text.split('\u{c}').map(|list| list.to_owned());
    let mut next = || lists.next().unwrap_or_default();
    bootrace::fuzzing::modules(&next(), &next(), &next(), &next());
});
