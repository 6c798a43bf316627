//! A results.json as a history reads it, to the history's table, JSON and page.
#![no_main]

use bootrace_analysis::Metric;
use bootrace_fuzz::{file, output};
use bootrace_report::history::{self, Wanted};

bootrace_fuzz::target!(|data| {
    let metrics =
        ["startup", "memory.footprint"].map(|name| Metric::from_name(name).expect("it is a metric"));
    let wanted = Wanted {
        metrics: metrics.into(),
        targets: Vec::new(),
        scenarios: Vec::new(),
        any_host_name: false,
        with_ab: true,
        seed: 1,
        threads: 1,
    };
    if let Ok(shown) = history::gather(&[file(data).into()], &wanted) {
        history::left_out(&shown);
        if !shown.history.series.is_empty() {
            history::table(&shown);
            history::write(&shown, &output()).expect("every history can be drawn");
        }
    }
});
