use std::{
    fs,
    path::{Path, PathBuf},
};

use bootrace::{
    analysis::analyse,
    cli::{self, Failure},
    report,
    sample::{Accelerator, Kvm, KvmDegree, Results, Setting},
};
use serde_json::Value;

use crate::{
    example::{self, HOSTILE},
    schema::complaints,
};

const CHARTS: [&str; 5] = ["startup", "phases", "memory", "cpu", "order"];

/// Written afresh; left in target/tmp for people to look at.
pub fn written(name: &str, results: &Results) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    report::write(results, &dir).unwrap();
    dir
}

pub fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Every file of a report, by its path within the run's directory.
pub fn all_files(dir: &Path) -> Vec<(String, String)> {
    let charts = CHARTS.iter().map(|c| format!("charts/{c}.svg"));
    let names = ["results.json", "summary.md", "index.html"].map(String::from).into_iter().chain(charts);
    names.map(|name| (name.clone(), read(dir.join(name)))).collect()
}

#[test]
fn the_same_results_give_the_same_bytes() {
    let first = all_files(&written("same-1", &example::results()));
    assert_eq!(first, all_files(&written("same-2", &example::results())));
}

#[test]
fn the_summary_of_a_run_with_all_that_can_go_wrong() {
    let dir = written("example", &example::results());
    insta::assert_snapshot!(read(dir.join("summary.md")));
}

#[test]
fn how_warm_the_page_cache_was_is_on_every_chart_and_wherever_figures_are() {
    let warm = ("page cache warm", "Page cache: warm, by the warm-up rounds.");
    let cold = ("page cache cold", "Page cache: cold, dropped before each sample.");
    let as_found = ("page cache as found", "Page cache: as found, neither warmed nor dropped.");
    let without_warmup = || {
        let mut results = example::clean();
        results.samples.retain(|s| !s.warmup);
        results
    };
    let with = |cache: &str| {
        let mut results = example::clean();
        results.run.scenario["sampling"]["page_cache"] = cache.into();
        results
    };
    for (results, (words, sentence)) in [
        (with("warm"), warm),
        (with("cold"), cold),
        // From before the scenario said so.
        (example::clean(), warm),
        (without_warmup(), as_found),
    ] {
        let dir = written("cache", &results);
        for chart in CHARTS {
            let svg = read(dir.join(format!("charts/{chart}.svg")));
            // Drawn, and in the description.
            assert_eq!(svg.matches(sentence).count(), 2, "{chart}: {sentence}");
        }
        let page = read(dir.join("index.html"));
        // Each chart at two widths, and the section on method.
        assert_eq!(page.matches(sentence).count(), CHARTS.len() * 2 * 2 + 1, "{sentence}");
        assert!(page.contains(words) && read(dir.join("summary.md")).contains(sentence), "{sentence}");
        let table = report::table_within(&results, &bootrace::analysis::analyse(&results), false, 100);
        assert!(table.lines().next().unwrap().contains(words), "{table}");
    }
}

#[test]
fn the_time_to_drop_the_page_cache_is_shown_beside_the_figures() {
    let mut results = example::clean();
    results.run.scenario["sampling"]["page_cache"] = "cold".into();
    results.run.cache_drop_ns = Some(8_150_000_000);
    let dir = written("cold", &results);
    assert_eq!(complaints(&serde_json::to_value(&results).unwrap()), [] as [String; 0]);
    assert!(read(dir.join("index.html")).contains(", and 5 % dropping the page cache."));
}

/// A reader of any output must see at once that it is no VM on hardware.
#[test]
fn the_degree_of_kvm_is_beside_the_figures_and_between_runs_it_is_a_difference() {
    let of = |degree| {
        let mut results = example::clean();
        results.targets[2].kvm = Some(Kvm { degree, loop_ratio: Some(0.97), exit_ns: Some(21_000) });
        results
    };
    let (hardware, nested) = (of(KvmDegree::Hardware), of(KvmDegree::Nested));
    let dir = written("nested", &nested);
    assert_eq!(complaints(&serde_json::to_value(&nested).unwrap()), [] as [String; 0]);
    for name in ["summary.md", "index.html", "charts/startup.svg"] {
        let text = read(dir.join(name));
        assert!(text.contains("KVM (nested)"), "{name}");
    }
    let table = |results| report::table(results, &bootrace::analysis::analyse(results), false);
    assert!(table(&nested).contains("KVM (nested)"));
    assert!(table(&hardware).contains("KVM") && !table(&hardware).contains("KVM ("));

    let words = |other: &Results| {
        let found = bootrace::analysis::comparison::differences(&hardware, other);
        found.into_iter().map(|d| format!("{}: {} {}", d.what, d.base, d.new)).collect::<Vec<_>>()
    };
    assert_eq!(words(&nested), ["accelerator of libvirt: kvm (hardware) kvm (nested)"]);
    assert_eq!(words(&example::clean()), [] as [String; 0], "results without a degree differ in none");
}

#[test]
fn hostile_text_is_inert_in_every_file() {
    let mut results = example::results();
    // In every place that a stranger can write to.
    for target in &mut results.targets {
        target.options = serde_json::json!({ HOSTILE: HOSTILE });
        target.accelerator_reason = Some(HOSTILE.into());
    }
    let old = std::mem::replace(&mut results.targets[2].name, HOSTILE.into());
    results.samples.iter_mut().filter(|s| s.target == old).for_each(|s| s.target = HOSTILE.into());
    for sample in &mut results.samples {
        let error = Some(HOSTILE.into());
        sample.boot_ns = Some(bootrace::sample::Boot { error, ..Default::default() });
        if let Some(identity) = &mut sample.identity {
            identity.kernel_release = HOSTILE.into();
            identity.workload_digest = Some(HOSTILE.into());
        }
    }
    results.run.started_at = HOSTILE.into();
    results.run.bootrace_version = HOSTILE.into();
    results.run.scenario["name"] = HOSTILE.into();
    results.image.suite = HOSTILE.into();
    results.image.source = HOSTILE.into();
    results.image.packages = vec![HOSTILE.into()];
    let host = &mut results.host;
    for field in [&mut host.cpu_model, &mut host.os, &mut host.virtualised, &mut host.governor] {
        *field = Some(HOSTILE.into());
    }
    for (name, text) in all_files(&written("hostile", &results)) {
        if name == "results.json" {
            continue;
        }
        let low = text.to_lowercase();
        for active in ["<img", "<script", "</script", "\u{1b}", "javascript:"] {
            assert!(!low.contains(active), "{active:?} in {name}");
        }
        // Somewhere it is shown, escaped.
        assert!(low.contains("&lt;"), "nothing shown in {name}");
    }
}

#[test]
fn a_long_text_of_a_stranger_does_not_fill_the_page() {
    let mut results = example::results();
    let before = read(written("short", &results).join("index.html")).len();
    let long = "lorem ipsum ".repeat(100_000);
    results.samples[14].error = Some(long.clone());
    results.host.programs.insert("qemu".into(), long.clone());
    results.run.warnings.push(long.clone());
    results.image.packages.push(long.clone());
    results.run.scenario["description"] = long.into();
    let after = read(written("long", &results).join("index.html")).len();
    assert!(after < before + 60_000, "{before} bytes became {after}");
}

#[test]
fn the_page_needs_no_network_and_no_script() {
    let page = read(written("offline", &example::results()).join("index.html"));
    let near = |at: usize| page[at..].chars().take(60).collect::<String>();
    for outside in ["<script", "<link", "<iframe", "<img", "<image", "<object", "<use", "@import", "url("] {
        let found: Vec<String> = page.match_indices(outside).map(|(at, _)| near(at)).collect();
        assert_eq!(found, [] as [String; 0], "{outside}");
    }
    // In text and in attributes' values every < and > is escaped, so a bare < begins a tag.
    let in_tag = |at: &usize| page[..*at].rfind('<') > page[..*at].rfind('>');
    for attribute in ["src=", "srcset=", "onload", "onerror", "action=", "style="] {
        let all: Vec<usize> = page.match_indices(attribute).map(|(at, _)| at).collect();
        let found: Vec<String> = all.iter().copied().filter(in_tag).map(near).collect();
        assert_eq!(found, [] as [String; 0], "{attribute}");
        // The hostile text has these in it, so the page's text has, too.
        assert!(!matches!(attribute, "src=" | "onerror") || !all.is_empty(), "{attribute}");
    }
    let links: Vec<String> = page.match_indices("href=").map(|(at, _)| at).filter(in_tag).map(near).collect();
    assert!(!links.is_empty());
    for link in links {
        let local = ["results.json\"", "summary.md\"", "charts/", "#"];
        assert!(local.iter().any(|l| link["href=\"".len()..].starts_with(l)), "{link}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn an_emulated_processor_of_the_host_is_said_in_every_output_and_only_then() {
    let said = |results: &Results, name: &str| {
        let mut texts = all_files(&written(name, results));
        texts.retain(|(name, _)| name != "results.json");
        texts.push(("terminal".into(), report::table(results, &analyse(results), false)));
        texts
    };
    let mut results = example::clean();
    for (name, text) in said(&results, "on-a-real-one") {
        assert!(!text.contains("emulated processor"), "{name}");
    }
    results.host.processor_emulator = Some("Bochs".into());
    for (name, text) in said(&results, "on-an-emulated-one") {
        assert!(text.contains("emulated processor (Bochs)"), "{name}: {text}");
    }
}

#[test]
fn emulation_and_fallback_are_said_in_every_output_and_only_then() {
    for (name, text) in all_files(&written("said", &example::results())) {
        if name != "results.json" {
            assert!(text.contains("TCG (emulated)"), "{name}");
            assert!(text.contains("fallback"), "{name}");
        }
    }
    for (name, text) in all_files(&written("unsaid", &example::clean())) {
        assert!(!text.contains("TCG (emulated)"), "{name}");
    }
}

#[test]
fn charts_are_well_formed_have_title_and_description_and_know_the_dark() {
    for (name, svg) in all_files(&written("charts", &example::results())) {
        if !name.ends_with(".svg") {
            continue;
        }
        let mut reader = quick_xml::Reader::from_str(&svg);
        loop {
            match reader.read_event() {
                Ok(quick_xml::events::Event::Eof) => break,
                Ok(_) => {}
                Err(e) => panic!("{name}: {e}"),
            }
        }
        for needed in ["<title", "<desc", "role=\"img\"", "prefers-color-scheme:dark"] {
            assert!(svg.contains(needed), "{needed} in {name}");
        }
        assert!(!svg.contains("#FA01"), "a marker colour is left in {name}");
    }
}

#[test]
fn samples_with_interference_have_a_square_a_legend_and_a_word_and_only_they() {
    let interfere = |results: &mut Results| {
        let sample = results.samples.iter_mut().find(|s| s.target == "docker" && s.round == 5).unwrap();
        sample.interference.as_mut().unwrap().steal_ns = Some(1_000_000_000);
    };
    let quiet = all_files(&written("quiet", &example::clean()));
    let mut results = example::clean();
    interfere(&mut results);
    let marked = all_files(&written("interference", &results));
    let file = |files: &[(String, String)], name: &str| {
        files.iter().find(|(file, _)| file == name).map(|(_, text)| text.clone()).unwrap()
    };
    for (chart, legend) in [("startup", "sample with interference"), ("order", "interference")] {
        let squares = |files| file(files, &format!("charts/{chart}.svg")).matches("<polyline").count();
        assert_eq!(squares(&marked) - squares(&quiet), 2, "one around the sample, one in {chart}'s legend");
        let drawn =
            |files| file(files, &format!("charts/{chart}.svg")).contains(&format!("{legend}\n</text>"));
        assert!(drawn(&marked) && !drawn(&quiet), "{chart}");
    }
    let page = file(&marked, "index.html");
    assert!(page.contains("ok, stolen") && !file(&quiet, "index.html").contains("ok, stolen"));
    assert!(page.contains("1 of 10 samples of docker were taken while a hypervisor took CPU time away"));
    assert!(page.contains("Other activity during samples"));
    let noise = |results: &mut Results| {
        for noise in results.samples.iter_mut().filter_map(|s| s.interference.as_mut()) {
            (noise.quota_throttled_ns, noise.major_faults) = (Some(noise.window_ns / 8), Some(4321));
        }
    };
    noise(&mut results);
    let page = read(written("held-back", &results).join("index.html"));
    for (what, value) in [("throttled by a quota", "12.5 %"), ("major faults", "4321")] {
        let row = page.split_once(&format!(">{what}</th>")).expect(what).1.split_once("</tr>").unwrap().0;
        assert!(row.contains(value), "{what}: {row}");
    }
    results.samples.iter_mut().for_each(|s| s.interference = None);
    let page = read(written("no-noise", &results).join("index.html"));
    assert!(!page.contains("Other activity during samples"), "nothing is known of it");
}

#[test]
fn a_tuned_run_shows_the_original_and_the_set_values() {
    let mut results = example::clean();
    let setting = |name: &str, found: Option<&str>, set: Option<&str>| Setting {
        name: name.into(),
        found: found.map(String::from),
        set: set.map(String::from),
        why_not: set.is_none().then(|| format!("no such file {HOSTILE}")),
    };
    results.host.tuned = Some(vec![setting("governor", Some("powersave"), Some("performance"))]);
    let dir = written("tuned", &results);
    assert_eq!(report::load(&dir).unwrap(), results);
    assert_eq!(complaints(&serde_json::to_value(&results).unwrap()), [] as [String; 0]);
    let page = read(dir.join("index.html"));
    assert!(page.contains("native,docker,libvirt --tune"), "to do it again, it takes that too");
    assert!(page.contains("Tuned for the run") && page.contains("powersave"));
    assert!(!read(written("untuned", &example::clean()).join("index.html")).contains("Tuned for the run"));
    results.host.tuned.as_mut().unwrap().push(setting("turbo", None, None));
    assert!(!read(written("tuned", &results).join("index.html")).contains("<img"));
}

#[test]
fn recorded_runs_load_and_one_of_another_schema_is_refused() {
    for path in ["tests/report/recorded-run.json", "reports/sample"] {
        let results = report::load(Path::new(path)).unwrap();
        assert!(!results.samples.is_empty());
        report::write(&results, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("sample-again")).unwrap();
    }
    let first = Path::new(env!("CARGO_TARGET_TMPDIR")).join("first-schema.json");
    std::fs::write(&first, r#"{"schema": "bootrace.results/1", "run": {"id": "x"}}"#).unwrap();
    let refused = report::load(&first).unwrap_err().to_string();
    assert!(
        refused.contains(r#"has the schema "bootrace.results/1", this version reads "bootrace.results/2""#),
        "{refused}"
    );
}

#[test]
fn strange_results_are_drawn_without_a_panic() {
    let mut none = example::results();
    none.samples.clear();
    let mut bare = example::results();
    bare.targets.clear();
    let mut one = example::clean();
    one.samples.truncate(3);
    one.samples.iter_mut().for_each(|s| s.warmup = false);
    let mut zero = example::clean();
    for sample in &mut zero.samples {
        let t = &mut sample.timeline_ns;
        (t.started, t.agent, t.ready) = (Some(0), Some(0), Some(0));
        sample.memory_bytes = Default::default();
        (sample.cpu_ns, sample.work_ns) = Default::default();
    }
    let mut huge = example::clean();
    huge.samples[5].timeline_ns.ready = Some(u64::MAX);
    huge.samples[5].memory_bytes.footprint = Some(u64::MAX);
    huge.samples[5].memory_bytes.daemons = Some(i64::MIN);
    let noise = huge.samples[5].interference.as_mut().unwrap();
    (noise.swapped_in_pages, noise.swapped_out_pages) = (Some(u64::MAX), Some(u64::MAX));
    (noise.others_cpu_ns, noise.window_ns) = (Some(u64::MAX), u64::MAX);
    zero.samples.iter_mut().for_each(|s| s.interference.as_mut().unwrap().window_ns = 0);
    let mut backwards = example::clean();
    backwards.samples[4].timeline_ns.agent = Some(9_000_000_000_000);
    let mut empty = example::clean();
    empty.run.scenario = Value::Null;
    empty.targets[1].accelerator = Accelerator::Tcg;
    let all = [none, bare, one, zero, huge, backwards, empty];
    for (i, results) in all.iter().enumerate() {
        let dir = written(&format!("strange-{i}"), results);
        for (name, text) in all_files(&dir) {
            let broken = text.split(|c: char| !c.is_alphanumeric()).find(|w| matches!(*w, "NaN" | "inf"));
            assert_eq!(broken, None, "{name} of {i}");
        }
        report::table(results, &bootrace::analysis::analyse(results), false);
    }
}

#[test]
fn the_page_tells_how_to_do_the_same_run_again_and_its_scenario_is_one() {
    let page = read(written("recipe", &example::clean()).join("index.html"));
    let command = "bootrace run quickstart --seed 42 --samples 10 --warmup 1 --targets native,docker,libvirt";
    assert!(page.contains(command));
    let shown = page.split("as TOML</summary><pre>").nth(1).unwrap().split("</pre>").next().unwrap();
    let toml = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    let scenario: bootrace::scenario::Scenario =
        toml::from_str(&toml).unwrap_or_else(|e| panic!("{e}\n{toml}"));
    assert_eq!((scenario.name.as_str(), scenario.targets.len()), ("quickstart", 3));
}

#[test]
fn the_method_tells_of_polling_and_of_bound_cpus_only_where_there_were_any() {
    let hints = ["resolution is 1 ms", "bound to the same CPU 0-1 of the host"];
    let plain = read(written("unbound", &example::clean()).join("index.html"));
    let mut results = example::clean();
    results.run.scenario["workload"]["ready"] = serde_json::json!({ "tcp": 6379 });
    results.targets.iter_mut().for_each(|t| t.options["cpus"] = "0-1".into());
    let bound = read(written("bound", &results).join("index.html"));
    for words in hints {
        assert!(!plain.contains(words) && bound.contains(words), "{words}");
    }
}

#[test]
fn the_page_calls_the_host_quiet_only_when_it_could_be_read() {
    let quiet = "load and pressure (PSI) on the host were low";
    let mut results = example::clean();
    assert!(read(written("quiet", &results).join("index.html")).contains(quiet));
    (results.host.governor, results.host.noise_before) = (None, Default::default());
    let page = read(written("unread", &results).join("index.html"));
    assert!(!page.contains(quiet) && page.contains("could not be read: CPU governor, load"));
}

fn render(run: &Path) -> Result<(), Failure> {
    cli::report::run(&cli::report::Options {
        runs: vec![run.to_owned()],
        fail_on: cli::claims::FailOn::Never,
        quiet: true,
    })
}

#[test]
fn a_report_is_made_again_from_results_alone_and_leaves_them_as_they_are() {
    let dir = written("again", &example::results());
    let before = all_files(&dir);
    for file in ["summary.md", "index.html"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    fs::remove_dir_all(dir.join("charts")).unwrap();
    render(&dir).unwrap();
    assert_eq!(all_files(&dir), before);
    // What a later version has added stays in the file.
    let mut json: Value = serde_json::from_str(&before[0].1).unwrap();
    json["added"] = "later".into();
    fs::write(dir.join("results.json"), json.to_string()).unwrap();
    render(&dir.join("results.json")).unwrap();
    assert_eq!(read(dir.join("results.json")), json.to_string());
    assert_eq!(all_files(&dir)[1..], before[1..]);
}

#[test]
fn unreadable_results_are_a_usage_error_with_the_reason() {
    let dir = written("unreadable", &example::results());
    let file = dir.join("results.json");
    let good = read(&file);
    let mut wrong = serde_json::from_str::<Value>(&good).unwrap();
    wrong["samples"][3]["round"] = "three".into();
    let cases = [
        (good[..good.len() / 2].to_owned(), "is damaged or no file of bootrace: EOF while parsing"),
        ("{\"results\": []}".to_owned(), "it has no \"schema\""),
        ("[1, 2]".to_owned(), "it has no \"schema\""),
        (String::new(), "EOF while parsing"),
        (
            good.replacen("bootrace.results/2", "bootrace.results/9", 1),
            "has the schema \"bootrace.results/9\", this version reads \"bootrace.results/2\"",
        ),
        (wrong.to_string(), "invalid type: string \"three\", expected u32"),
    ];
    for (content, words) in cases {
        fs::write(&file, content).unwrap();
        let failure = render(&dir).unwrap_err();
        let message = failure.to_string();
        assert_eq!(failure.code(), 2, "{message}");
        assert!(message.contains(words) && message.contains("results.json"), "{message}");
    }
    let failure = render(Path::new("/no/such/run")).unwrap_err();
    assert_eq!(failure.code(), 2);
    assert!(failure.to_string().contains("/no/such/run: No such file"), "{failure}");
}

#[test]
fn results_are_saved_whole_and_leave_nothing_beside() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("saved");
    let _ = fs::remove_dir_all(&dir);
    let mut results = example::results();
    report::save_results(&results, &dir).unwrap();
    results.samples.truncate(2);
    report::save_results(&results, &dir).unwrap();
    assert_eq!(report::load(&dir).unwrap().samples.len(), 2);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    let failure = report::save_results(&results, Path::new("/proc/no")).unwrap_err();
    assert!(failure.to_string().starts_with("writing /proc/no/results.json"), "{failure}");
}
