use bootrace::{analysis::analyse, report, sample::Results};

use crate::example;

fn table(results: &Results, color: bool) -> String {
    report::table_within(results, &analyse(results), color, report::WIDTH)
}

#[test]
fn the_table_of_a_run_with_all_that_can_go_wrong() {
    insta::assert_snapshot!(table(&example::results(), false));
}

#[test]
fn the_table_of_a_clean_run() {
    insta::assert_snapshot!(table(&example::clean(), false));
}

#[test]
fn no_line_is_wider_than_the_terminal_however_many_targets_there_are() {
    let mut results = example::results();
    for i in 0..4 {
        let mut target = results.targets[i % 3].clone();
        let old = target.name.clone();
        target.name = format!("{old}-with-a-rather-long-name-{i}");
        let mut more: Vec<_> = results.samples.iter().filter(|s| s.target == old).cloned().collect();
        more.iter_mut().for_each(|s| s.target = target.name.clone());
        results.samples.extend(more);
        results.targets.push(target);
    }
    for width in [100, 80, 60, 48] {
        let table = report::table_within(&results, &analyse(&results), false, width);
        for line in table.lines() {
            assert!(line.chars().count() <= width, "{} columns: {line}", line.chars().count());
        }
        for target in &results.targets {
            assert!(table.contains(&target.name[..12.min(target.name.len())]), "{} at {width}", target.name);
        }
    }
}

#[test]
fn without_colour_no_control_character_is_left_and_with_colour_only_our_own() {
    let results = example::results();
    assert!(!table(&results, false).contains(|c: char| c.is_control() && c != '\n'));
    let stripped = anstream::adapter::strip_str(&table(&results, true)).to_string();
    assert_eq!(stripped, table(&results, false));
}

#[test]
fn long_names_that_differ_anywhere_are_distinguishable_in_every_output() {
    let name = |i: usize| format!("{}-{i}-{}", "x".repeat(30), "y".repeat(31));
    let mut results = example::results();
    for i in 0..3 {
        let old = std::mem::replace(&mut results.targets[i].name, name(i));
        results.samples.iter_mut().filter(|s| s.target == old).for_each(|s| s.target = name(i));
    }
    let dir = tempfile::tempdir().unwrap();
    report::write(&results, dir.path()).unwrap();
    let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
    for i in 0..3 {
        assert!(table(&results, false).contains(&format!("xxx-{i}-yyy")), "{}", table(&results, false));
        for file in ["summary.md", "index.html"] {
            assert!(read(file).contains(&name(i)), "{file}: no {}", name(i));
        }
    }
    // A chart has room for less.
    let chart = read("charts/startup.svg");
    let texts = chart.split(['<', '>']).map(str::trim);
    let shown: std::collections::BTreeSet<&str> =
        texts.filter(|text| text.starts_with("xx") && text.contains('…')).collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
}
