//! Exports a run to the formats of other programs, one module per format; pure: results in, bytes out.
//! `docs/exports.md` describes the contents and omissions of each format.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Component, Path, PathBuf},
};

use super::{Error, put, text};
use crate::{
    analysis::{self, Analysis, Metric, is_measured},
    sample::{self, Results, Sample},
};

mod bmf;
mod criterion;
mod csv;
mod gab;
mod hyperfine;
mod junit;
mod prometheus;
mod statistics;

/// Longest name of a scenario or target, as in scenarios.
const LONGEST_NAME: usize = 64;

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bencher Metric Format.
    Bmf,
    /// Two files for github-action-benchmark.
    Gab,
    /// JSON of `hyperfine --export-json`.
    Hyperfine,
    /// Directories of criterion.
    Criterion,
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// A row for each sample.
    Csv,
    /// JUnit XML with a test case for each claim and each gating figure.
    Junit,
}

/// Files by their paths within a directory.
type Paths = Vec<(PathBuf, Vec<u8>)>;

/// Function that generates a format's files.
#[derive(Clone, Copy)]
enum Make {
    One(fn(&Run<'_>) -> Vec<u8>),
    /// Files in a directory; notes name what the format can't represent.
    Several(fn(&Run<'_>, &mut Vec<String>) -> Paths),
}

/// Properties of a format.
struct Row {
    format: Format,
    name: &'static str,
    about: &'static str,
    /// Common name of its file, or an example of a directory.
    usual: &'static str,
    make: Make,
}

/// A row for each format, in the order of help texts.
static TABLE: [Row; 7] = [
    Row {
        format: Format::Bmf,
        name: "bmf",
        about: "Bencher Metric Format",
        usual: "bmf.json",
        make: Make::One(bmf::file),
    },
    Row {
        format: Format::Gab,
        name: "gab",
        about: "github-action-benchmark, smaller-is-better.json and bigger-is-better.json",
        usual: "bench/",
        make: Make::Several(gab::files),
    },
    Row {
        format: Format::Hyperfine,
        name: "hyperfine",
        about: "the JSON of hyperfine --export-json",
        usual: "hyperfine.json",
        make: Make::One(hyperfine::file),
    },
    Row {
        format: Format::Criterion,
        name: "criterion",
        about: "criterion's directories, for critcmp and cargo bench -- --baseline",
        usual: "target/criterion",
        make: Make::Several(criterion::files),
    },
    Row {
        format: Format::Prometheus,
        name: "prometheus",
        about: "Prometheus text file",
        usual: "bootrace.prom",
        make: Make::One(prometheus::file),
    },
    Row {
        format: Format::Csv,
        name: "csv",
        about: "every sample as a row",
        usual: "samples.csv",
        make: Make::One(csv::file),
    },
    Row {
        format: Format::Junit,
        name: "junit",
        about: "JUnit XML: a test case for each claim and each figure of the gate",
        usual: "junit.xml",
        make: Make::One(junit::file),
    },
];

impl Format {
    /// Every format, in the table's order.
    pub fn all() -> impl Iterator<Item = Format> {
        TABLE.iter().map(|row| row.format)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.format == self).expect("every format has a row: a test tries each")
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// A line for a help text.
    pub fn about(self) -> &'static str {
        self.row().about
    }

    /// A path that fits `--to`.
    pub fn usual_path(self) -> &'static str {
        self.row().usual
    }

    /// The format with this name.
    pub fn from_name(name: &str) -> Option<Format> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.format)
    }

    /// Whether the export consists of files in a directory.
    pub fn has_several_files(self) -> bool {
        matches!(self.row().make, Make::Several(_))
    }
}

/// An exported run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Contents of the export.
    pub files: Files,
    /// Targets without a good sample, so without an exported figure.
    pub without_samples: Vec<String>,
    /// Notes for the user about what the format can't represent.
    pub notes: Vec<String>,
}

/// Contents of one or several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// The bytes of the only file.
    One(Vec<u8>),
    /// Files by their paths within a directory, which consist of plain names only.
    Several(Vec<(PathBuf, Vec<u8>)>),
}

/// Exports a run; the same results give the same bytes.
pub fn export(results: &Results, format: Format) -> Export {
    let analysis = analysis::analyse(results);
    let run = Run::new(results, &analysis);
    let mut notes = Vec::new();
    let files = match format.row().make {
        Make::One(make) => Files::One(make(&run)),
        Make::Several(make) => Files::Several(make(&run, &mut notes)),
    };
    let empty = run.targets.iter().filter(|t| t.good.is_empty());
    let without_samples = empty.map(|t| t.name.clone()).collect();
    Export { files, without_samples, notes }
}

/// Writes one file atomically, through a temporary file. It follows a link, and writes to a device or pipe directly: a
/// rename as root would replace /dev/stdout.
///
/// # Errors
/// When the file can't be written, or `path` is a loop of links.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |why| Error::Write { path: path.to_owned(), why };
    match fs::metadata(path) {
        Ok(there) if there.is_file() => put(&fs::canonicalize(path).map_err(failed)?, bytes),
        Ok(_) => fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut special| special.write_all(bytes))
            .map_err(failed),
        Err(_) => put(&end_of(path).map_err(failed)?, bytes),
    }
}

/// Destination of `path` through links, even if it does not exist yet.
fn end_of(path: &Path) -> std::io::Result<PathBuf> {
    let mut end = path.to_owned();
    // Linux follows as many links.
    for _ in 0..40 {
        match fs::read_link(&end) {
            Ok(to) => end = end.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(end),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Writes files below `dir`, each atomically; other files stay.
///
/// # Errors
/// When a file can't be written, or its path leads out of `dir`.
pub fn write_files(dir: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<(), Error> {
    for (path, bytes) in files {
        stays_within(dir, path)?;
        put(&dir.join(path), bytes)?;
    }
    Ok(())
}

/// Refuses a path that leads out of `dir`, by its components or by a symbolic link.
fn stays_within(dir: &Path, path: &Path) -> Result<(), Error> {
    let refused = |path: &Path, why: &str| Error::Write {
        path: path.to_owned(),
        why: std::io::Error::other(format!("{why}: an export writes nothing outside of --to")),
    };
    let mut way = dir.to_owned();
    for component in path.parent().unwrap_or(Path::new("")).components() {
        let Component::Normal(name) = component else {
            return Err(refused(&dir.join(path), "the name leads out of the directory"));
        };
        way.push(name);
        if fs::symlink_metadata(&way).is_ok_and(|m| m.is_symlink()) {
            return Err(refused(&way, "it is a symbolic link"));
        }
    }
    Ok(())
}

/// A run under names that are harmless in every format.
struct Run<'a> {
    results: &'a Results,
    analysis: &'a Analysis,
    scenario: String,
    targets: Vec<Target<'a>>,
}

struct Target<'a> {
    /// Unique within the run.
    name: String,
    /// `<scenario>/<target>`, then emulation of the VM or of the host's processor, and a fallback image.
    label: String,
    /// "TCG (emulated)" or "KVM", with its degree where that is not hardware; `None` unless it is a VM.
    accelerator: Option<&'static str>,
    record: &'a sample::TargetRecord,
    analysed: &'a analysis::TargetAnalysis,
    /// Measured samples, in the order taken.
    good: Vec<&'a Sample>,
}

impl<'a> Run<'a> {
    fn new(results: &'a Results, analysis: &'a Analysis) -> Self {
        let scenario = results.run.scenario.get("name").and_then(|n| n.as_str()).unwrap_or("run");
        let scenario = plain_name(scenario, LONGEST_NAME);
        let names = unique_names(results.targets.iter().map(|t| t.name.as_str()));
        let parts = names.into_iter().zip(&results.targets).zip(&analysis.targets);
        let targets = parts.map(|((name, record), analysed)| {
            let mut label = format!("{scenario}/{name}");
            if record.accelerator == sample::Accelerator::Tcg {
                label = format!("{label}, {}", text::EMULATED);
            }
            if let Some(words) = text::emulated_processor(&results.host) {
                label = format!("{label}, {words}");
            }
            if results.image.fallback {
                label.push_str(", fallback image");
            }
            Target {
                name,
                label,
                accelerator: text::accelerator_of(analysed),
                record,
                analysed,
                good: results.samples.iter().filter(|s| s.target == record.name && is_measured(s)).collect(),
            }
        });
        Run { results, analysis, targets: targets.collect(), scenario }
    }
}

impl Target<'_> {
    /// Values of the good samples, in the order taken and in the metric's unit.
    fn values(&self, metric: Metric) -> Vec<f64> {
        self.good.iter().filter_map(|s| metric.of(s)).collect()
    }
}

/// A valid name of a scenario or target is unchanged. In other names, from files edited by hand, '_' replaces all
/// characters but letters, digits, '.', '_' and '-', and a first character other than a letter or digit. The result
/// can't act as a path, option, formula, markup or quote.
fn plain_name(name: &str, longest: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let mut out: String = name.chars().take(longest).map(plain).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        out.replace_range(..out.len().min(1), "_");
    }
    out
}

/// Plain names, made unique by a number.
fn unique_names<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let unique = |name: &str| {
        let plain = plain_name(name, LONGEST_NAME);
        let numbered = (2..).map(|n| {
            let number = format!("_{n}");
            format!("{}{number}", &plain[..plain.len().min(LONGEST_NAME - number.len())])
        });
        let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name));
        let free = free.expect("numbers don't end");
        taken.insert(free.clone());
        free
    };
    names.map(unique).collect()
}

/// Indented JSON with a line break at its end.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("names and numbers are always JSON");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_own_name() {
        for format in Format::all() {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
        assert_eq!(Format::from_name("xml"), None);
    }

    #[test]
    fn names_that_scenarios_allow_stay_as_they_are() {
        let longest = "x".repeat(LONGEST_NAME);
        for name in ["docker", "vm-2.direct_boot", "0", longest.as_str()] {
            assert_eq!(plain_name(name, LONGEST_NAME), name);
        }
    }

    #[test]
    fn names_that_could_do_something_cannot_any_more() {
        let known = [
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("..", "_."),
            ("", "_"),
            ("=1+1", "_1_1"),
            ("-rf", "_rf"),
            (".hidden", "_hidden"),
            ("a`b|c\n\"d\\{\u{1b}[31m", "a_b_c__d____31m"),
            ("\u{fc}ber", "_ber"),
        ];
        for (name, plain) in known {
            assert_eq!(plain_name(name, LONGEST_NAME), plain, "{name:?}");
        }
        assert_eq!(plain_name(&"a".repeat(99), LONGEST_NAME).len(), LONGEST_NAME);
    }

    #[test]
    fn no_two_targets_get_the_same_name() {
        let long = "x".repeat(80);
        let names = unique_names(["a/b", "a_b", "a b", "c", &long, &long].into_iter());
        assert_eq!(names[..4], ["a_b", "a_b_2", "a_b_3", "c"]);
        assert_eq!(names[5], "x".repeat(LONGEST_NAME - 2) + "_2");
    }

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        for path in ["../x/file", "/tmp/x/file", "a/../../file", "link/file", "link/deeper/file"] {
            let failure = write_files(dir.path(), &[(path.into(), b"x".to_vec())]).unwrap_err();
            assert!(failure.to_string().contains("nothing outside of --to"), "{path}: {failure}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        write_files(dir.path(), &[("a/b/file".into(), b"x".to_vec())]).unwrap();
        assert_eq!(fs::read(dir.path().join("a/b/file")).unwrap(), b"x");
    }
}
