//! A calibration.json: from the file to its page and table.
#![no_main]

use bootrace_fuzz::{file, output};
use bootrace_report::calibration;

bootrace_fuzz::target!(|data| {
    if let Ok(read) = calibration::load(file(data)) {
        calibration::table(&read);
        calibration::render(&read, &output()).expect("every calibration can be drawn");
    }
});
