//! Builds a root file system from a distribution's archive with mmdebstrap.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{
    bootable,
    cache::{Cache, Temp},
    definition::{Definition, Distribution, Source, Suite},
    error::{Error, ErrorOrigin},
    job::Job,
    manifest::{Sum, save},
    tool::{Tool, require},
};

use crate::sys;

/// The mtime of all files of a build, 2025-01-01, so that the same packages give the same archive.
pub(super) const EPOCH: &str = "1735689600";
/// apt's limits: an archive that does not answer must not delay the fallback for long.
const APT: [&str; 3] =
    [r#"Acquire::Retries "0""#, r#"Acquire::http::Timeout "15""#, r#"Acquire::https::Timeout "15""#];
/// Tables of suites by distribution, from the package distro-info-data.
const TABLES: &str = "/usr/share/distro-info";
/// Debian's names of roles, each of which is one of its suites.
const ALIASES: [&str; 5] = ["oldstable", "stable", "testing", "unstable", "sid"];
/// Bytes of available memory for a build in memory: it is two and a half times as fast, since dpkg writes everything
/// twice and syncs.
const ROOMY: u64 = 4 << 30;

/// Writes the suite with `packages` and a kernel to `tar`.
pub(super) async fn build(
    job: &Job<'_>,
    suite: &Suite,
    packages: &[String],
    bootable: bool,
    tar: &Path,
) -> Result<Sum, Error> {
    require("mmdebstrap")?;
    check(suite)?;
    let temp = job.cache.temp()?;
    let mut memory = match private_tmpfs(job, temp.path()).await {
        true => {
            sys::available_memory().filter(|&available| available >= ROOMY).map(|available| available / 4 * 3)
        }
        false => None,
    };
    loop {
        let tool = mmdebstrap(suite, packages, bootable, temp.path(), memory).within(&temp)?;
        let built = tool
            .with_stdout(&job.cancel, |stdout| {
                let stream = ReaderStream::with_capacity(stdout, 256 << 10);
                save(stream.map_err(|error| Error::io("reading the output of", "mmdebstrap")(error)), tar)
            })
            .await;
        match built {
            Err(Error::Tool { output, .. }) if memory.is_some() && is_full(&output) => {
                job.say("it does not fit into memory: building on the disk");
                memory = None;
                std::fs::remove_file(tar).map_err(Error::io("removing", tar))?;
            }
            Err(Error::Tool { outcome, output, .. }) => return Err(explain(suite, &outcome, &output)),
            other => return other,
        }
    }
}

impl Definition {
    /// Checks what can be checked without asking the source.
    ///
    /// # Errors
    /// When this host lacks what building the suite takes.
    pub fn check(&self) -> Result<(), Error> {
        match &self.source {
            Source::Suite(suite) => check(suite),
            Source::Tarball(_) | Source::Registry(_) | Source::Cloud(_) => Ok(()),
        }
    }
}

/// Checks the suite without asking its archive.
pub(super) fn check(suite: &Suite) -> Result<(), Error> {
    let known = known(suite, Path::new(TABLES));
    known.and_then(|()| keyring(suite)).map_err(|why| unavailable(suite, why, ErrorOrigin::Here))
}

/// Asks the suite's archive for its release files and checks their signatures, like the first step of a build: with the
/// same program and options, but without lists of packages. Needs no root.
pub(super) async fn ask(
    suite: &Suite,
    cache: Option<&Cache>,
    patience: std::time::Duration,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    require("mmdebstrap")?;
    check(suite)?;
    // Its own, since a mmdebstrap that is killed leaves files there; in the cache, where the next sweep removes it.
    let in_cache = cache.and_then(|cache| cache.temp().ok());
    let elsewhere = match in_cache {
        Some(_) => None,
        None => {
            let made = tempfile::Builder::new().prefix("bootrace-").tempdir();
            Some(made.map_err(Error::io("making a directory in", &std::env::temp_dir()))?)
        }
    };
    let temp = in_cache.as_ref().map(Temp::path).or(elsewhere.as_ref().map(tempfile::TempDir::path));
    let mode = if sys::is_root() { "root" } else { "chrootless" };
    // Lets apt, which knows the reason, time out first.
    let seconds = (patience.as_secs() / 2).max(1);
    let mut tool = Tool::new("mmdebstrap")
        .env("TMPDIR", temp.unwrap_or(Path::new("/tmp")))
        .args(["--simulate", "--format=tar", "--variant=custom"])
        .arg(format!("--mode={mode}"))
        .arg(format!("--components={}", suite.components.join(",")))
        .arg(r#"--aptopt=Acquire::Retries "0""#)
        .args(["http", "https"].map(|way| format!("--aptopt=Acquire::{way}::Timeout \"{seconds}\"")))
        .arg(r#"--aptopt=Acquire::IndexTargets::deb::Packages::DefaultEnabled "false""#);
    if let Some(keyring) = &suite.keyring {
        tool = tool.arg(keyring_option(keyring));
    }
    tool = tool.args([suite.name.as_str(), "-"]);
    if let Some(mirror) = &suite.mirror {
        tool = tool.arg(mirror_for_apt(mirror));
    }
    match tool.run(cancel).await {
        // Only the lists are missing, which the options exclude: the archive has answered.
        Err(Error::Tool { output, .. }) if lists_alone_are_missing(&output) => Ok(()),
        Err(Error::Tool { outcome, output, .. }) => Err(explain(suite, &outcome, &output)),
        other => other,
    }
}

/// Whether the error is only about missing lists, in the texts of newer and older versions.
fn lists_alone_are_missing(output: &str) -> bool {
    output.contains("did not find any indices") || output.contains("indextargets output is empty")
}

fn keyring_option(keyring: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from("--keyring=");
    option.push(keyring);
    option
}

fn unavailable(suite: &Suite, why: String, origin: ErrorOrigin) -> Error {
    Error::Source { asked: Source::Suite(suite.clone()).to_string(), why, origin }
}

/// Why mmdebstrap failed. Only apt's messages about the archive are a reason for the fallback. A full disk, a killed
/// process or a package that does not install would fail with another suite too.
pub(crate) fn explain(suite: &Suite, outcome: &str, output: &str) -> Error {
    let said = |signs: &[&str]| signs.iter().any(|sign| output.contains(sign));
    let why = format!("mmdebstrap {outcome}: {output}");
    let asked = Source::Suite(suite.clone());
    if said(&["Unable to locate package", "has no installation candidate", "Couldn't find any package"]) {
        return Error::Scenario(format!(
            "packages: {asked} does not have all of them (are they spelt as there, and is their section one of \
             components, {}?): {why}",
            suite.components.join(", ")
        ));
    }
    if said(&["NO_PUBKEY", "is not signed"]) {
        return unavailable(suite, format!("{}{why}", unknown_key(suite)), ErrorOrigin::Here);
    }
    if !is_full(output)
        && said(&["Failed to fetch", "does not have a Release file", "no longer has a Release file"])
    {
        return unavailable(suite, why, ErrorOrigin::There);
    }
    Error::Tree { image: asked.to_string(), why }
}

fn mmdebstrap(suite: &Suite, packages: &[String], bootable: bool, temp: &Path, memory: Option<u64>) -> Tool {
    let mut tool = match memory {
        // The mount is in a private namespace: it disappears with the build's last process.
        Some(bytes) => Tool::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
            .arg(r#"mount -t tmpfs -o "size=$0,mode=0755" bootrace "$TMPDIR" && exec "$@""#)
            .args([&bytes.to_string(), "mmdebstrap"]),
        None => Tool::new("mmdebstrap"),
    };
    let kernel = kernel(suite, bootable);
    let system = if bootable { bootable::packages(suite.distribution) } else { &[] };
    let include: Vec<&str> =
        packages.iter().map(String::as_str).chain([kernel]).chain(system.iter().copied()).collect();
    tool = tool
        .env("TMPDIR", temp)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["--mode=root", "--format=tar", "--variant=minbase"])
        .arg(format!("--include={}", include.join(",")))
        .arg(format!("--components={}", suite.components.join(",")))
        .args(APT.map(|option| format!("--aptopt={option}")))
        // The build's settings must not stay in the image.
        .arg(r#"--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap""#);
    if !bootable {
        // A VM boots bootrace's initramfs; building the distribution's takes seconds.
        tool = tool.env("INITRD", "No");
    }
    if let Some(keyring) = &suite.keyring {
        tool = tool.arg(keyring_option(keyring));
    }
    tool = tool.args([suite.name.as_str(), "-"]);
    match &suite.mirror {
        Some(mirror) => tool.arg(mirror_for_apt(mirror)),
        None => tool,
    }
}

/// The package of the kernel that boots fastest and works for all VM targets.
fn kernel(suite: &Suite, bootable: bool) -> &'static str {
    match suite.distribution {
        // Debian has a cloud kernel only for these two architectures.
        Distribution::Debian if std::env::consts::ARCH == "aarch64" => "linux-image-cloud-arm64",
        Distribution::Debian => "linux-image-cloud-amd64",
        // Half the size, and ready in half the time under emulation. In later releases it is only another name, and
        // none of noble's other kernels is faster. It may lack drivers that a whole system needs.
        Distribution::Ubuntu if suite.name == "jammy" && !bootable && std::env::consts::ARCH == "x86_64" => {
            "linux-image-kvm"
        }
        Distribution::Ubuntu => "linux-image-virtual",
    }
}

/// Replaces `file:` with `copy:`. mmdebstrap refuses `file:`, because a path of this host does not exist within the
/// root file system; `copy:` reads the same path from outside.
fn mirror_for_apt(mirror: &str) -> String {
    match mirror.strip_prefix("file:") {
        Some(path) => format!("copy:{path}"),
        None => mirror.into(),
    }
}

/// Checks that distro-info-data lists the suite. mmdebstrap gets only the suite's name and finds its distribution in
/// these tables; for an unknown name it would ask Debian's mirror.
pub(crate) fn known(suite: &Suite, tables: &Path) -> Result<(), String> {
    let distribution = suite.distribution.name();
    let alias = suite.distribution == Distribution::Debian && ALIASES.contains(&suite.name.as_str());
    if suite.mirror.is_some() || alias {
        return Ok(());
    }
    // Without the tables mmdebstrap uses its own older ones.
    let Ok(table) = std::fs::read_to_string(tables.join(format!("{distribution}.csv"))) else {
        return Ok(());
    };
    let mut lines = table.lines().map(|line| line.split(','));
    let column = lines.next().and_then(|mut header| header.position(|name| name == "series"));
    let Some(column) = column else { return Ok(()) };
    if lines.any(|mut line| line.nth(column) == Some(suite.name.as_str())) {
        return Ok(());
    }
    Err(format!(
        "mmdebstrap on this host does not know {distribution}'s {}: upgrade the package distro-info-data, or give \
         mirror = \"URL\" in [image]",
        suite.name
    ))
}

/// Checks that the distribution's keys are here, with a clearer message than apt's.
fn keyring(suite: &Suite) -> Result<(), String> {
    if suite.keyring.is_some() {
        return Ok(());
    }
    let prefix = match suite.distribution {
        Distribution::Debian => "debian-archive",
        Distribution::Ubuntu => "ubuntu",
    };
    let dirs = ["/usr/share/keyrings", "/etc/apt/trusted.gpg.d"].map(PathBuf::from);
    let names = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    if names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        return Ok(());
    }
    Err(format!("this host has no keys to check its archive with: {}", keyring_fix(suite)))
}

fn keyring_fix(suite: &Suite) -> String {
    let package = match suite.distribution {
        Distribution::Debian => "debian-archive-keyring",
        Distribution::Ubuntu => "ubuntu-keyring (on newer Debian ubuntu-archive-keyring)",
    };
    format!("install the package {package}, or give keyring = \"FILE.gpg\" in [image]")
}

/// The start of a message, which apt's own message follows.
fn unknown_key(suite: &Suite) -> String {
    let keys = match &suite.keyring {
        Some(keyring) => format!("the keyring {} does not have", keyring.display()),
        None => "this host does not have".into(),
    };
    format!("{keys} the key that its archive is signed with ({}); ", keyring_fix(suite))
}

/// Whether a process can mount a tmpfs in a private namespace: not in most containers.
async fn private_tmpfs(job: &Job<'_>, dir: &Path) -> bool {
    let mount = Tool::new("unshare").args(["--mount", "--propagation", "private", "--"]);
    mount.args(["mount", "-t", "tmpfs", "bootrace"]).arg(dir).run(&job.cancel).await.is_ok()
}

fn is_full(output: &str) -> bool {
    output.contains("No space left on device") || output.contains("enough free space")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noble() -> Suite {
        Suite {
            distribution: Distribution::Ubuntu,
            name: "noble".into(),
            mirror: None,
            keyring: None,
            components: vec!["main".into()],
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_small_kernel_is_taken_where_there_is_one_and_a_whole_system_gets_the_usual_one() {
        let jammy = Suite { name: "jammy".into(), ..noble() };
        let of = |suite: &Suite| [false, true].map(|bootable| kernel(suite, bootable));
        assert_eq!(of(&jammy), ["linux-image-kvm", "linux-image-virtual"]);
        assert_eq!(of(&noble()), ["linux-image-virtual", "linux-image-virtual"]);
    }

    #[test]
    fn only_an_archive_that_cannot_be_had_means_another_one() {
        let about = |output: &str| explain(&noble(), "ended with exit code 25", output).about_the_source();
        for (output, origin) in [
            (
                "E: Failed to fetch http://x/InRelease  Could not connect to x:80 (1.2.3.4)",
                Some(ErrorOrigin::There),
            ),
            (
                "E: The repository 'http://x noble Release' does not have a Release file.",
                Some(ErrorOrigin::There),
            ),
            ("E: The repository 'http://x noble InRelease' is not signed.", Some(ErrorOrigin::Here)),
            ("E: Failed to fetch http://x/a.deb  write (28: No space left on device)", None),
            ("E: Unable to locate package redis-sever", None),
            (
                "dpkg: error processing package x (--configure): | E: Sub-process /usr/bin/dpkg returned an error code (1)",
                None,
            ),
            ("it said nothing", None),
        ] {
            assert_eq!(about(output), origin, "{output}");
        }
        let error = explain(&noble(), "ended with exit code 25", "E: Unable to locate package redis-sever");
        assert_eq!(
            error.to_string(),
            "[image] packages: ubuntu/noble does not have all of them (are they spelt as there, and is their section \
             one of components, main?): mmdebstrap ended with exit code 25: E: Unable to locate package redis-sever"
        );
    }

    #[test]
    fn an_archive_has_answered_when_only_the_lists_that_were_left_out_are_missing() {
        assert!(lists_alone_are_missing(
            "E: apt-get update did not find any indices for architecture 'amd64' in suite 'bookworm'"
        ));
        assert!(!lists_alone_are_missing("E: Failed to fetch http://x/InRelease  Could not connect to x:80"));
    }

    #[test]
    fn a_suite_that_mmdebstrap_would_seek_at_another_distribution_is_refused() {
        let tables = tempfile::tempdir().unwrap();
        let known = |suite: Suite| known(&suite, tables.path());
        assert_eq!(known(noble()), Ok(()));
        std::fs::write(tables.path().join("ubuntu.csv"), "version,codename,series\n22.04,J J,jammy\n")
            .unwrap();
        std::fs::write(tables.path().join("debian.csv"), "version,codename,series\n12,Bookworm,bookworm\n")
            .unwrap();
        assert_eq!(
            known(noble()).unwrap_err(),
            "mmdebstrap on this host does not know ubuntu's noble: upgrade the package distro-info-data, or give \
             mirror = \"URL\" in [image]"
        );
        assert_eq!(known(Suite { name: "jammy".into(), ..noble() }), Ok(()));
        assert_eq!(known(Suite { mirror: Some("http://127.0.0.1/ubuntu".into()), ..noble() }), Ok(()));
        let debian =
            |name: &str| known(Suite { distribution: Distribution::Debian, name: name.into(), ..noble() });
        assert_eq!((debian("bookworm"), debian("stable"), debian("sid")), (Ok(()), Ok(()), Ok(())));
        assert!(debian("jammy").is_err());
    }

    #[test]
    fn a_mirror_on_this_host_is_one_that_mmdebstrap_takes() {
        assert_eq!(mirror_for_apt("file:///srv/mirror"), "copy:///srv/mirror");
        assert_eq!(mirror_for_apt("http://127.0.0.1/ubuntu"), "http://127.0.0.1/ubuntu");
    }

    #[test]
    fn a_keyring_without_the_archives_key_is_said_in_words_with_the_fix() {
        let suite = Suite { keyring: Some("/old.gpg".into()), ..noble() };
        assert_eq!(
            unknown_key(&suite),
            "the keyring /old.gpg does not have the key that its archive is signed with (install the package \
             ubuntu-keyring (on newer Debian ubuntu-archive-keyring), or give keyring = \"FILE.gpg\" in [image]); "
        );
    }
}
