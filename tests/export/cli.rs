//! The command: where it writes, what it says, and its exit codes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use bootrace::{
    report::{self, export::Format},
    sample::Results,
};

use crate::{example, one, real, short};

/// A run in a directory of its own.
struct Saved(tempfile::TempDir);

impl Saved {
    fn new(results: &Results) -> Self {
        let dir = tempfile::tempdir().unwrap();
        report::save_results(results, &dir.path().join("run")).unwrap();
        Saved(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// In its directory, so that paths can be relative.
    fn export(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.current_dir(self.0.path()).args(["export", "run"]).args(arguments).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn one_file_goes_to_standard_output_and_nothing_else_does() {
    let results = real();
    let saved = Saved::new(&results);
    for format in Format::all().filter(|f| !f.has_several_files()) {
        let output = saved.export(&["--format", format.name()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), one(&results, format));
        assert_eq!(text(&output.stderr), "");
    }
    assert_eq!(fs::read_dir(saved.path("run")).unwrap().count(), 1);
}

#[test]
fn one_file_goes_where_it_is_sent_and_leaves_nothing_beside() {
    let saved = Saved::new(&real());
    for to in ["x.prom", "deeper/y.prom", "x.prom"] {
        let output = saved.export(&["--format", "prometheus", "--to", to]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), format!("exported: {to}\n"));
        assert_eq!(fs::read_to_string(saved.path(to)).unwrap(), one(&real(), Format::Prometheus));
    }
    let names = fs::read_dir(saved.path("")).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["deeper", "run", "x.prom"]);
    use std::os::unix::fs::PermissionsExt;
    // node_exporter runs as a user of its own.
    assert_eq!(fs::metadata(saved.path("x.prom")).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn links_and_devices_are_written_to_and_not_replaced() {
    let saved = Saved::new(&real());
    fs::write(saved.path("file.csv"), "old").unwrap();
    for (link, target) in [("link.csv", saved.path("file.csv")), ("null.csv", "/dev/null".into())] {
        std::os::unix::fs::symlink(target, saved.path(link)).unwrap();
        let output = saved.export(&["--format", "csv", "--to", link]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(fs::symlink_metadata(saved.path(link)).unwrap().is_symlink(), "{link}");
    }
    assert_eq!(fs::read_to_string(saved.path("file.csv")).unwrap(), one(&real(), Format::Csv));
    // Nor are those that lead to nothing yet, or nowhere.
    for (link, target) in [("first.csv", "second.csv"), ("second.csv", "new.csv"), ("loop.csv", "loop.csv")] {
        std::os::unix::fs::symlink(target, saved.path(link)).unwrap();
    }
    for (link, code) in [("first.csv", 0), ("loop.csv", 1)] {
        let output = saved.export(&["--format", "csv", "--to", link]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(fs::symlink_metadata(saved.path(link)).unwrap().is_symlink(), "{link}");
    }
    assert!(fs::symlink_metadata(saved.path("new.csv")).unwrap().is_file());
    let output = saved.export(&["--format", "csv", "--to", "/dev/stdout"]);
    assert_eq!(text(&output.stdout), one(&real(), Format::Csv) + "exported: /dev/stdout\n");
}

#[test]
fn existing_files_are_replaced_one_by_one_and_foreign_files_stay() {
    let saved = Saved::new(&real());
    fs::create_dir(saved.path("out")).unwrap();
    fs::write(saved.path("out/bigger-is-better.json"), "old").unwrap();
    fs::write(saved.path("out/mine.txt"), "mine").unwrap();
    let output = saved.export(&["--format", "gab", "--to", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "exported: out, 2 files\n");
    assert_eq!(fs::read_to_string(saved.path("out/mine.txt")).unwrap(), "mine");
    assert!(fs::read_to_string(saved.path("out/bigger-is-better.json")).unwrap().starts_with('['));
    assert_eq!(fs::read_dir(saved.path("out")).unwrap().count(), 3);
}

#[test]
fn wrong_usage_exits_with_2_and_writes_nothing() {
    let saved = Saved::new(&real());
    fs::write(saved.path("file"), "x").unwrap();
    for (arguments, words) in [
        (
            &["--format", "gab"][..],
            "--format gab writes several files\n    fix: name a directory for them with --to DIR",
        ),
        (&["--format", "criterion", "--to", "file"], "file is no directory"),
        (
            &["--format", "csv", "--to", "run"],
            "run is a directory\n    fix: name a file, as in --to run/samples.csv",
        ),
        (&["--format", "xml"], "'xml'"),
        (&[], "--format"),
    ] {
        let output = saved.export(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(words), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
    assert_eq!(fs::read_to_string(saved.path("file")).unwrap(), "x");
    assert_eq!(fs::read_dir(saved.path("")).unwrap().count(), 2);
}

#[test]
fn results_that_cannot_be_read_exit_with_2_and_write_nothing() {
    let saved = Saved::new(&real());
    let file = saved.path("run/results.json");
    let good = fs::read_to_string(&file).unwrap();
    for (content, words) in [
        (&good[..good.len() / 2], "is damaged or no file of bootrace"),
        ("{\"results\": []}", "it has no \"schema\""),
        (
            &good.replacen("bootrace.results/2", "bootrace.results/9", 1),
            "has the schema \"bootrace.results/9\"",
        ),
        (&good.replacen("\"ready\": ", "\"ready\": NaN, \"x\": ", 1), "is damaged or no file of bootrace"),
    ] {
        fs::write(&file, content).unwrap();
        let output = saved.export(&["--format", "bmf", "--to", "bmf.json"]);
        assert_eq!(output.status.code(), Some(2), "{words}");
        let message = text(&output.stderr);
        assert!(message.contains(words) && message.contains("run/results.json"), "{message}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(saved.export(&["--format", "csv"]).status.code(), Some(2));
    assert!(!saved.path("bmf.json").exists());
}

#[test]
fn a_target_without_good_samples_exits_with_1_after_the_other_figures_are_exported() {
    let mut results = example::clean();
    results.samples.retain(|s| s.warmup || s.target != "docker");
    let saved = Saved::new(&results);
    for (format, to) in [("bmf", "bmf.json"), ("csv", "samples.csv"), ("criterion", "criterion")] {
        let output = saved.export(&["--format", format, "--to", to]);
        assert_eq!(output.status.code(), Some(1), "{format}");
        assert_eq!(
            text(&output.stderr),
            "error: no good sample of docker, so none of its figures is exported; the others are\n"
        );
        assert!(saved.path(to).exists());
    }
    let empty = Saved::new(&short(0));
    let output = empty.export(&["--format", "bmf"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "{}\n"));
    assert!(text(&output.stderr).contains("no good sample of docker, libvirt"));
}

#[test]
fn a_failed_write_exits_with_1_and_names_the_path() {
    let saved = Saved::new(&real());
    let output = saved.export(&["--format", "csv", "--to", "/proc/no/samples.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("writing /proc/no/samples.csv"), "{}", text(&output.stderr));
    std::os::unix::fs::symlink("run", saved.path("link")).unwrap();
    fs::create_dir(saved.path("out")).unwrap();
    std::os::unix::fs::symlink(saved.path("run"), saved.path("out/quickstart")).unwrap();
    let output = saved.export(&["--format", "criterion", "--to", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing outside of --to"), "{}", text(&output.stderr));
    assert_eq!(fs::read_dir(saved.path("run")).unwrap().count(), 1);
    // The directory itself may be a link: it is what was asked for.
    let output = saved.export(&["--format", "gab", "--to", "link"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error_and_a_reader_that_goes_away_is_none() {
    let saved = Saved::new(&real());
    let to = |stdout: Stdio| {
        let run = saved.path("run");
        let mut child = Command::new(env!("CARGO_BIN_EXE_bootrace"))
            .args(["export", "--format", "csv"])
            .arg(run)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    let full = to(fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
    assert_eq!(full.status.code(), Some(1));
    assert!(text(&full.stderr).contains("writing to standard output"), "{}", text(&full.stderr));
    assert_eq!(to(Stdio::piped()).status.code(), Some(0));
}

#[test]
fn the_help_names_every_format_and_the_exit_codes() {
    let output = Command::new(env!("CARGO_BIN_EXE_bootrace")).args(["export", "--help"]).output().unwrap();
    let help = text(&output.stdout);
    for format in Format::all() {
        assert!(help.contains(&format!("- {}:", format.name())), "{help}");
    }
    assert!(help.contains("\nExit codes:\n  0    done\n"), "{help}");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exports.md").exists());
}
