//! What `scripts/rehearse` can be asked for. What it does takes an emulator: `.ci/run` lets it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

fn run(script: &str, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    Command::new(script).args(arguments).output().unwrap()
}

fn words(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn each_part_that_is_listed_has_a_function_and_each_function_is_listed() {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rehearsal/guest");
    let text = fs::read_to_string(guest).unwrap();
    let functions: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("part_")?.strip_suffix("() {")).collect();
    let list = run("scripts/rehearse", &["--parts", "list"]);
    let list = String::from_utf8(list.stdout).unwrap();
    let listed: BTreeSet<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, functions);
    let all = words(&run("scripts/rehearsal/guest", &["--resolve", "all"]));
    assert_eq!(all.iter().map(String::as_str).collect::<BTreeSet<_>>(), functions);
}

#[test]
fn the_default_parts_are_those_that_ci_asks_for_and_an_unknown_part_or_suite_is_refused() {
    assert_eq!(
        words(&run("scripts/rehearsal/guest", &["--resolve", "default"])),
        ["doctor", "list", "run", "kill"]
    );
    assert_eq!(words(&run("scripts/rehearsal/guest", &["--resolve", "tcg,lxc"])), ["tcg", "lxc"]);
    for wrong in [&["--parts", "doctor,nothing"][..], &["ubuntu/warty"], &["--minutes", "soon"], &["--parts"]]
    {
        let refused = run("scripts/rehearse", wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", String::from_utf8_lossy(&refused.stderr));
    }
}
