//! The capabilities of libvirt and of its QEMU, logs of domains, and libvirt.conf.
#![no_main]

bootrace_fuzz::target!(|data| bootrace::fuzzing::libvirt(&String::from_utf8_lossy(data)));
