//! A results.json: from the file to the analysis.
#![no_main]

use bootrace_fuzz::file;

bootrace_fuzz::target!(|data| {
    if let Ok(results) = bootrace_report::load(file(data)) {
        bootrace_analysis::analyse(&results);
    }
});
