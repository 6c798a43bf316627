//! Every rule by the message that a user gets when it is broken; long because each is spelt out.

use super::*;

mod build;
mod claims;
mod cloud;
mod cow;
mod density;
mod deserialize;
mod gate;
mod options;

/// The least that a scenario needs.
const LEAST: &str = r#"name = "x"
[workload]
command = ["true"]
ready = { exit = 0 }
"#;

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(text, "x.toml").map_err(|e| e.to_string())
}

/// The problems of [`LEAST`] continued with `more`, from line 5 on.
fn wrong(more: &str) -> String {
    parse(&format!("{LEAST}{more}")).unwrap_err()
}

fn wrong_or_none(more: &str) -> Option<String> {
    parse(&format!("{LEAST}{more}")).err()
}

/// The problems of a scenario with this `[workload]`.
fn wrong_workload(workload: &str) -> String {
    parse(&format!("name = \"x\"\n[workload]\n{workload}")).unwrap_err()
}

#[test]
fn the_least_scenario_gets_every_default() {
    let scenario = parse(LEAST).unwrap();
    assert_eq!(scenario.target_names(), "native, docker, libvirt");
    assert_eq!(scenario.image, Image::default());
    assert_eq!(scenario.resources, Resources::default());
    assert_eq!(scenario.sampling, Sampling::default());
    assert_eq!(scenario.gate, Gate { metrics: vec!["startup".into()], margin: None });
}

#[test]
fn no_error_repeats_a_character_that_a_terminal_obeys() {
    let error = wrong(
        "[[target]]\nkind = 'docker'\nname = \"\\u001b[2Jx\"\n[[target]]\nkind = 'native'\nname = \"a\tb\"\n\
         [[claim]]\nsays = 'fast'\nmetric = 'startup'\ntarget = 'vm'\nat_most = '1s'\n",
    );
    assert!(error.contains("the targets are [2Jx, a b"), "{error}");
    assert!(!error.chars().any(|c| c.is_control() && c != '\n'), "{error:?}");
}

#[test]
fn an_image_without_a_source_is_of_the_default_suite() {
    let image = |lines: &str| parse(&format!("{LEAST}[image]\n{lines}")).unwrap().image;
    let of = |image: Image| (image.suite, image.fallback);
    let noble = Some("ubuntu/noble".to_string());
    assert_eq!(of(image("packages = ['redis']")), (noble.clone(), Some("debian/bookworm".into())));
    assert_eq!(of(image("fallback = 'debian/trixie'")), (noble, Some("debian/trixie".into())));
    assert_eq!(of(image("suite = 'ubuntu/jammy'")), (Some("ubuntu/jammy".into()), None));
    assert_eq!(of(image("tarball = 'root.tar'")), (None, None));
    assert_eq!(of(image("registry = 'ubuntu:24.04'")), (None, None));
}

#[test]
fn a_resolved_scenario_reads_back_as_the_same() {
    for (name, text) in SHIPPED {
        let scenario = Scenario::parse(text, name).unwrap();
        let mut read = serde_json::from_value::<Scenario>(scenario.to_json()).unwrap();
        assert_eq!(read.sampling.page_cache, scenario.sampling.page_cache_state());
        // As strictly as a file, with all the rules.
        let checked = Scenario::from_json(&scenario.to_json(), "results.json").unwrap();
        assert_eq!(checked.to_json(), scenario.to_json(), "{name}");
        read.sampling.page_cache = scenario.sampling.page_cache;
        // Written once, and known where the image is.
        read.image.cow = read.cow;
        assert_eq!(read, scenario);
    }
}

#[test]
fn a_scenario_of_the_command_lines_options_reads_back_with_all_its_rules() {
    let (mut scenario, _) = find("starts").unwrap();
    scenario.select_targets(&[scenario.targets[1].name.clone()]).unwrap();
    scenario.set_samples(3).unwrap();
    scenario.set_warmup(0).unwrap();
    let mut json = scenario.to_json();
    assert_eq!(Scenario::from_json(&json, "results.json").unwrap().to_json(), json);
    json["image"]["suite"] = "--help".into();
    let error = Scenario::from_json(&json, "results.json").unwrap_err().to_string();
    assert!(error.contains("results.json") && error.contains("\"--help\" is not a suite"), "{error}");
    let (mut density, _) = find("density").unwrap();
    density.set_samples(0).unwrap();
    assert_eq!(Scenario::from_json(&density.to_json(), "results.json").unwrap().to_json(), density.to_json());
}

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_the_lines() {
    let text = r#"
name = "Big"
colour = "red"
[image]
suite = "fedora/40"
[workload]
command = ["true"]
ready = { exit = 0 }
[sampling]
settle = "2 sec"
samples = "ten"
"#;
    assert_eq!(
        parse(text).unwrap_err(),
        r#"x.toml:2:8: name: "Big" is not a name: write 1 to 64 of a-z, 0-9, '.', '_' and '-', with a letter or digit first
x.toml:3:1: colour: unknown key: expected one of name, description, build, image, workload, resources, sampling, cow, target, claim, gate, density
x.toml:5:9: image.suite: "fedora/40" is not a suite: write debian/SUITE or ubuntu/SUITE, as in "ubuntu/noble" or "debian/bookworm"
x.toml:10:10: sampling.settle: "2 sec" is not a time: write a whole number and ms, s or m, as in "2s"
x.toml:11:11: sampling.samples: "ten" is a string: write a whole number from 1 to 2000"#
    );
}

#[test]
fn a_toml_error_has_its_place() {
    assert_eq!(
        parse("name = \"x\"\nfoo = bar\n").unwrap_err(),
        "x.toml:2:7: this is not TOML: string values must be quoted, expected literal string"
    );
    for noise in ["\u{1b}[2J", "\u{0}", &"[".repeat(100_000), &"a.".repeat(100_000), "x = \"\u{1b}[2J\""] {
        let message = parse(noise).unwrap_err();
        assert!(message.starts_with("x.toml:1:"), "{message}");
        assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
    }
}

#[test]
fn unknown_keys_get_the_valid_ones_and_the_nearest() {
    assert_eq!(
        wrong("[sampling]\nsample = 5"),
        "x.toml:6:1: sampling.sample: unknown key (did you mean samples?): expected one of samples, warmup, settle, idle, timeout, page_cache"
    );
    assert_eq!(
        wrong("[[target]]\nkind = 'docker'\n[[target]]\nkind = 'libvirt'\nacel = 'kvm'"),
        "x.toml:9:1: target[1].acel: unknown key (did you mean accel?): expected one of name, kind, start, boot, firmware, accel, cpu_model, hugepages, disk_cache, uri, network, log_driver, runtime, init"
    );
}

#[test]
fn missing_keys_are_named_with_an_example() {
    assert_eq!(
        parse("name = 'x'").unwrap_err(),
        "x.toml:1:1: workload: this key is missing: write a table, as in [workload]"
    );
    assert_eq!(
        wrong_workload("command = ['true']"),
        r#"x.toml:2:1: workload.ready: this key is missing: write one of { line = "REGEX" }, { tcp = PORT }, { exit = CODE }, { file = "/PATH" }"#
    );
    assert_eq!(
        wrong("[[target]]\nname = 'x'"),
        r#"x.toml:5:1: target[0].kind: this key is missing: write one of "native", "docker", "libvirt", "podman", "lxc""#
    );
}

#[test]
fn values_of_another_type_get_the_fix() {
    for (more, message) in [
        (
            "[resources]\nmemory = 512",
            r#"x.toml:6:10: resources.memory: 512 is an integer: write a size as a string, as in "512MiB""#,
        ),
        (
            "[resources]\nmemory = '512MB'",
            r#"x.toml:6:10: resources.memory: "512MB" is not a size: write a whole number and B, KiB, MiB or GiB, as in "512MiB""#,
        ),
        (
            "[resources]\ncpus = 1.5",
            r#"x.toml:6:8: resources.cpus: 1.5 is a float: write a whole number from 1 to 1024, or CPUs of the host as a string, as in "2-3" or "0,2""#,
        ),
        (
            "[resources]\ncpus = -1",
            r#"x.toml:6:8: resources.cpus: -1 is out of range: write a whole number from 1 to 1024, or CPUs of the host as a string, as in "2-3" or "0,2""#,
        ),
        (
            "[sampling]\npage_cache = 'hot'",
            r#"x.toml:6:14: sampling.page_cache: 'hot' is not known here: write "cold" or "warm""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\ndisk_cache = 'some'",
            r#"x.toml:7:14: target[0].disk_cache: 'some' is not known here: write one of "none", "writeback", "writethrough", "directsync", "unsafe""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nhugepages = '2M'",
            "x.toml:7:13: target[0].hugepages: '2M' is a string: write true or false",
        ),
        (
            "[sampling]\nsamples = -1",
            "x.toml:6:11: sampling.samples: -1 is out of range: write a whole number from 1 to 2000",
        ),
        (
            "[sampling]\nsettle = '99999999999999999999s'",
            r#"x.toml:6:10: sampling.settle: "99999999999999999999s" is not a time: write a whole number and ms, s or m, as in "2s""#,
        ),
        (
            "[target]\nkind = 'docker'",
            "x.toml:5:1: target: a table does not fit here: write a table with two brackets for each target, as in [[target]]",
        ),
        (
            "[image]\npackages = 'redis'",
            r#"x.toml:6:12: image.packages: 'redis' is a string: write a list of package names, as in ["redis-server"]"#,
        ),
        (
            "[image]\npackages = [['redis']]",
            r#"x.toml:6:13: image.packages[0]: a list does not fit here: write a list of package names, as in ["redis-server"]"#,
        ),
        (
            "[[target]]\nkind = 'jail'",
            r#"x.toml:6:8: target[0].kind: 'jail' is not known here: write one of "native", "docker", "libvirt", "podman", "lxc""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nboot = 'grub'",
            r#"x.toml:7:8: target[0].boot: 'grub' is not known here: write one of "direct", "systemd", "firmware""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nboot = 'firmware'\nfirmware = 'coreboot'",
            r#"x.toml:8:12: target[0].firmware: 'coreboot' is not known here: write "bios" or "uefi""#,
        ),
        (
            "[[target]]\nkind = 'docker'\ninit = 'runit'",
            r#"x.toml:7:8: target[0].init: 'runit' is not known here: write "agent" or "systemd""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\naccel = 'hvf'",
            r#"x.toml:7:9: target[0].accel: 'hvf' is not known here: write one of "auto", "kvm", "tcg""#,
        ),
    ] {
        assert_eq!(wrong(more), message);
    }
}

#[test]
fn an_image_has_exactly_one_source_of_safe_characters() {
    for (lines, message) in [
        (
            "suite = 'ubuntu/noble'\nregistry = 'x'",
            "7:12: image.registry: give only one of suite, tarball, registry and cloud",
        ),
        (
            "tarball = 'x'\nfallback = 'debian/bookworm'",
            "7:12: image.fallback: this goes with a suite: leave it out for a tarball, registry or cloud image",
        ),
        (
            "suite = 'debian/sid'\nfallback = 'debian/sid'",
            "7:12: image.fallback: this is the suite itself: name another one, or leave it out",
        ),
        (
            "suite = 'debian/--x'",
            r#"6:9: image.suite: "debian/--x" is not a suite: write debian/SUITE or ubuntu/SUITE, as in "ubuntu/noble" or "debian/bookworm""#,
        ),
        (
            "packages = ['redis', '-oAPT::x']",
            r#"6:22: image.packages[1]: "-oAPT::x" is not a package name: write 2 to 100 of a-z, 0-9, '+', '.' and '-', with a letter or digit first"#,
        ),
        (
            "components = ['main', 'a b']",
            r#"6:23: image.components[1]: "a b" is not a component: write a-z, 0-9 and '-', as in "main" or "universe""#,
        ),
        (
            "mirror = 'http://me:secret@host/debian'",
            r#"6:10: image.mirror: "http://me:secret@host/debian" is not a mirror: write a http, https or file URL without user and password, as in "http://HOST/debian""#,
        ),
        (
            "registry = '--all'",
            r#"6:12: image.registry: "--all" is not an image reference: write [HOST/]NAME[:TAG][@DIGEST], as in "ubuntu:24.04""#,
        ),
        (
            "tarball = '-x.tar'",
            r#"6:11: image.tarball: "-x.tar" is not a file that can be used: write a path without control characters that does not start with '-'"#,
        ),
        (
            "keyring = ''",
            r#"6:11: image.keyring: "" is not a file that can be used: write a path without control characters that does not start with '-'"#,
        ),
    ] {
        assert_eq!(wrong(&format!("[image]\n{lines}")), format!("x.toml:{message}"));
    }
}

#[test]
fn a_workload_is_something_that_can_be_executed_and_awaited() {
    for (lines, message) in [
        (
            "command = []\nready = { exit = 0 }",
            r#"3:11: workload.command: there is no program to run: write it and its arguments, as in ["sleep", "5"]"#,
        ),
        (
            "command = ['']\nready = { exit = 0 }",
            r#"3:11: workload.command: there is no program to run: write it and its arguments, as in ["sleep", "5"]"#,
        ),
        (
            "command = ['a', \"\\u0000\"]\nready = { exit = 0 }",
            "3:11: workload.command: an argument contains a NUL byte, which no program can receive: remove it",
        ),
        (
            "command = ['a']\nready = { exit = 256 }",
            "4:18: workload.ready.exit: 256 is no exit code: write one from 0 to 255",
        ),
        (
            "command = ['a']\nready = { line = '' }",
            r#"4:18: workload.ready.line: an empty pattern matches every line: write what the line looks like, as in "^ready$""#,
        ),
        (
            "command = ['a']\nready = { line = '(' }",
            r#"4:18: workload.ready.line: "(" is not a regular expression: found open group without closing ')'"#,
        ),
        (
            "command = ['a']\nready = { tcp = 0 }",
            "4:17: workload.ready.tcp: 0 is no port to wait for: write one from 1 to 65535",
        ),
        (
            "command = ['a']\nready = { tcp = 70000 }",
            "4:17: workload.ready.tcp: 70000 is out of range: write a port from 1 to 65535, as in { tcp = 6379 }",
        ),
        (
            "command = ['a']\nready = { file = 'run/x' }",
            r#"4:18: workload.ready.file: "run/x" is not an absolute path: write it as the workload sees it, as in "/run/ready""#,
        ),
        (
            "command = ['a']\nready = { exit = 0 }\nwork = { command = [] }",
            r#"5:20: workload.work.command: there is no program to run: write it and its arguments, as in ["sleep", "5"]"#,
        ),
        (
            "command = ['a']\nready = { exit = 0 }\nenv = { '1 A' = 'x' }",
            r#"5:17: workload.env."1 A": this is not a variable's name: write letters, digits and '_', with no digit first"#,
        ),
        (
            "command = ['a']\nready = { exit = 0 }\nenv = { PATH = '/x' }",
            "5:16: workload.env.PATH: PATH is the same on every target and can't be set: name the program with its full path",
        ),
        (
            "command = ['a']\nready = { exit = 0 }\nenv = { A = \"\\u0000\" }",
            "5:13: workload.env.A: a variable can't have a NUL byte in it: leave it out",
        ),
    ] {
        assert_eq!(wrong_workload(lines), format!("x.toml:{message}"));
    }
}

#[test]
fn exactly_one_way_to_be_ready_is_given() {
    let one_of = r#"write one of { line = "REGEX" }, { tcp = PORT }, { exit = CODE }, { file = "/PATH" }"#;
    for (ready, what) in [
        ("'exit'", "9: workload.ready: 'exit' is a string"),
        ("{}", "9: workload.ready: this is not exactly one condition"),
        ("{ exit = 0, tcp = 1 }", "9: workload.ready: this is not exactly one condition"),
    ] {
        let message = wrong_workload(&format!("command = ['a']\nready = {ready}"));
        assert_eq!(message, format!("x.toml:4:{what}: {one_of}"));
    }
    assert_eq!(
        wrong_workload("command = ['a']\nready = { http = 80 }"),
        format!("x.toml:4:11: workload.ready.http: http is not known here: {one_of}")
    );
}

#[test]
fn commands_and_variables_fit_a_control_frame() {
    let long = "x".repeat(70_000);
    assert_eq!(
        wrong_workload(&format!("command = ['{long}']\nready = {{ exit = 0 }}\nenv = {{ A = '{long}' }}")),
        "x.toml:3:11: workload.command: the command is over 64 KiB: put long input into a file of the image\n\
         x.toml:5:7: workload.env: all variables together are over 64 KiB: use fewer or shorter ones"
    );
}

#[test]
fn resources_are_what_every_target_can_give() {
    let no_vm = "[[target]]\nkind = 'docker'\n[resources]\n";
    for (more, message) in [
        (
            "[resources]\ncpus = 0",
            "6:8: resources.cpus: 0 is out of range: write a whole number from 1 to 1024",
        ),
        (
            "[resources]\nmemory = '64MiB'",
            r#"6:10: resources.memory: 64MiB is out of range: write "80MiB" to "16384GiB" (a VM's kernel does not boot with less)"#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nboot = 'systemd'\n[resources]\nmemory = '128MiB'",
            r#"9:10: resources.memory: 128MiB is out of range: write "256MiB" to "16384GiB" (a VM that boots the whole system, by systemd or firmware, needs as much)"#,
        ),
        (
            &format!("{no_vm}memory = '4MiB'"),
            r#"8:10: resources.memory: 4MiB is out of range: write "6MiB" to "16384GiB" (Docker refuses lower limits)"#,
        ),
        (
            "[resources]\nmemory = '99999999B'",
            "6:10: resources.memory: 99999999B is not a whole number of MiB, which every target can limit exactly: write one, as in \"512MiB\"",
        ),
    ] {
        assert_eq!(wrong(more), format!("x.toml:{message}"));
    }
    assert!(parse(&format!("{LEAST}{no_vm}memory = '32MiB'")).is_ok());
}

#[test]
fn sampling_is_bounded() {
    for (line, message) in [
        ("samples = 0", "11: sampling.samples: 0 is out of range: write a whole number from 1 to 2000"),
        ("warmup = 1001", "10: sampling.warmup: 1001 is out of range: write a whole number from 0 to 1000"),
        (
            "settle = '11m'",
            r#"10: sampling.settle: 11m is out of range: write "0s" to "10m" (a longer wait adds nothing)"#,
        ),
        (
            "idle = '50ms'",
            r#"8: sampling.idle: 50ms is out of range: write "100ms" to "10m" (kernels may count CPU time in steps of 10ms; "0s" leaves the reading out)"#,
        ),
        (
            "timeout = '0s'",
            r#"11: sampling.timeout: 0s is out of range: write "100ms" to "1440m" (start-up takes time, and a day is the longest wait)"#,
        ),
    ] {
        assert_eq!(wrong(&format!("[sampling]\n{line}")), format!("x.toml:6:{message}"));
    }
    assert!(parse(&format!("{LEAST}[sampling]\nidle = '0s'\nsettle = '0s'\nwarmup = 0")).is_ok());
}

#[test]
fn targets_have_names_of_their_own_and_options_of_their_kind() {
    for (more, message) in [
        (
            "[[target]]\nkind = 'docker'\n[[target]]\nkind = 'docker'",
            r#"7:1: target[1].name: target[0] is called "docker" too: give each a name of its own"#,
        ),
        (
            "[[target]]\nkind = 'docker'\nname = '../x'",
            r#"7:8: target[0].name: "../x" is not a name: write 1 to 64 of a-z, 0-9, '.', '_' and '-', with a letter or digit first"#,
        ),
        (
            "[[target]]\nkind = 'docker'\naccel = 'kvm'",
            r#"7:9: target[0].accel: this is for kind = "libvirt" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'native'\nboot = 'direct'",
            r#"7:8: target[0].boot: this is for kind = "libvirt" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'docker'\nfirmware = 'bios'",
            r#"7:12: target[0].firmware: this is for kind = "libvirt" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nboot = 'systemd'\nfirmware = 'bios'",
            r#"8:12: target[0].firmware: this goes with boot = "firmware": write that too, or leave this out"#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\ninit = 'systemd'",
            r#"7:8: target[0].init: this is for kind = "docker" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'docker'\ncpu_model = 'max'",
            r#"7:13: target[0].cpu_model: this is for kind = "libvirt" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'native'\nhugepages = false",
            r#"7:13: target[0].hugepages: this is for kind = "libvirt" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'docker'\ndisk_cache = 'none'",
            r#"7:14: target[0].disk_cache: this is for kind = "libvirt" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nnetwork = 'bridge'",
            r#"7:11: target[0].network: this is for kind = "docker" or "podman" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'native'\nlog_driver = 'local'",
            r#"7:14: target[0].log_driver: this is for kind = "docker" or "podman" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nruntime = 'runc'",
            r#"7:11: target[0].runtime: this is for kind = "docker" only: leave it out here"#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\ncpu_model = \"x'/>\"",
            r#"7:13: target[0].cpu_model: "x'/>" is not a CPU model: write "host-passthrough", "host-model", or letters, digits, '.', '_' and '-' as in "qemu64" or "Skylake-Server""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\ncpu_model = 'host-passthrough'\naccel = 'tcg'",
            r#"7:13: target[0].cpu_model: emulation (accel = "tcg") has no host CPU to pass through: write "max" for all features that it has, or accel = "kvm""#,
        ),
        (
            "[[target]]\nkind = 'docker'\nnetwork = 'container:x'",
            r#"7:11: target[0].network: "container:x" is not a network: write letters, digits, '.', '_', '-', with a letter or digit first, as in "bridge""#,
        ),
        (
            "[[target]]\nkind = 'docker'\nruntime = '/bin/sh'",
            r#"7:11: target[0].runtime: "/bin/sh" is not a runtime: write letters, digits, '.', '_', '-', with a letter or digit first, as in "runc""#,
        ),
        (
            "[[target]]\nkind = 'docker'\nlog_driver = ''",
            r#"7:14: target[0].log_driver: "" is not a log driver: write letters, digits, '.', '_', '-', '/', ':', with a letter or digit first, as in "json-file""#,
        ),
    ] {
        assert_eq!(wrong(more), format!("x.toml:{message}"));
    }
    assert!(
        wrong("[[target]]\nkind = 'docker'\nname = ''")
            .starts_with(r#"x.toml:7:8: target[0].name: "" is not a name"#)
    );
    assert_eq!(
        parse(&format!("target = []\n{LEAST}")).unwrap_err(),
        r#"x.toml:1:10: target: there is no target: write [[target]] and kind = "docker", say, below it"#
    );
    let many = (0..65).map(|n| format!("[[target]]\nkind = 'docker'\nname = 't{n}'\n")).collect::<String>();
    assert_eq!(wrong(&many), "x.toml:5:1: target: 65 targets are too many: write up to 64");
}

#[test]
fn packages_cannot_be_added_to_a_tarball() {
    assert_eq!(
        wrong("[image]\ntarball = 'root.tar'\npackages = ['redis']\n"),
        "x.toml:7:12: image.packages: packages can't be added to a tarball: put them into it, or use suite or registry"
    );
}

#[test]
fn text_of_a_scenario_is_escaped_and_cut_before_it_is_shown() {
    let message = wrong("\"\\u001b[2J\" = 1");
    assert!(message.starts_with(r#"x.toml:5:1: workload."\u{1b}[2J": unknown key"#), "{message}");
    let long = "y".repeat(100_000);
    for more in
        [format!("[image]\nsuite = '{long}'"), format!("{long} = 1"), format!("[resources]\ncpus = '{long}'")]
    {
        let message = wrong(&more);
        assert!(message.len() < 400, "{} bytes", message.len());
    }
}

#[test]
fn no_damage_to_a_scenario_makes_it_panic_or_its_message_active() {
    let (_, whole) = SHIPPED[4];
    let bytes = (0..whole.len()).filter(|at| whole.is_char_boundary(*at) && whole.is_char_boundary(at + 1));
    for at in bytes {
        let (before, after) = (&whole[..at], &whole[at + 1..]);
        for damage in ["", "]", "\"", "\u{202e}"] {
            for text in [format!("{before}{damage}"), format!("{before}{damage}{after}")] {
                let Err(message) = parse(&text) else { continue };
                assert!(message.lines().all(|line| line.starts_with("x.toml:")), "{message:?}");
                assert!(!message.contains('\u{202e}'), "{message:?}");
            }
        }
    }
}

#[test]
fn a_flood_of_errors_is_cut_short() {
    let keys: String = (0..5000).map(|n| format!("key{n} = 1\n")).collect();
    assert_eq!(wrong(&keys).lines().count(), 20);
}

#[test]
fn files_that_are_no_scenarios_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let message = Scenario::load(&path).unwrap_err().to_string();
        message.replace(&folder.path().display().to_string(), "DIR")
    };
    assert_eq!(
        error("big", &vec![b'#'; 1 << 20 | 1]),
        "reading the scenario DIR/big: it is larger than 1 MiB, the limit for a scenario: name the TOML file"
    );
    assert_eq!(
        error("latin1", b"name = \"\xe9\""),
        "reading the scenario DIR/latin1: it is not UTF-8 text: name the TOML file, or save it as UTF-8"
    );
    let message = Scenario::load(folder.path()).unwrap_err().to_string();
    assert!(message.ends_with(": Is a directory (os error 21)"), "{message}");
}

#[test]
fn targets_are_selected_by_name_in_the_scenarios_order_with_their_claims() {
    let claim = |target| format!("[[claim]]\nsays='x'\nmetric='startup'\ntarget='{target}'\nat_most='2s'\n");
    let all = parse(&format!("{LEAST}{}{}", claim("docker"), claim("libvirt"))).unwrap();
    let select = |names: &[&str]| {
        let mut scenario = all.clone();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        scenario.select_targets(&names).map_err(|e| e.to_string()).map(|()| scenario)
    };
    assert_eq!(select(&[]).unwrap(), all);
    let some = select(&["docker", "native"]).unwrap();
    assert_eq!(some.target_names(), "native, docker");
    assert_eq!(some.claims.iter().map(|claim| claim.target.as_str()).collect::<Vec<_>>(), ["docker"]);
    assert_eq!(
        select(&["dokcer"]).unwrap_err(),
        r#"scenario x has no target "dokcer" (did you mean docker?): its targets are native, docker, libvirt"#
    );
}

#[test]
fn sizes_and_times_are_written_as_they_are_read() {
    for text in ["512MiB", "1GiB", "1500KiB", "7B", "0B"] {
        assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
    }
    for text in ["2s", "500ms", "1500ms", "2m", "0s"] {
        assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
    }
    for text in ["", "5", "s", "-1s", "1.5s", "2 sec", "1h", "18446744073709551615m"] {
        assert!(text.parse::<Span>().is_err(), "{text}");
    }
    for text in ["5%", "0.5%", "99.999999%", "0%", "7%", "0.000001%", "123456.7%"] {
        assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
    }
    for text in
        ["", "%", "5", "-5%", "+5%", "1e3%", "5%%", ".5%", "5.%", "nan%", "inf%", "0.1234567%", "1234567%"]
    {
        assert!(text.parse::<Share>().is_err(), "{text}");
    }
    for text in ["", "5", "MiB", "512MB", "512M", "1.5GiB", "18446744073709551615GiB"] {
        assert!(text.parse::<Bytes>().is_err(), "{text}");
    }
}
