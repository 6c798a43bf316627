//! Known quantities, measured for real: they come out as they are, and a broken reader is found.

mod common;

use std::{fs, path::Path, process::Command};

use bootrace::calibration::{Calibration, CheckVerdict, noise};
use common::left_over;

struct Ran {
    code: Option<i32>,
    output: String,
    calibration: Calibration,
}

fn calibrate(arguments: &[&str]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    command.args(["calibrate", "--seed", "1", "--out"]).arg(dir.path()).args(arguments);
    let output = command.output().unwrap();
    let written = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    for file in ["index.html", "calibration.json"] {
        assert!(written.join(file).exists(), "{file}");
    }
    let calibration = serde_json::from_slice(&fs::read(written.join("calibration.json")).unwrap()).unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ran { code: output.status.code(), output: text, calibration }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn reference_workloads_are_measured_within_their_bounds_on_every_target() {
    // A start-up is noisy, the others are not.
    let runs = [
        ("delay", "4", &["startup.app", "started", "teardown", "work.cpu_guest"][..]),
        ("memory,file,channel", "3", &["memory.footprint", "memory.workload", "memory.cache"][..]),
        // For VMs the figures are only shown: emulation has its own cost.
        ("cpu,idle", "3", &["memory.footprint"][..]),
    ];
    for (checks, samples, metrics) in runs {
        let ran = calibrate(&["--checks", checks, "--samples", samples]);
        assert_eq!(ran.code, Some(0), "{}", ran.output);
        for target in ["native", "docker", "libvirt"] {
            for metric in metrics {
                let mut rows = ran.calibration.rows.iter();
                let row = rows.find(|row| row.target == target && row.metric == *metric).unwrap();
                // Huge pages scatter a VM's footprint by as much as its bound: what is wrong with it is beyond that, and fails.
                let scatters =
                    (target, *metric) == ("libvirt", "memory.footprint") && checks.contains("memory");
                let passes =
                    row.verdict == CheckVerdict::Pass || scatters && row.verdict == CheckVerdict::Noise;
                assert!(passes, "{row:?}");
            }
            let mine = ran.calibration.taken.iter().filter(|taken| taken.sample.target == target);
            let trips: usize = mine.map(|taken| taken.round_trips_ns.len()).sum();
            assert_eq!(trips, if checks.contains("channel") { 500 } else { 0 });
        }
        assert_eq!(left_over(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn each_broken_reader_is_found_by_the_figure_that_it_spoils() {
    for (reader, check, metric) in [
        ("page-cache", "file", "memory.footprint"),
        ("engine", "idle", "memory.footprint"),
        ("clock", "delay", "started"),
    ] {
        let arguments = ["--targets", "docker", "--checks", check, "--samples", "2", "--break", reader];
        let ran = calibrate(&arguments);
        assert_eq!(ran.code, Some(1), "{reader}: {}", ran.output);
        assert!(ran.output.contains(&format!("broken on purpose: {reader}")), "{}", ran.output);
        let failed: Vec<_> = ran.calibration.failed_rows().map(|row| row.metric.as_str()).collect();
        assert!(failed.contains(&metric), "{reader}: {failed:?}");
        assert_eq!(left_over(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_target_against_itself_gives_a_noise_floor_that_is_kept_for_the_host() {
    let (out, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let session = || {
        let output = Command::new(env!("CARGO_BIN_EXE_bootrace"))
            .args([
                "calibrate",
                "--aa",
                "--targets",
                "native,docker",
                "--sessions",
                "1",
                "--samples",
                "2",
                "--json",
            ])
            .arg("--out")
            .arg(out.path())
            .env(noise::VARIABLE, state.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    session();
    let shown = session();
    let floors = shown["floors"].as_array().unwrap();
    for target in ["native", "docker"] {
        let startup = floors.iter().find(|f| f["target"] == target && f["metric"] == "startup").unwrap();
        assert_eq!(startup["sessions"], 2, "the second command adds to what the first one kept");
        assert!(startup["floor"].as_f64().unwrap() > 0.0 && startup["margin"].as_f64().unwrap() >= 0.05);
    }
    let key = shown["record"]["host"].as_str().unwrap();
    assert!(state.path().join("noise").join(format!("{key}.json")).exists());
    // Each session is a run like any other.
    assert_eq!(runs(out.path()), 2);
    assert_eq!(left_over(), Vec::<String>::new());
}

fn runs(out: &Path) -> usize {
    // "latest" only points at one of them.
    let dirs = fs::read_dir(out).unwrap().map(Result::unwrap).filter(|e| e.file_type().unwrap().is_dir());
    dirs.filter(|e| e.path().join("results.json").exists()).count()
}
