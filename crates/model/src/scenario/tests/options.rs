//! The rules for CPUs, page cache and options of engines.

use super::*;

#[test]
fn cpus_are_a_number_of_them_or_a_list_as_the_kernel_writes_it() {
    let cpus = |value: &str| parse(&format!("{LEAST}[resources]\ncpus = {value}")).map(|s| s.resources.cpus);
    for (value, count, listed) in [
        ("3", 3, None),
        ("'2-3'", 2, Some(vec![2, 3])),
        ("'7,0-2'", 4, Some(vec![0, 1, 2, 7])),
        ("'5'", 1, Some(vec![5])),
    ] {
        let cpus = cpus(value).unwrap();
        assert_eq!(cpus.count(), count, "{value}");
        // As it was written, also in the results.
        assert_eq!(cpus.to_string(), value.trim_matches('\''));
        assert_eq!(serde_json::to_string(&cpus).unwrap().replace('"', "'"), value);
        match (cpus, listed) {
            (CpuChoice::Count(_), None) => {}
            (CpuChoice::List(list), Some(listed)) => assert!(list.cpus().iter().eq(&listed)),
            other => panic!("{other:?}"),
        }
    }
    for (list, why) in [
        ("", r#""" is no number from 0 to 1023"#),
        ("2-", r#""" is no number from 0 to 1023"#),
        ("2, 3", r#"" 3" is no number from 0 to 1023"#),
        ("+1", r#""+1" is no number from 0 to 1023"#),
        ("0-7:2/4", r#""7:2/4" is no number from 0 to 1023"#),
        ("1024", r#""1024" is no number from 0 to 1023"#),
        ("0-99999999999", r#""99999999999" is no number from 0 to 1023"#),
        ("3-2", r#""3-2" runs backwards"#),
        ("0-2,1", "CPU 1 is in it twice"),
    ] {
        let message = format!(
            "x.toml:6:8: resources.cpus: {list:?} is not a list of CPUs: {why}; write CPUs of the host as the kernel \
             does, as in \"2-3\" or \"0,2\""
        );
        assert_eq!(cpus(&format!("'{list}'")).unwrap_err(), message);
    }
}

#[test]
fn the_page_cache_is_warm_where_something_warms_it_unless_it_is_to_be_cold() {
    let sampling = |lines: &str| parse(&format!("{LEAST}[sampling]\n{lines}")).unwrap();
    for (lines, cache) in [
        ("", Some(PageCache::Warm)),
        ("warmup = 0", None),
        ("page_cache = 'warm'", Some(PageCache::Warm)),
        ("page_cache = 'cold'", Some(PageCache::Cold)),
        ("page_cache = 'cold'\nwarmup = 0", Some(PageCache::Cold)),
    ] {
        let scenario = sampling(lines);
        assert_eq!(scenario.sampling.page_cache_state(), cache, "{lines}");
        let resolved = &scenario.to_json()["sampling"]["page_cache"];
        assert_eq!(resolved, &cache.map_or(serde_json::Value::Null, |c| serde_json::to_value(c).unwrap()));
    }
    let never = "no warm-up round fills the page cache";
    assert_eq!(
        wrong("[sampling]\nwarmup = 0\npage_cache = 'warm'"),
        format!("x.toml:7:14: sampling.page_cache: {never}: write warmup = 1 or more, or leave this out")
    );
    assert!(sampling("").set_warmup(0).is_ok(), "nobody asked for a warm cache");
    let error = sampling("page_cache = 'warm'").set_warmup(0).unwrap_err().to_string();
    assert!(error.contains(never), "{error}");
}

#[test]
fn two_targets_of_a_kind_differ_by_name_and_keep_their_options() {
    let scenario = parse(&format!(
        "{LEAST}[[target]]\nkind = 'docker'\nnetwork = 'host'\nruntime = 'runc'\n\
         [[target]]\nkind = 'docker'\nname = 'logged'\nlog_driver = 'json-file'\n\
         [[target]]\nkind = 'libvirt'\ncpu_model = 'Skylake-Server'\nhugepages = true\ndisk_cache = 'none'\n"
    ));
    let scenario = scenario.unwrap();
    assert_eq!(scenario.target_names(), "docker, logged, libvirt");
    let [docker, logged, libvirt] = scenario.targets.as_slice() else { panic!("{:?}", scenario.targets) };
    let (docker, container) = (docker.docker().unwrap(), logged.container().unwrap());
    assert_eq!(
        (docker.container.network.as_deref(), docker.runtime.as_deref()),
        (Some("host"), Some("runc"))
    );
    assert_eq!((container.network.as_deref(), container.log_driver.as_deref()), (None, Some("json-file")));
    let libvirt = libvirt.vm().unwrap();
    assert_eq!(libvirt.cpu_model.as_deref(), Some("Skylake-Server"));
    assert_eq!((libvirt.hugepages, libvirt.disk_cache), (Some(true), Some(DiskCache::None)));
}

#[test]
fn a_container_without_a_network_contradicts_a_workload_that_needs_one() {
    let with = |network: &str| {
        wrong_or_none(&format!("network = true\n[[target]]\nkind = 'docker'\nnetwork = '{network}'"))
    };
    assert_eq!(
        with("none").unwrap(),
        r#"x.toml:8:11: target[0].network: this contradicts workload.network = true: write "bridge", "host" or a network of the engine, or leave one of the two out"#
    );
    for network in ["bridge", "host", "mine"] {
        assert_eq!(with(network), None, "{network}");
    }
}

#[test]
fn a_restart_needs_an_engine_that_keeps_instances() {
    for (target, why) in [
        (
            "kind = 'native'\nstart = 'restart'",
            "target[0].start: kind = \"native\" has no start = \"restart\": write \"create\", or leave this out",
        ),
        (
            "kind = 'docker'\nstart = 'again'",
            r#"target[0].start: 'again' is not known here: write one of "create", "restart", "unpause", "restore""#,
        ),
        ("kind = 'docker'\nstart = 'cold'", r#"target[0].start: 'cold' is called "create" now"#),
        (
            "kind = 'docker'\nstart = 'restore'",
            r#"a container that is frozen and resumed is "unpause": write "create" or "restart" or "unpause""#,
        ),
        (
            "kind = 'libvirt'\nstart = 'unpause'",
            r#"a VM that is saved and restored is "restore": write "create" or "restart" or "restore""#,
        ),
    ] {
        let message = parse(&format!("{LEAST}[[target]]\n{target}")).unwrap_err();
        assert!(message.contains(why), "{message}");
    }
    let waits = LEAST.replace("{ exit = 0 }", "{ line = 'x' }");
    for start in ["create", "restart", "unpause"] {
        parse(&format!("{waits}[[target]]\nkind = 'docker'\nstart = '{start}'")).unwrap();
    }
    let message = parse(&format!("{LEAST}[[target]]\nkind = 'libvirt'\nstart = 'restore'")).unwrap_err();
    assert!(message.contains("a workload that is ready when it ends has nothing to restore"), "{message}");
}

#[test]
fn options_of_two_kinds_are_good_for_both_and_named_with_both_elsewhere() {
    let with = |kind: &str, option: &str| {
        wrong_or_none(&format!("[[target]]\nkind = '{kind}'\n{option}")).map(|message| {
            message.split_once(": target[0].").map_or(message.clone(), |(_, rest)| rest.into())
        })
    };
    for (kind, option) in [
        ("podman", "network = 'bridge'"),
        ("podman", "log_driver = 'k8s-file'"),
        ("lxc", "uri = 'lxc:///'"),
        ("libvirt", "uri = 'qemu:///session'"),
    ] {
        assert_eq!(with(kind, option), None, "{kind} {option}");
    }
    for (kind, option, message) in [
        (
            "lxc",
            "network = 'bridge'",
            r#"network: this is for kind = "docker" or "podman" only: leave it out here"#,
        ),
        (
            "docker",
            "uri = 'lxc:///'",
            r#"uri: this is for kind = "libvirt" or "lxc" only: leave it out here"#,
        ),
        ("podman", "runtime = 'crun'", r#"runtime: this is for kind = "docker" only: leave it out here"#),
        ("lxc", "accel = 'tcg'", r#"accel: this is for kind = "libvirt" only: leave it out here"#),
    ] {
        assert_eq!(with(kind, option).as_deref(), Some(message), "{kind} {option}");
    }
    let remote = with("libvirt", "uri = 'qemu+ssh://elsewhere/system'").unwrap();
    assert!(remote.starts_with("uri: this libvirt is reached over a network"), "{remote}");
}

#[test]
fn a_scenario_without_targets_gets_the_three_standard_ones() {
    assert_eq!(parse(LEAST).unwrap().target_names(), "native, docker, libvirt");
    let named = parse(&format!("{LEAST}[[target]]\nkind = 'podman'\n[[target]]\nkind = 'lxc'\n")).unwrap();
    assert_eq!(named.target_names(), "podman, lxc");
    let renamed = parse(&format!("{LEAST}[[target]]\nkind = 'lxc'\nname = 'libvirt-lxc'\n")).unwrap();
    assert_eq!(renamed.target_names(), "libvirt-lxc");
}
