//! `bootrace export`: writes a run in formats that other programs read.

use std::{io::Write, path::PathBuf};

use anyhow::anyhow;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::{Failure, WARNING, compare::not_a_run, print, say, written};
use crate::report::{
    self, clean,
    export::{Export, Files, Format, export, write_file, write_files},
};

pub const EXAMPLES: &str = "\
Examples:
  bootrace export reports/latest --format csv > samples.csv
  bencher run --adapter json 'bootrace export reports/latest --format bmf'
  bootrace export reports/latest --format gab --to bench/        two files, one for each direction
  bootrace export reports/latest --format criterion --to target/criterion    then: critcmp
  bootrace export reports/latest --format prometheus --to /var/lib/node_exporter/bootrace.prom

Figures are medians with their intervals, or as the format requires; csv has every sample. Emulated VMs are
called TCG (emulated). docs/exports.md describes the fields of each format.";

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory of a run, which contains its results.json.
    #[arg(value_name = "RUN_DIR")]
    pub run: PathBuf,
    /// Format to export to.
    #[arg(long, short, value_parser = formats())]
    pub format: Format,
    /// Write to this file instead of standard output; formats of several files need a directory.
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
}

fn formats() -> impl TypedValueParser<Value = Format> {
    let named = |format: Format| PossibleValue::new(format.name()).help(format.about());
    PossibleValuesParser::new(Format::all().map(named))
        .map(|name| Format::from_name(&name).expect("clap lets only their names through"))
}

/// Exports a run. It reads the run first, so that an unreadable run leaves no file.
///
/// # Errors
/// [`Failure::Usage`] for a run or path that does not fit; [`Failure::Run`] when a file can't be written, or a target has no
/// good sample.
pub fn run(options: &Options) -> Result<(), Failure> {
    check(options).map_err(Failure::Usage)?;
    if let Some(error) = not_a_run(&options.run) {
        return Err(Failure::Usage(error));
    }
    let results = report::load(&options.run).map_err(|e| Failure::Usage(e.into()))?;
    let exported = export(&results, options.format);
    match (&exported.files, &options.to) {
        (Files::One(bytes), None) => to_stdout(bytes)?,
        (Files::One(bytes), Some(path)) => {
            write_file(path, bytes).map_err(|e| Failure::Run(e.into()))?;
            print(&format!("exported: {}\n", path.display()))?;
        }
        (Files::Several(files), Some(dir)) => {
            write_files(dir, files).map_err(|e| Failure::Run(e.into()))?;
            print(&format!("exported: {}, {} files\n", dir.display(), files.len()))?;
        }
        (Files::Several(_), None) => unreachable!("check() has asked for a directory"),
    }
    verdict(&exported)
}

fn check(options: &Options) -> anyhow::Result<()> {
    let (name, several) = (options.format.name(), options.format.has_several_files());
    match options.to.as_deref() {
        None if several => {
            Err(anyhow!("--format {name} writes several files\nfix: name a directory for them with --to DIR"))
        }
        Some(path) if several && path.exists() && !path.is_dir() => Err(anyhow!(
            "--format {name} writes several files, and {} is no directory\nfix: name one with --to DIR",
            path.display()
        )),
        Some(path) if !several && (path.is_dir() || path.file_name().is_none()) => Err(anyhow!(
            "--format {name} writes one file, and {} is a directory\nfix: name a file, as in --to {}",
            path.display(),
            path.join(options.format.usual_path()).display()
        )),
        _ => Ok(()),
    }
}

/// Writes to standard output unchanged, for programs. A closed pipe is no error.
fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Writes to standard error what the format can't express. A target without a good sample is a failure.
fn verdict(exported: &Export) -> Result<(), Failure> {
    for note in &exported.notes {
        say(&format!("{WARNING}note:{WARNING:#} {}", clean(note, 500)));
    }
    match exported.without_samples.as_slice() {
        [] => Ok(()),
        names => Err(Failure::Run(anyhow!(
            "no good sample of {}, so none of its figures is exported; the others are",
            names.join(", ")
        ))),
    }
}
