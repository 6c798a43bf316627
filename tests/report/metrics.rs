//! Every metric of the table is in every output: a run that has a value of each.

use bootrace::{
    analysis::{Metric, analyse},
    metric::{Needs, Row, TABLE, Terminal, Unit},
    report::{
        self,
        export::{Files, Format, export},
    },
    sample::{Boot, Results},
};
use serde_json::json;

use crate::{
    density::density,
    example,
    files::{read, written},
    inside::disk,
};

/// A value of each metric in each sample, and two targets filled with instances.
fn everything() -> Results {
    let mut results = example::clean();
    for sample in &mut results.samples {
        let memory = &mut sample.memory_bytes;
        for value in [
            &mut memory.footprint,
            &mut memory.workload_rss,
            &mut memory.engine_pss,
            &mut memory.cgroup_file,
            &mut memory.guest_cache,
            &mut memory.swap,
        ] {
            // An overhead above zero has a ratio.
            *value = Some(if sample.target == "native" { 1 << 20 } else { 2 << 20 });
        }
        memory.daemons = Some(4096);
        let part = Some(1_000_000);
        sample.boot_ns = Some(Boot {
            firmware: part,
            kernel: part,
            initrd: part,
            userspace: part,
            agent_unit: part,
            ..Boot::default()
        });
        sample.disk = Some(disk(&sample.target));
    }
    results.density = vec![density("docker", 20, 4, 150), density("libvirt", 20, 200, 3000)];
    results
}

/// The metrics that `text` has no `shown` of.
fn missing(
    text: &str,
    rows: impl Iterator<Item = &'static Row>,
    shown: impl Fn(&Row) -> String,
) -> Vec<&'static str> {
    rows.filter(|row| !text.contains(&shown(row))).map(|row| row.name).collect()
}

fn of_instances() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| !row.metric.is_of_density())
}

const NONE: [&str; 0] = [];

#[test]
fn every_metric_has_a_figure_where_samples_have_its_value() {
    let results = everything();
    let analysis = analyse(&results);
    let docker = analysis.target("docker").unwrap();
    let without: Vec<_> =
        of_instances().filter(|row| docker.figure(row.metric).is_none()).map(|r| r.name).collect();
    assert_eq!(without, NONE);
    let density = &analysis.density[0];
    let mut of_density = TABLE.iter().filter(|row| row.metric.is_of_density());
    assert!(of_density.all(|row| density.figure(row.metric).is_some()));
}

#[test]
fn every_metric_is_in_every_report() {
    let results = everything();
    let dir = written("every-metric", &results);
    let page = read(dir.join("index.html"));
    // In the method's list; those of instances also in the table of all figures.
    assert_eq!(missing(&page, TABLE.iter(), |row| format!("{} <code>{}</code>", row.label, row.name)), NONE);
    assert_eq!(missing(&page, TABLE.iter(), |row| row.meaning.replace('<', "&lt;")), NONE);
    let figures = page.split("id=\"figures\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(missing(figures, of_instances(), |row| format!("<code>{}</code>", row.name)), NONE);
    let raw = page.split("id=\"raw\"").nth(1).unwrap();
    let columns = of_instances().filter(|row| row.in_raw_table);
    assert_eq!(missing(raw, columns, |row| format!(">{}</th>", row.label)), NONE);
    let summary = read(dir.join("summary.md"));
    assert_eq!(missing(&summary, of_instances(), |row| format!("`{}`", row.name)), NONE);
    let table = report::table(&results, &analyse(&results), false);
    let first_cells: Vec<&str> = table.lines().map(|line| line.trim().split("  ").next().unwrap()).collect();
    let first_cells = format!("\n{}\n", first_cells.join("\n"));
    let shown = of_instances().filter(|row| row.terminal != Terminal::Hidden);
    assert_eq!(missing(&first_cells, shown, |row| format!("\n{}\n", row.label)), NONE);
    let charts = ["memory", "cpu", "disk"].map(|name| read(dir.join(format!("charts/{name}.svg")))).concat();
    let panels = of_instances().filter(|row| row.panel.is_some());
    assert_eq!(missing(&charts, panels, |row| row.panel.unwrap().replace('\'', "&apos;")), NONE);
}

#[test]
fn every_metric_is_in_every_export_that_has_them_all() {
    let results = everything();
    let of = |format| match export(&results, format).files {
        Files::One(bytes) => String::from_utf8(bytes).unwrap(),
        Files::Several(files) => files.into_iter().map(|(_, b)| String::from_utf8(b).unwrap()).collect(),
    };
    let underscored = |row: &Row| row.name.replace('.', "_");
    assert_eq!(missing(&of(Format::Bmf), of_instances(), |row| format!("\"{}\":", row.name)), NONE);
    let with_unit = |row: &Row, unit: &str| format!("{}_{unit}", underscored(row));
    let help = |row: &Row| {
        let unit = match row.unit {
            Unit::Time => "seconds",
            Unit::Size => "bytes",
            Unit::Share => "ratio",
        };
        format!("# HELP bootrace_{} ", with_unit(row, unit))
    };
    assert_eq!(missing(&of(Format::Prometheus), of_instances(), help), NONE);
    let csv = of(Format::Csv);
    let header = format!(",{},", csv.lines().next().unwrap());
    // A name that ends with its unit needs no suffix.
    let named = |row: &Row| underscored(row).ends_with(row.unit.suffix());
    let column = |row: &Row| if named(row) { underscored(row) } else { with_unit(row, row.unit.suffix()) };
    let cell = |row: &Row| format!(",{},", column(row));
    assert_eq!(missing(&header, of_instances(), cell), NONE);
    // A figure that is not above zero has no quotient, which the action goes by.
    let zero = ["startup.boot", "cpu.idle"];
    let quotients = of_instances().filter(|row| !zero.contains(&row.name));
    assert_eq!(missing(&of(Format::Gab), quotients, |row| format!(": {}\"", row.name)), NONE);
}

#[test]
fn every_metric_can_be_claimed_and_those_of_instances_can_gate() {
    let scenario = |rest: &str| {
        let text = format!(
            "name = 'x'\n[workload]\ncommand = ['x']\nready = {{ line = 'x' }}\nwork = {{ command = ['x'] }}\n[cow]\nfile = '1MiB'\n\
             [density]\ninstances = 50\nvms = 10\n{rest}"
        );
        bootrace::scenario::Scenario::parse(&text, "x.toml").map(drop).map_err(|e| e.to_string())
    };
    for row in &TABLE {
        let bound = match row.unit {
            Unit::Time => "1s",
            Unit::Size => "1MiB",
            Unit::Share => "1%",
        };
        let claim = format!(
            "[[claim]]\nsays = 'x'\nmetric = '{}'\ntarget = 'docker'\nat_most = '{bound}'\n",
            row.name
        );
        assert_eq!(scenario(&claim), Ok(()), "{}", row.name);
        let gate = scenario(&format!("[gate]\nmetrics = ['{}']\n", row.name));
        assert_eq!(gate.is_ok(), !row.metric.is_of_density(), "{}: {gate:?}", row.name);
    }
}

#[test]
fn a_claim_on_each_metric_is_judged_by_the_run() {
    let mut results = everything();
    let at_most = |row: &Row| match row.unit {
        Unit::Time => "86400s",
        Unit::Size => "1000GiB",
        Unit::Share => "100%",
    };
    results.run.scenario["claim"] = TABLE
        .iter()
        .map(|row| json!({"says": row.name, "metric": row.name, "target": "docker", "at_most": at_most(row)}))
        .collect();
    let analysis = analyse(&results);
    let undecided: Vec<_> = analysis
        .claims
        .iter()
        .filter(|claim| claim.verdict.word() != "supported")
        .map(|c| (&c.says, &c.why))
        .collect();
    assert_eq!(undecided, []);
    // What a metric needs is all that this run has.
    assert!(TABLE.iter().any(|row| row.needs == Needs::DensityIdle) && Metric::ALL.len() == TABLE.len());
}
