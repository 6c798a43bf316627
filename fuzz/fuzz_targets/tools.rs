//! What mmdebstrap and other programs print, and distro-info's table of suites.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use bootrace_fuzz::{file, tree};

static TABLES: LazyLock<PathBuf> = LazyLock::new(|| tree(&["debian.csv".into()]));

bootrace_fuzz::target!(|data| {
    file(data);
    bootrace::fuzzing::tools(data, &TABLES);
});
