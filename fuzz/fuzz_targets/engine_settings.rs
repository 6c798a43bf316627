//! Docker's config.json and a context's meta.json, and podman's containers.conf.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

use bootrace_fuzz::{file, tree};

/// The context of the name `x`: the directory is the sha256 of its name.
const CONTEXT: &str =
    "contexts/meta/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881/meta.json";
static DIR: LazyLock<PathBuf> = LazyLock::new(|| tree(&["config.json", CONTEXT].map(PathBuf::from)));

bootrace_fuzz::target!(|data| {
    let file = file(data);
    bootrace::fuzzing::engine_settings(&DIR, file);
});
