//! The program's own parsers of untrusted bytes, for the fuzz targets of `fuzz/` and the properties below. No other
//! build has this module.
//!
//! Each function hands an input to the parsers of one kind. A parser that reads a file gets the input as that file.

use std::path::{Path, PathBuf};

use crate::{
    calibration::noise,
    cli::{self, side, source},
    image::{
        self, Error, address, cloud,
        definition::{Distribution, Suite},
        docker,
        docker_config::DockerConfig,
        kernel, login, manifest, podman, suite, tool, tree,
    },
    probe::{
        cgroup,
        host::root::Root,
        huge,
        kvm::access::{self, User},
        limits, overlay, process,
    },
    sample,
    scenario::{Bound, Bytes, CpuList, Share, Span},
    sys::{mounts, signals},
    target::{
        container::{disk, inspect, options, runtime},
        libvirt::{driver, fix, log},
        vm,
    },
};

/// The head of a cloud image's file, whose size is `file_bytes`.
pub fn qcow2(head: &[u8], file_bytes: u64) {
    if let Ok(header) = cloud::qcow2::check(head, file_bytes) {
        assert!(header.disk_bytes <= cloud::qcow2::LARGEST_DISK);
    }
}

/// What partx and blkid say about the disk of a cloud image.
pub fn partitions(text: &str, disk_bytes: u64) {
    for partition in cloud::partitions::parse(text, disk_bytes).into_iter().flatten() {
        assert!(partition.start > 0 && partition.start + partition.bytes <= disk_bytes);
    }
    cloud::partitions::names(text);
}

/// The fstab of a cloud image.
pub fn fstab(text: &str) {
    let partition = cloud::partitions::Partition { number: 1, start: 1, bytes: 1, uuid: "aa-bb".into() };
    let file_system = cloud::partitions::Ext4 { uuid: "01-02".into(), label: "BOOT".into() };
    for entry in cloud::fstab::read(text).into_iter().flatten() {
        let outside = entry.at.split('/').any(|part| part == "..");
        assert!(!(outside && entry.means(&partition, &file_system)), "{entry:?}");
        assert!(entry.at.starts_with('/'), "{entry:?}");
    }
}

/// The os-release of an image, its cloud-init's settings, and tar's listing of its archive.
pub fn tree(text: &str) {
    let (distribution, suite) = tree::system_of(text);
    assert!(!(distribution + &suite).chars().any(char::is_control));
    text.lines().for_each(|line| {
        tree::sound::member(line);
    });
    let files = [("cloud.cfg".to_owned(), text.to_owned())];
    cloud::cloud_init::List::last(&files, "datasource_list");
}

/// The lists of modules of an image's kernel, and the names of its kernels.
pub fn modules(dep: &str, builtin: &str, softdep: &str, alias: &str) {
    kernel::by_version(dep, alias);
    let lists = kernel::Lists {
        dep: dep.into(),
        builtin: builtin.into(),
        softdep: softdep.into(),
        alias: alias.into(),
    };
    let _ = lists.order();
}

/// Answers of Docker and podman, and a manifest in containerd's store.
pub fn engine(json: &[u8]) {
    if let Ok(info) = serde_json::from_slice(json) {
        disk::Store::of(&info);
        image::has_containerd_store(&info);
        for name in info.runtimes.iter().flatten().map(|(name, _)| name) {
            runtime::reported(name, &info);
            runtime::program(name, &info);
        }
        let plugins = info.plugins.and_then(|plugins| plugins.log).unwrap_or_default();
        let _ = options::has("none", plugins, "fix");
    }
    if let Ok(container) = serde_json::from_slice(json) {
        disk::reported(&container);
        disk::manifest(&container);
    }
    if let Ok(image) = serde_json::from_slice(json) {
        docker::is_of(image, "0123");
    }
    if let Ok(images) = serde_json::from_slice(json) {
        docker::named(images, "/cache");
    }
    if let Ok(version) = serde_json::from_slice(json) {
        inspect::component(&version, "Engine");
    }
    drop(serde_json::from_slice::<disk::Manifest>(json));
    drop(serde_json::from_slice::<podman::Refusal>(json));
    runtime::parse(&String::from_utf8_lossy(json));
}

/// Docker's settings and a context's, which lie in `dir`; `file` is podman's `containers.conf`.
pub fn engine_settings(dir: &Path, file: &Path) {
    if let Ok(config) = DockerConfig::read(dir.into()) {
        let context = config.current_context().unwrap_or("x").to_owned();
        let _ = config.address(&context);
        config.helper("r");
        if let Some(login) = config.login("r") {
            let _ = login::kept(login, "r");
        }
    }
    let usual = address::Usual { name: "Docker", uri: "unix:///run/docker.sock" };
    // The settings of this process are none of the input.
    let none = |_: &str| None;
    if let Err(refused) = address::of_docker(&usual, none, || DockerConfig::read(dir.into())) {
        printable(&refused.refusal.to_string());
    }
    address::is_remote(file);
}

/// The capabilities of a libvirt and its QEMU, and their logs and settings.
pub fn libvirt(text: &str) {
    vm::inspect::Offers::parse(text, "x86_64");
    if let Ok(models) = vm::options::Models::parse(text) {
        let _ = models.has("qemu64");
    }
    log::relevant_lines(text).iter().for_each(|line| printable(line));
    driver::uri_default(text);
    fix::of(text);
}

/// Files of the kernel and of this host's users. All files below `root` are the input, and so is `file`. Each takes
/// several system calls: the input's first byte, which is no part of the text, says which are read.
pub fn kernel_files(part: u8, text: &str, root: &Path, file: &Path) {
    let host = Root(root.into());
    match part % 8 {
        1 => drop(host.facts()),
        2 => drop(host.noise()),
        3 => drop(host.totals()),
        4 => drop(host.memory()),
        5 => drop((host.cpu_khz(), host.processor_emulator(None), host.virtualised(None))),
        6 => {
            if let Ok(stat) = cgroup::Stat::read(file) {
                stat.find("anon");
            }
            for unified in [true, false] {
                let _ = cgroup::CpuTime::open(root, unified).and_then(|time| time.read_ns());
            }
        }
        7 => drop((process::pss(root), huge::Pool::read_from(file))),
        _ => kernel_texts(text),
    }
}

fn kernel_texts(text: &str) {
    let mounts = cgroup::Mounts::parse(text);
    mounts.hierarchy();
    let places = cgroup::Places::parse(text);
    for controller in ["", "memory", "cpu"] {
        if let Some(path) = places.own(controller, &places) {
            mounts.dir(controller, path);
        }
        places.within(controller, "/a");
    }
    process::Stat::parse(text);
    limits::parse(text);
    overlay::parse(text);
    mounts::parse(text, Path::new("/a"));
    signals::ignored(text);
    User::find(&access::users(text), text, text);
}

/// What mmdebstrap and other programs print, and a table of suites in the directory `tables`.
pub fn tools(output: &[u8], tables: &Path) {
    let suite = Suite {
        distribution: Distribution::Debian,
        name: "bookworm".into(),
        mirror: None,
        keyring: None,
        components: vec!["main".into()],
    };
    let said = tool::meaningful(output);
    printable(&said);
    let error: Error = suite::explain(&suite, "ended with exit code 1", &said);
    printable(&error.to_string());
    let _ = suite::known(&suite, tables);
}

/// A manifest in the cache, and the record of a host's noise.
pub fn records(file: &Path) {
    manifest::read_json::<manifest::Manifest<serde_json::Value>>(file);
    let _ = noise::load_from(file, &sample::Host::default());
}

/// Values on the command line, and lines between the sides of an A/B.
pub fn options_of(text: &str) {
    let _ = text.parse::<Bytes>();
    let _ = text.parse::<Span>();
    let _ = text.parse::<Share>();
    let _ = text.parse::<Bound>();
    let _ = text.parse::<CpuList>();
    let _ = cli::metric(text);
    let _ = cli::compare::percent(text);
    source::web(text);
    login::registry_of(text);
    let _ = text.parse::<side::SideConfig>();
    drop(serde_json::from_str::<side::Event>(text));
}

/// The event file of a CI.
pub fn event(file: &Path) {
    source::head_of(file);
}

/// Places of files below `root` that [`kernel_files`] reads.
pub fn kernels_paths() -> Vec<PathBuf> {
    [
        "cpu.stat",
        "cpuacct.usage",
        "smaps_rollup",
        "proc/stat",
        "proc/loadavg",
        "proc/vmstat",
        "proc/meminfo",
        "proc/cpuinfo",
        "proc/pressure/cpu",
        "proc/pressure/io",
        "proc/pressure/memory",
        "proc/sys/kernel/random/boot_id",
        "proc/sys/vm/swappiness",
        "sys/class/dmi/id/bios_vendor",
        "sys/class/dmi/id/product_name",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
        "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
        "sys/devices/system/cpu/cpufreq/policy0/related_cpus",
        "sys/devices/system/cpu/smt/active",
        "sys/devices/system/cpu/vulnerabilities/meltdown",
        "sys/kernel/mm/ksm/pages_sharing",
        "sys/kernel/mm/transparent_hugepage/enabled",
        "sys/module/kvm_intel/parameters/nested",
    ]
    .map(PathBuf::from)
    .into()
}

fn printable(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::{
        collection::vec,
        prelude::*,
        sample::{Index, select},
    };

    use super::*;

    /// The inputs of a fuzz target's corpus, each with a few bytes removed and added.
    fn damaged(target: &str) -> impl Strategy<Value = Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).unwrap()).collect();
        inputs.sort();
        let changes = vec((any::<Index>(), 0..4_usize, vec(any::<u8>(), 0..4)), 0..8);
        (select(inputs), changes).prop_map(|(mut input, changes)| {
            for (at, removed, added) in changes {
                let at = at.index(input.len() + 1);
                let end = (at + removed).min(input.len());
                input.splice(at..end, added);
            }
            input
        })
    }

    fn damaged_text(target: &str) -> impl Strategy<Value = String> {
        damaged(target).prop_map(|input| String::from_utf8_lossy(&input).into_owned())
    }

    proptest! {
        #[test]
        fn a_damaged_head_of_a_qcow2_promises_no_larger_disk_than_allowed(head in damaged("qcow2")) {
            qcow2(&head, u64::MAX);
        }

        #[test]
        fn a_damaged_table_of_partitions_leads_out_of_no_disk(text in damaged_text("partitions")) {
            partitions(&text, 8 << 30);
        }

        #[test]
        fn a_damaged_fstab_mounts_nothing_outside_of_the_image(text in damaged_text("fstab")) {
            fstab(&text);
        }

        #[test]
        fn damaged_settings_of_an_image_are_shown_without_control_characters(text in damaged_text("tree")) {
            tree(&text);
        }

        #[test]
        fn damaged_lists_of_modules_end(text in damaged_text("modules")) {
            let lists: Vec<&str> = text.split('\u{c}').collect();
            let list = |n: usize| lists.get(n).copied().unwrap_or_default();
            modules(list(0), list(1), list(2), list(3));
        }

        #[test]
        fn damaged_answers_of_an_engine_are_no_panic(json in damaged("engine")) {
            engine(&json);
        }

        #[test]
        fn damaged_capabilities_and_logs_are_shown_without_control_characters(text in damaged_text("libvirt")) {
            libvirt(&text);
        }

        #[test]
        fn damaged_values_of_options_are_no_panic(text in damaged_text("options")) {
            options_of(&text);
        }
    }
}
