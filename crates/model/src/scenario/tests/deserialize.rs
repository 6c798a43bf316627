//! Keys and values that do not fit the scenario's types, and files made to exhaust the reader.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::DeTable;

use super::{super::deserialize::read, *};

/// Each shape of type that serde knows and TOML has.
#[derive(Debug, PartialEq, Deserialize)]
struct Shapes {
    newtype: Newtype,
    floats: (f64, f64),
    limits: (i64, u64),
    map: BTreeMap<String, Option<bool>>,
    variants: Vec<Variant>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Newtype(char);

#[derive(Debug, PartialEq, Deserialize)]
enum Variant {
    Unit,
    Newtype(String),
    Tuple(u8, u8),
    Struct { a: u8 },
}

#[test]
fn every_shape_of_type_is_read_as_toml_reads_it() {
    fn same<T: for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(text: &str) {
        let table = DeTable::parse(text).unwrap().into_inner();
        assert_eq!(read::<T>(&table).unwrap(), toml::from_str(text).unwrap());
    }
    same::<Shapes>(
        r#"
newtype = "x"
floats = [-inf, 1_000.5e-3]
limits = [-9_223_372_036_854_775_808, 0xFFFF_FFFF_FFFF_FFFF]
map = { a = true, "b c" = false }
variants = ["Unit", { Newtype = "\u0041" }, { Tuple = [1, 0o17] }, { Struct = { a = 0b11 } }]
"#,
    );
    SHIPPED.iter().for_each(|(_, text)| same::<Scenario>(text));
}

fn all(cases: &[(&str, &str)]) {
    for (more, message) in cases {
        assert_eq!(wrong(more), format!("x.toml:{message}"));
    }
}

#[test]
fn a_missing_key_is_named_with_the_path_of_its_table() {
    all(&[
        (
            "work = {}",
            r#"5:8: workload.work.command: this key is missing: write the program and its arguments as a list of strings, as in ["sleep", "5"]"#,
        ),
        (
            "[workload.work]",
            r#"5:1: workload.work.command: this key is missing: write the program and its arguments as a list of strings, as in ["sleep", "5"]"#,
        ),
        (
            "[[claim]]\nsays = 'x'\ntarget = 'docker'\n[[claim]]\nsays = 'x'",
            "8:1: claim[1].target: this key is missing: write a string, in quotes",
        ),
    ]);
}

#[test]
fn an_unknown_value_in_a_list_has_the_place_of_the_value() {
    let one_of = r#"write one of "native", "docker", "libvirt", "podman", "lxc""#;
    assert_eq!(
        parse(&format!("target = [{{ kind = 'docker' }}, {{ kind = 'jail' }}]\n{LEAST}")).unwrap_err(),
        format!("x.toml:1:41: target[1].kind: 'jail' is not known here: {one_of}")
    );
    assert_eq!(
        wrong("[[target]]\nkind = 'docker'\n[[target]]\nkind = { jail = 1 }"),
        format!("x.toml:8:10: target[1].kind.jail: jail is not known here: {one_of}")
    );
}

#[test]
fn an_option_of_another_type_gets_the_fix() {
    all(&[
        (
            "[[target]]\nkind = 'libvirt'\nboot = 5",
            r#"7:8: target[0].boot: 5 is an integer: write one of "direct", "systemd", "firmware""#,
        ),
        (
            "[[target]]\nkind = 'libvirt'\nhugepages = [true]",
            "7:13: target[0].hugepages: a list does not fit here: write true or false",
        ),
        (
            "[[target]]\nkind = 'docker'\nnetwork = { host = true }",
            r#"7:11: target[0].network: a table does not fit here: write "none", "bridge", "host" or the name of a network of the engine, in quotes"#,
        ),
        (
            "[sampling]\nsettle = 1979-05-27",
            r#"6:10: sampling.settle: 1979-05-27 is a datetime: write a time as a string, as in "2s""#,
        ),
        (
            "[sampling]\npage_cache = { cold = {} }",
            r#"6:23: sampling.page_cache.cold: a table does not fit here: write "cold" or "warm""#,
        ),
        (
            "[sampling]\npage_cache = { cold = 1, warm = 1 }",
            r#"6:14: sampling.page_cache: a table does not fit here: write "cold" or "warm""#,
        ),
    ]);
}

#[test]
fn a_list_of_its_values_is_no_table() {
    all(&[
        (
            "work = [['true']]",
            r#"5:8: workload.work: a list does not fit here: write a table, as in { command = ["program", "argument"] }"#,
        ),
        (
            "[[sampling]]\nsamples = 5",
            "5:1: sampling: a list does not fit here: write a table, as in [sampling]",
        ),
    ]);
}

#[test]
fn a_number_that_no_type_can_hold_is_out_of_range() {
    for number in [
        "0x1_0000_0000",
        "0xFFFF_FFFF_FFFF_FFFF",
        "0x1_0000_0000_0000_0000",
        "0b1111_1111_1111_1111_1111_1111_1111_1111_1",
        "-9223372036854775809",
        "99999999999999999999999999999999999999999999",
    ] {
        assert_eq!(
            wrong(&format!("[sampling]\nsamples = {number}")),
            format!(
                "x.toml:6:11: sampling.samples: {number} is out of range: write a whole number from 1 to 2000"
            )
        );
    }
    let claim = "[[claim]]\nsays = 'x'\ntarget = 'docker'\nmetric = 'startup'\nat_most = 1e999";
    assert!(wrong(claim).starts_with("x.toml:9:11: claim[0].at_most: 1e999 is out of range: write "));
    assert_eq!(parse(&format!("{LEAST}[sampling]\nsamples = 0x1F")).unwrap().sampling.samples, 31);
}

#[test]
fn a_number_of_any_size_is_of_the_wrong_type_where_none_belongs() {
    let fix = r#"write a size as a string, as in "512MiB""#;
    for (number, kind) in [("0xFFFF_FFFF_FFFF_FFFF_F", "an integer"), ("1e999", "a float")] {
        assert_eq!(
            wrong(&format!("[resources]\nmemory = {number}")),
            format!("x.toml:6:10: resources.memory: {number} is {kind}: {fix}")
        );
    }
}

#[test]
fn a_key_is_given_once() {
    all(&[
        ("[sampling]\nsamples = 5\nsamples = 5", "7:1: this is not TOML: duplicate key"),
        ("[sampling]\n[sampling]", "6:2: this is not TOML: duplicate key"),
    ]);
}

#[test]
fn an_old_name_gets_the_new_one_where_that_is_known_and_only_whole() {
    all(&[
        ("[copy]", "5:2: copy: this key is called cow now"),
        ("[sampling]\ncache = 'cold'", "6:1: sampling.cache: this key is called page_cache now"),
        (
            "copy = 1",
            "5:1: workload.copy: unknown key: expected one of command, env, ready, user, work, network",
        ),
        ("[cow]\nfile = '1MiB'\n'copy`' = 1", "7:1: cow.\"copy`\": unknown key: expected one of file"),
        (
            "[[target]]\nkind = 'docker'\nstart = 'cold`'",
            r#"7:9: target[0].start: 'cold`' is not known here: write one of "create", "restart", "unpause", "restore""#,
        ),
    ]);
}

#[test]
fn a_list_that_is_left_out_causes_no_further_problem() {
    assert_eq!(
        parse(&format!("target = [{{ kind = 'libvirt', name = 'a', accel = 'kvm' }}, 5]\n{LEAST}"))
            .unwrap_err(),
        "x.toml:1:60: target[1]: 5 is an integer: write a table with two brackets for each target, as in [[target]]"
    );
}

/// The parser allows 80 tables inside each other, each with a key of 80 parts: a debug build takes 5 MiB of stack to drop
/// them.
#[test]
fn no_file_exhausts_the_main_threads_stack_or_floods_the_terminal() {
    let key = ["a"; 79].join(".");
    let deep = |levels| {
        format!("{LEAST}[{key}]\n{key} = {}1{}", format!("{{ {key} = ").repeat(levels), " }".repeat(levels))
    };
    let texts = [
        format!("x = {}", "[".repeat(LARGEST_FILE as usize - 4)),
        format!("x = {}1{}", "{ a = ".repeat(10_000), " }".repeat(10_000)),
        format!("{}a = 1", "a.".repeat(10_000)),
        format!("[{}a]", "a.".repeat(10_000)),
        (0..10_000).map(|n| format!("[t{n}]\n")).collect(),
        format!("{LEAST}{} = 1", "k".repeat(1_000_000)),
        format!("{LEAST}[sampling]\nsamples = {}", "9".repeat(1_000_000)),
        deep(77),
        deep(100),
    ];
    for text in texts {
        let start: String = text.chars().take(80).collect();
        let read = move || parse(&text).unwrap_err();
        let message = std::thread::Builder::new().stack_size(8 << 20).spawn(read).unwrap().join().unwrap();
        assert!(message.starts_with("x.toml:") && message.len() < 4000, "{start}: {message}");
    }
}
