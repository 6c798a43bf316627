//! Files of /proc, /sys and cgroups, qemu.conf, passwd and group. The first byte says which of them the rest is.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use bootrace::fuzzing;
use bootrace_fuzz::{file, tree};

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| tree(&fuzzing::kernels_paths()));

bootrace_fuzz::target!(|data| {
    if let Some((part, data)) = data.split_first() {
        fuzzing::kernel_files(*part, &String::from_utf8_lossy(data), &ROOT, file(data));
    }
});
