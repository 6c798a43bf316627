//! A comparison.json: from the file to its page and tables.
#![no_main]

use bootrace_fuzz::{file, output};
use bootrace_report::comparison;

bootrace_fuzz::target!(|data| {
    let dir = file(data).with_file_name("comparison");
    let _ = std::fs::create_dir_all(&dir);
    let _ = std::os::unix::fs::symlink("../input", dir.join(comparison::FILE));
    if let Ok(read) = comparison::load(&dir) {
        comparison::table(&read, true);
        comparison::markdown(&read);
        comparison::render(&read, &[], &output()).expect("every comparison can be drawn");
    }
});
