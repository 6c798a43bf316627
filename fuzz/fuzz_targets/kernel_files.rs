//! Files of /proc, /sys and cgroups, qemu.conf, passwd and group.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use bootrace::fuzzing;
use bootrace_fuzz::{file, tree};

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| tree(&fuzzing::kernels_paths()));

bootrace_fuzz::target!(|data| {
    let file = file(data);
    fuzzing::kernel_files(&String::from_utf8_lossy(data), &ROOT, file);
});
