//! Density in everything that is shown of a run.

use bootrace::{
    analysis::analyse,
    report,
    sample::{
        Outcome, Results, Timeline,
        density::{Burst, Density, HostMemory, Limit, Step},
    },
};
use serde_json::{Value, json};

use crate::{
    example::{self, HOSTILE},
    files::{read, written},
    schema::complaints,
};

const MIB: u64 = 1 << 20;

/// So many instances of so many MiB, one more than the other by a little.
pub fn density(target: &str, count: u32, mib: u64, startup_ms: u64) -> Density {
    let host = |sum: u64| HostMemory {
        available_bytes: Some((20 << 30) - sum),
        swap_used_bytes: Some(0),
        ksm: Some(true),
        ksm_pages: Some(7),
    };
    let step = |n: u32| {
        let sum = u64::from(n) * mib * MIB + u64::from(n % 3) * 100_000;
        Step {
            n,
            outcome: Outcome::Ok,
            error: None,
            timeline_ns: Timeline {
                started: Some(startup_ms * 900_000),
                agent: Some(startup_ms * 950_000),
                ready: Some(startup_ms * 1_000_000 + u64::from(n) * 1_000_000),
                ..Timeline::default()
            },
            cpu_startup_ns: Some(1_000_000),
            footprint_sum_bytes: Some(sum),
            footprint_bytes: Some(mib * MIB),
            daemons_bytes: Some(i64::from(n) * 50_000),
            idle_cpu_sum_ns: Some(u64::from(n) * 1_000_000),
            idle_window_ns: Some(1_000_000_000),
            host: host(sum),
            identity: Some(crate::example::identity(target, n)),
        }
    };
    Density {
        target: target.into(),
        most: count,
        memory_left_bytes: 2 << 30,
        startup_limit_ns: 60_000_000_000,
        settle_ns: 2_000_000_000,
        limit: Some(Limit::Count),
        limit_why: Some(format!("all {count} requested instances ran at once")),
        before: host(0),
        steps: (1..=count).map(step).collect(),
        died: 0,
        bursts: vec![Burst {
            n: 4,
            ready_ns: vec![300_000_000, 310_000_000, 320_000_000],
            failed: 1,
            errors: vec![format!("starting: {HOSTILE}")],
            request_spread_ns: Some(50_000),
            all_ready_ns: Some(320_040_000),
        }],
        wall_ns: Some(60_000_000_000),
        removal_ns: Some(2_000_000_000),
    }
}

/// Beside rounds; the last is the fourth container's start, which fails.
fn results() -> Results {
    let mut results = example::clean();
    results.run.scenario["claim"] = json!([{
        "says": "a container takes less than 5 MiB", "metric": "density.memory", "target": "docker", "at_most": "5MiB"
    }, {
        "says": "a VM takes forty times that", "metric": "density.memory", "target": "libvirt", "relative_to": "docker",
        "at_least": "40x"
    }]);
    results.density = vec![density("docker", 20, 4, 290), density("libvirt", 8, 200, 4300)];
    results
}

/// Without rounds.
fn alone() -> Results {
    let mut results = results();
    results.run.scenario["sampling"]["samples"] = 0.into();
    results.samples.retain(|sample| sample.warmup);
    results.run.planned = results.samples.len() as u32;
    results
}

#[test]
fn all_of_it_keeps_to_the_schema_and_every_field_is_in_it() {
    let results = results();
    let dir = written("density", &results);
    let json: Value = serde_json::from_str(&read(dir.join("results.json"))).unwrap();
    assert_eq!(complaints(&json), [] as [String; 0]);
    assert_eq!(report::load(&dir).unwrap(), results);
    assert_eq!(crate::schema::unlisted_in(&json), [] as [String; 0]);
    let mut wrong = json.clone();
    wrong["density"][0]["limit"] = "bored".into();
    wrong["density"][1]["steps"][0]["host"]["available_bytes"] = (-1).into();
    assert_eq!(complaints(&wrong).len(), 2, "{:?}", complaints(&wrong));
    let json = serde_json::to_value(example::clean()).unwrap();
    assert!(json.get("density").is_none(), "what has no density says nothing of it");
}

#[test]
fn the_cost_of_one_more_is_in_every_form_with_its_interval() {
    let results = results();
    let dir = written("density-forms", &results);
    let (page, summary) = (read(dir.join("index.html")), read(dir.join("summary.md")));
    let table = report::table_within(&results, &analyse(&results), false, 100);
    for (form, text) in [("page", &page), ("summary", &summary), ("table", &table)] {
        for sign in
            ["memory of one more", "4.0", "200 MiB", "fit, extrapolated", "KSM", "docker 7 pages saved"]
        {
            assert!(text.contains(sign), "{form} has no {sign:?}: {text}");
        }
    }
    for sign in ["TCG", "KVM"] {
        assert_eq!(summary.contains(sign), sign == "KVM", "{sign}");
    }
    assert!(page.contains("id=\"density\"") && page.contains("id=\"answer\""));
    for chart in ["density-memory", "density-startup", "density-bursts"] {
        let svg = read(dir.join("charts").join(format!("{chart}.svg")));
        assert!(svg.starts_with("<svg") && svg.contains("docker"), "{chart}");
        assert!(page.contains(&format!("id=\"chart-{chart}\"")), "{chart}");
    }
    assert!(page.contains("docker, in a burst of 4") && !page.contains("None: every instance became ready"));
    assert!(!page.contains(HOSTILE) && page.contains("&lt;img src=x"), "what an engine said is escaped");
    for line in table.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn a_density_alone_shows_nothing_of_single_samples() {
    let results = alone();
    let dir = written("density-alone", &results);
    let (page, summary) = (read(dir.join("index.html")), read(dir.join("summary.md")));
    assert!(page.contains("id=\"density\""));
    for section in ["answer", "figures", "charts"] {
        assert!(!page.contains(&format!("<section id=\"{section}\"")), "{section}");
    }
    assert!(!dir.join("charts/startup.svg").exists() && dir.join("charts/density-memory.svg").exists());
    assert!(summary.contains("How many at once") && !summary.contains("samples ok"), "{summary}");
    let caveats = analyse(&results).caveats;
    assert!(!caveats.iter().any(|caveat| caveat.contains("good samples")), "{caveats:?}");
    assert!(
        caveats.iter().any(|caveat| caveat.contains("1 of 4 instances of a burst failed")),
        "{caveats:?}"
    );
}

#[test]
fn claims_about_it_are_judged_by_the_runs_density() {
    let claims = analyse(&results()).claims;
    let words: Vec<_> = claims.iter().map(|claim| claim.verdict.word()).collect();
    assert_eq!(words, ["supported", "supported"], "{claims:#?}");
    let mut without = results();
    without.density.clear();
    let claims = analyse(&without).claims;
    assert!(claims.iter().all(|claim| claim.verdict.word() == "undecided"), "{claims:?}");
    assert_eq!(claims[0].why, "the run has no density of \"docker\"");
}
