//! `bootrace image`: builds, lists and prunes the images of runs.

use anyhow::{Context, anyhow};
use comfy_table::{Table, presets::NOTHING};
use jiff::{SignedDuration, Timestamp};

use super::{Failure, print, say};
use crate::{
    image::{self, Cache, Error, Forms, Prune, Stored},
    scenario,
};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Action {
    /// Build the image of scenarios in advance, in every form that their targets need.
    Build {
        /// Scenario files, or names of shipped scenarios.
        #[arg(value_name = "SCENARIO|NAME", default_value = "quickstart")]
        scenarios: Vec<String>,
        /// Try archives again that did not answer within the last day, instead of using their fallback.
        #[arg(long)]
        refresh: bool,
    },
    /// List the images in the cache.
    List {
        /// Read every file and compare its sha256.
        #[arg(long)]
        verify: bool,
    },
    /// Remove images that this version of bootrace cannot use; images in use stay.
    Prune {
        /// Remove all images, the root file systems below them, and the builds of revisions.
        #[arg(long)]
        all: bool,
        /// Remove also images unused for this long, as in 12h or 30d.
        #[arg(long, value_name = "AGE", value_parser = age, conflicts_with = "all")]
        unused: Option<SignedDuration>,
    },
}

/// Runs the subcommand on the cache of the environment.
///
/// # Errors
/// [`Failure::Usage`] for a wrong scenario; [`Failure::Run`] when an image can't be built, listed or removed.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    let cache = Cache::open(None).map_err(failure)?;
    runtime.block_on(async {
        match &options.action {
            Action::Build { scenarios, refresh } => build(&cache, scenarios, *refresh).await,
            Action::List { verify } => list(&cache, *verify).await,
            Action::Prune { all, unused } => {
                let what = match (all, unused) {
                    (true, _) => Prune::All,
                    (false, Some(age)) => Prune::UnusedFor(*age),
                    (false, None) => Prune::Stale,
                };
                prune(&cache, what).await
            }
        }
    })
}

async fn build(cache: &Cache, scenarios: &[String], refresh: bool) -> Result<(), Failure> {
    for name in scenarios {
        let (scenario, base_dir) = scenario::find(name).map_err(|error| Failure::Usage(error.into()))?;
        if refresh {
            image::forget_failure(&scenario.image, &base_dir, cache).map_err(failure)?;
        }
        let log = |line: &str| say(&format!("{}: {line}", scenario.name));
        let forms = Forms::of_image(&scenario.image, &scenario.targets);
        let image = image::ensure(&scenario.image, &base_dir, forms, cache, &log).await.map_err(failure)?;
        let info = &image.info;
        let kernel = info.kernel.as_ref().map(|kernel| format!(", kernel {kernel}")).unwrap_or_default();
        let fallback = if info.fallback { " (fallback)" } else { "" };
        print(&format!("{}  {}/{}{fallback}{kernel}\n", info.digest, info.distribution, info.suite))?;
    }
    Ok(())
}

async fn list(cache: &Cache, verify: bool) -> Result<(), Failure> {
    let log = |line: &str| say(&format!("the forms of an engine are not listed: {line}"));
    let images = image::list(cache, &log).await.map_err(failure)?;
    if images.is_empty() {
        print(&format!("no images in {}; bootrace image build makes one\n", cache.dir().display()))?;
    } else {
        print(&format!("{}\n", table(&images, Timestamp::now())))?;
    }
    if !verify {
        return Ok(());
    }
    let wrong = image::verify(cache).map_err(failure)?;
    if wrong.is_empty() {
        return print("all files match their checksums\n");
    }
    let wrong = wrong.join("\n");
    Err(Failure::Run(anyhow!("the cache is damaged:\n{wrong}\nfix: bootrace image prune --all")))
}

async fn prune(cache: &Cache, what: Prune) -> Result<(), Failure> {
    let pruned = image::prune(cache, what).await.map_err(failure)?;
    for name in &pruned.removed {
        print(&format!("removed {name}\n"))?;
    }
    for name in &pruned.in_use {
        print(&format!("kept {name}: it is in use\n"))?;
    }
    for (engine, why) in &pruned.unreachable {
        say(&format!("kept the images of {}: {why}", engine.name()));
    }
    print(&format!("{} freed\n", size(pruned.freed_bytes)))
}

fn table(images: &[Stored], now: Timestamp) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["IMAGE", "SUITE", "PACKAGES", "FORMS", "SIZE", "MADE", "USED", ""]);
    for image in images {
        let packages = if image.packages.is_empty() { "-".into() } else { image.packages.join(" ") };
        let note = if image.current { "" } else { "another build's agent" };
        table.add_row([
            &image.digest[..image.digest.len().min(12)],
            &image.suite,
            &packages,
            &image.forms.join(" "),
            &size(image.bytes),
            &ago(now.duration_since(image.created)),
            &ago(now.duration_since(image.last_used)),
            note,
        ]);
    }
    table
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes / 1000),
        1_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn ago(age: SignedDuration) -> String {
    match age.as_secs() {
        ..60 => "just now".into(),
        seconds @ 60..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86400),
    }
}

fn age(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("{text:?} is not an age: write a whole number and h or d, as in 12h or 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        _ => return Err(wrong()),
    };
    let number: i64 = text[..text.len() - 1].parse::<u16>().map_err(|_| wrong())?.into();
    Ok(SignedDuration::from_hours(number * hours))
}

/// A scenario's error is a usage error; any other error but a signal fails the command.
pub(super) fn failure(error: Error) -> Failure {
    match error {
        Error::Scenario(_) => Failure::Usage(error.into()),
        Error::Signalled { signal } => Failure::Stopped { signal },
        _ => Failure::Run(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_of_hours_or_days() {
        assert_eq!(age("12h"), Ok(SignedDuration::from_hours(12)));
        assert_eq!(age("30d"), Ok(SignedDuration::from_hours(720)));
        for wrong in ["", "d", "30", "-1d", "1 d", "99999999d", "1é"] {
            assert!(age(wrong).unwrap_err().ends_with("as in 12h or 30d"), "{wrong}");
        }
    }

    #[test]
    fn the_table_lists_all_images_and_marks_unusable_ones() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let stored = |digest: &str, current| Stored {
            digest: digest.repeat(16),
            suite: "debian/bookworm".into(),
            source: "debian/bookworm".into(),
            packages: vec!["nginx".into(), "redis".into()],
            forms: vec!["tree", "docker", "vm"],
            bytes: 1_234_000_000,
            created: now - SignedDuration::from_hours(60),
            last_used: now - SignedDuration::from_secs(5),
            current,
            base: String::new(),
        };
        let text = table(&[stored("abcd", true), stored("0123", false)], now).to_string();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "IMAGE SUITE PACKAGES FORMS SIZE MADE USED",
                "abcdabcdabcd debian/bookworm nginx redis tree docker vm 1234 MB 2 d ago just now",
                "012301230123 debian/bookworm nginx redis tree docker vm 1234 MB 2 d ago just now another build's agent",
            ]
        );
    }
}
