//! criterion's directories, beside those that criterion itself makes of the same samples.

use std::{fs, path::Path};

use bootrace::{
    report::export::{Files, Format, export, write_files},
    sample::Results,
};
use criterion::Criterion;
use serde_json::Value;

use crate::{example, hostile, json, real, replay, several, short};

/// criterion as `cargo bench` has it, but without plots.
fn criterion(dir: &Path) -> Criterion {
    Criterion::default().output_directory(dir).without_plots().nresamples(10_000)
}

fn replayed(criterion: &mut Criterion, results: &Results) {
    let name = results.run.scenario["name"].as_str().unwrap();
    let metrics = [replay::Metric::Startup, replay::Metric::Work];
    assert_eq!(replay::replay(criterion, &replay::series(name, &metrics, results)), []);
}

fn exported(results: &Results, dir: &Path) {
    match export(results, Format::Criterion).files {
        Files::Several(files) => write_files(dir, &files).unwrap(),
        Files::One(_) => panic!("criterion has many files"),
    }
}

fn read(path: &Path) -> Value {
    json(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn close(ours: &Value, theirs: &Value, within: f64) -> bool {
    (ours.as_f64().unwrap() - theirs.as_f64().unwrap()).abs() <= within
}

#[test]
fn the_files_equal_criterions_own_for_the_same_samples() {
    let dir = tempfile::tempdir().unwrap();
    for results in [real(), example::clean()] {
        replayed(&mut criterion(dir.path()), &results);
        exported(&results, dir.path());
        for target in &results.targets {
            for metric in ["startup", "work.time"] {
                let at = dir.path().join("quickstart").join(metric).join(&target.name);
                let file = |baseline: &str, name: &str| read(&at.join(baseline).join(name));
                let both = |name: &str| (file(&results.run.id, name), file("new", name));

                let (ours, theirs) = both("sample.json");
                assert_eq!(ours, theirs);
                let (mut ours, theirs) = both("benchmark.json");
                let title = ours["title"].as_str().unwrap();
                assert_eq!(
                    title.contains("TCG (emulated)"),
                    target.accelerator == bootrace::sample::Accelerator::Tcg
                );
                assert_eq!(title.contains("fallback"), results.image.fallback);
                ours["title"] = theirs["title"].clone();
                assert_eq!(ours, theirs);
                let (ours, theirs) = both("tukey.json");
                for (ours, theirs) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
                    assert!(close(ours, theirs, 1e-3), "{ours} against {theirs}");
                }
                estimates_agree(&both("estimates.json"));
            }
        }
    }
}

/// Points exactly, but for rounding (criterion has 1.4826 as an f32); what is drawn as near as draws are.
fn estimates_agree((ours, theirs): &(Value, Value)) {
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(ours), keys(theirs));
    assert!(ours["slope"].is_null() && theirs["slope"].is_null());
    for name in ["mean", "median", "median_abs_dev", "std_dev"] {
        let (ours, theirs) = (&ours[name], &theirs[name]);
        assert_eq!(keys(ours), keys(theirs));
        let point = theirs["point_estimate"].as_f64().unwrap();
        assert!(close(&ours["point_estimate"], &theirs["point_estimate"], point * 1e-6), "{name}");
        let error = theirs["standard_error"].as_f64().unwrap();
        assert!(
            close(&ours["standard_error"], &theirs["standard_error"], error / 5.0),
            "{name}: {ours} {theirs}"
        );
        let (ours, theirs) = (&ours["confidence_interval"], &theirs["confidence_interval"]);
        assert_eq!(keys(ours), keys(theirs));
        assert_eq!(ours["confidence_level"], theirs["confidence_level"]);
        // Bounds of what is made of ranks jump from one sample to the next.
        if ["mean", "std_dev"].contains(&name) {
            for bound in ["lower_bound", "upper_bound"] {
                assert!(close(&ours[bound], &theirs[bound], error / 3.0), "{name} {bound}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn criterion_compares_with_an_exported_run_as_its_baseline() {
    let dir = tempfile::tempdir().unwrap();
    let results = example::clean();
    exported(&results, dir.path());
    replayed(&mut criterion(dir.path()).retain_baseline(results.run.id.clone(), true), &results);
    for target in ["native", "docker", "libvirt"] {
        let change = read(&dir.path().join("quickstart/startup").join(target).join("change/estimates.json"));
        assert_eq!(change["mean"]["point_estimate"], 0.0, "{target}");
    }
}

#[test]
fn a_single_sample_is_left_out_and_noted_and_two_are_enough() {
    let single = export(&short(1), Format::Criterion);
    assert_eq!(single.files, Files::Several(Vec::new()));
    assert!(single.without_samples.is_empty());
    assert!(
        single.notes.iter().any(|n| n.contains("startup of docker is left out: it has a single sample")),
        "{:?}",
        single.notes
    );
    assert_eq!(several(&short(2), Format::Criterion).len(), 8);
}

#[test]
fn an_emulated_vm_is_noted_where_critcmp_does_not_show_it() {
    let notes = export(&real(), Format::Criterion).notes;
    assert_eq!(
        notes,
        ["libvirt ran under TCG (emulated): its title says so, which criterion shows and critcmp does not"]
    );
    assert!(export(&example::clean(), Format::Criterion).notes.is_empty());
}

#[test]
fn paths_of_a_hostile_file_stay_within_the_directory_and_its_baseline_is_none_of_criterions() {
    let mut results = hostile();
    let files = several(&results, Format::Criterion);
    assert_eq!(files.len(), 24);
    for (path, _) in &files {
        assert_eq!(path.components().count(), 5);
        let harmless = |c: std::path::Component<'_>| {
            let std::path::Component::Normal(name) = c else { return false };
            let name = name.to_str().unwrap();
            name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !name.starts_with(['.', '-'])
        };
        assert!(path.components().all(harmless), "{}", path.display());
    }
    let dir = tempfile::tempdir().unwrap();
    let within = dir.path().join("a/b/c");
    exported(&results, &within);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    for reserved in ["new", "base", "change", "report"] {
        results.run.id = reserved.into();
        let (path, _) = &several(&results, Format::Criterion)[0];
        assert!(path.parent().unwrap().ends_with(format!("{reserved}_")), "{}", path.display());
    }
}
