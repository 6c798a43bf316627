//! Answers of Docker and podman, and a manifest in containerd's store.
#![no_main]

bootrace_fuzz::target!(|data| bootrace::fuzzing::engine(data));
