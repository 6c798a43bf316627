//! The fix for each key of a scenario: one sentence.

use std::borrow::Cow;

use super::path::Step;
use crate::kind::Kind;

/// The fix for a value at a path.
pub(super) fn of(path: &[Step]) -> Cow<'static, str> {
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
        .collect();
    if keys.starts_with(&["target", "kind"]) {
        let kinds: Vec<String> = Kind::ALL.iter().map(|kind| format!("\"{kind}\"")).collect();
        return format!("write one of {}", kinds.join(", ")).into();
    }
    let fix = match keys.as_slice() {
        ["build"] => "write a table, as in [build]",
        ["image"] => "write a table, as in [image]",
        ["workload"] => "write a table, as in [workload]",
        ["resources"] => "write a table, as in [resources]",
        ["sampling"] => "write a table, as in [sampling]",
        ["target"] => "write a table with two brackets for each target, as in [[target]]",
        ["claim"] => "write a table with two brackets for each claim, as in [[claim]]",
        ["gate"] => "write a table, as in [gate]",
        ["density"] => "write a table, as in [density]",
        ["density", "instances" | "vms"] => "write a whole number from 1 to 1000",
        ["density", "memory_left"] => r#"write a size as a string, as in "2GiB""#,
        ["density", "startup" | "settle"] => r#"write a time as a string, as in "60s""#,
        ["density", "bursts"] => "write a list of whole numbers from 1 to 256, as in [1, 4, 8]",
        ["density", "targets"] => r#"write a list of targets' names, as in ["docker"]"#,
        ["cow"] => "write a table, as in [cow]",
        ["cow", "file"] => r#"write the file's size as a string, as in "100MiB""#,
        ["claim", "is"] => "write true or false",
        ["gate", "metrics"] => r#"write a list of metrics, as in ["startup", "memory.footprint"]"#,
        ["gate", "margin"] => r#"write a percentage as a string, as in "5%""#,
        ["image", "packages"] => r#"write a list of package names, as in ["redis-server"]"#,
        ["image", "components"] => r#"write a list of names, as in ["main", "universe"]"#,
        ["build", "command"] => {
            r#"write the program and its arguments as a list of strings, as in ["make", "image"]"#
        }
        ["build", "program" | "keep"] => {
            r#"write a path inside the checkout as a string, as in "target/release/bootrace" or "target""#
        }
        ["workload", "command"] | ["workload", "work", "command"] => {
            r#"write the program and its arguments as a list of strings, as in ["sleep", "5"]"#
        }
        ["workload", "work"] => r#"write a table, as in { command = ["program", "argument"] }"#,
        ["workload", "env"] => r#"write a table of strings, as in { LANG = "C.UTF-8" }"#,
        ["workload", "user"] => {
            r#"write a user's name or number as a string, as in "redis", "1000" or "1000:1000""#
        }
        ["workload", "network"] => "write true or false",
        ["workload", "ready", "exit"] => "write an exit code from 0 to 255, as in { exit = 0 }",
        ["workload", "ready", "tcp"] => "write a port from 1 to 65535, as in { tcp = 6379 }",
        ["workload", "ready", "line"] => r#"write a regular expression, as in { line = "^ready$" }"#,
        ["workload", "ready", "file"] => r#"write an absolute path, as in { file = "/run/ready" }"#,
        ["workload", "ready", ..] => {
            r#"write one of { line = "REGEX" }, { tcp = PORT }, { exit = CODE }, { file = "/PATH" }"#
        }
        ["resources", "cpus"] => {
            r#"write a whole number from 1 to 1024, or CPUs of the host as a string, as in "2-3" or "0,2""#
        }
        ["resources", "memory"] => r#"write a size as a string, as in "512MiB""#,
        ["resources", "capabilities"] => {
            r#"write a list of names of capabilities(7) without CAP_, as in ["CHOWN", "NET_ADMIN"]"#
        }
        ["sampling", "samples"] => "write a whole number from 1 to 2000",
        ["sampling", "warmup"] => "write a whole number from 0 to 1000",
        ["sampling", "settle" | "idle" | "timeout"] => r#"write a time as a string, as in "2s""#,
        ["sampling", "page_cache", ..] => r#"write "cold" or "warm""#,
        ["claim", "at_most" | "at_least"] => {
            r#"write a time, a size or a percentage as a string, as in "2s", "512MiB" or "0.5%", or, with relative_to, a number of times, as in 100 or "1.5x""#
        }
        ["target", "boot", ..] => r#"write one of "direct", "systemd", "firmware""#,
        ["target", "firmware", ..] => r#"write "bios" or "uefi""#,
        ["target", "init", ..] => r#"write "agent" or "systemd""#,
        ["target", "start", ..] => r#"write one of "create", "restart", "unpause", "restore""#,
        ["target", "accel", ..] => r#"write one of "auto", "kvm", "tcg""#,
        ["target", "cpu_model"] => {
            r#"write "host-passthrough", "host-model" or a CPU model of QEMU, as in "max""#
        }
        ["target", "hugepages"] => "write true or false",
        ["target", "disk_cache", ..] => {
            r#"write one of "none", "writeback", "writethrough", "directsync", "unsafe""#
        }
        ["target", "uri"] => r#"write a libvirt on this host, as in "qemu:///system" or "lxc:///""#,
        ["target", "network"] => {
            r#"write "none", "bridge", "host" or the name of a network of the engine, in quotes"#
        }
        _ => "write a string, in quotes",
    };
    fix.into()
}

/// Keys and values of earlier versions, and their present names.
const RENAMED: [(&str, &str); 3] = [("copy", "cow"), ("cache", "page_cache"), ("cold", "create")];

/// The present name of a key or value of an earlier version, where it is one of the `known` ones.
pub(super) fn renamed(old: &str, known: &[&str]) -> Option<&'static str> {
    RENAMED.iter().find(|(name, new)| *name == old && known.contains(new)).map(|(_, new)| *new)
}
