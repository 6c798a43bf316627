//! A root file system from a distribution's archive, by mmdebstrap.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use tokio_util::io::ReaderStream;

use super::{
    definition::{Distribution, Source, Suite},
    error::Error,
    job::Job,
    manifest::{Sum, save},
    tool::{Tool, require},
};

/// The mtime of all that the build makes, so that the same packages give the same archive:
/// 2025-01-01, older than no file matters.
pub(super) const EPOCH: &str = "1735689600";
/// An archive that does not answer must not hold up the fallback for long.
const APT: [&str; 3] =
    [r#"Acquire::Retries "0""#, r#"Acquire::http::Timeout "15""#, r#"Acquire::https::Timeout "15""#];
/// Builds go to memory where there is this much of it: two and a half times as fast, as dpkg
/// writes everything twice and syncs.
const ROOMY: u64 = 4 << 30;

/// Writes the suite with `packages` and its kernel to `tar`.
pub(super) async fn build(
    job: &Job<'_>,
    suite: &Suite,
    packages: &[String],
    tar: &Path,
) -> Result<Sum, Error> {
    require("mmdebstrap")?;
    let source = |why| Error::Source { asked: Source::Suite(suite.clone()).to_string(), why };
    keyring(suite).map_err(source)?;
    let temp = job.cache.temp()?;
    let mut memory = match private_mounts(job).await {
        true => available_memory().filter(|&available| available >= ROOMY).map(|available| available / 4 * 3),
        false => None,
    };
    loop {
        let tool = mmdebstrap(suite, packages, temp.path(), memory);
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
            Err(Error::Tool { outcome, output, .. }) => {
                return Err(source(format!("mmdebstrap {outcome}: {output}")));
            }
            other => return other,
        }
    }
}

fn mmdebstrap(suite: &Suite, packages: &[String], temp: &Path, memory: Option<u64>) -> Tool {
    let mut tool = match memory {
        // The mount is in a namespace of its own: it goes with the last process of the build.
        Some(bytes) => Tool::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c"])
            .arg(r#"mount -t tmpfs -o "size=$0,mode=0755" bootrace "$TMPDIR" && exec "$@""#)
            .args([&bytes.to_string(), "mmdebstrap"]),
        None => Tool::new("mmdebstrap"),
    };
    let kernel = match suite.distribution {
        // Debian has a cloud kernel for these two alone.
        Distribution::Debian if std::env::consts::ARCH == "aarch64" => "linux-image-cloud-arm64",
        Distribution::Debian => "linux-image-cloud-amd64",
        Distribution::Ubuntu => "linux-image-virtual",
    };
    let include: Vec<&str> = packages.iter().map(String::as_str).chain([kernel]).collect();
    tool = tool
        .env("TMPDIR", temp)
        .env("SOURCE_DATE_EPOCH", EPOCH)
        // A VM boots our initramfs; making the distribution's takes seconds.
        .env("INITRD", "No")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["--mode=root", "--format=tar", "--variant=minbase"])
        .arg(format!("--include={}", include.join(",")))
        .arg(format!("--components={}", suite.components.join(",")))
        .args(APT.map(|option| format!("--aptopt={option}")))
        // What was right for building is not for the image.
        .arg(r#"--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap""#);
    if let Some(keyring) = &suite.keyring {
        tool = tool.arg({
            let mut arg = std::ffi::OsString::from("--keyring=");
            arg.push(keyring);
            arg
        });
    }
    tool = tool.args([suite.name.as_str(), "-"]);
    match &suite.mirror {
        Some(mirror) => tool.arg(mirror),
        None => tool,
    }
}

/// Said in words before apt says it in hex.
fn keyring(suite: &Suite) -> Result<(), String> {
    if let Some(keyring) = &suite.keyring {
        return match keyring.exists() {
            true => Ok(()),
            false => Err(format!("the keyring {} is not there", keyring.display())),
        };
    }
    let (name, prefix, packages) = match suite.distribution {
        Distribution::Debian => ("Debian", "debian-archive", "debian-archive-keyring"),
        Distribution::Ubuntu => {
            ("Ubuntu", "ubuntu", "ubuntu-keyring (ubuntu-archive-keyring on newer Debian)")
        }
    };
    let dirs = ["/usr/share/keyrings", "/etc/apt/trusted.gpg.d"].map(PathBuf::from);
    let names = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    if names.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        return Ok(());
    }
    Err(format!(
        "this host has no keys to check {name}'s archive with: install the package {packages}, or give keyring = \
         \"FILE.gpg\" in [image]"
    ))
}

/// A container without CAP_SYS_ADMIN has none.
async fn private_mounts(job: &Job<'_>) -> bool {
    Tool::new("unshare").args(["--mount", "--", "true"]).run(&job.cancel).await.is_ok()
}

/// In bytes, as the kernel estimates it.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn is_full(output: &str) -> bool {
    output.contains("No space left on device") || output.contains("enough free space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_hosts_memory_can_be_read() {
        assert!(available_memory().unwrap() > 1 << 20);
    }

    #[test]
    fn a_missing_keyring_is_said_in_words_with_the_mend() {
        let suite = |keyring: &str| Suite {
            distribution: Distribution::Ubuntu,
            name: "noble".into(),
            mirror: None,
            keyring: Some(keyring.into()),
            components: vec!["main".into()],
        };
        assert_eq!(keyring(&suite("/no/such.gpg")).unwrap_err(), "the keyring /no/such.gpg is not there");
        assert_eq!(keyring(&suite("/proc/meminfo")), Ok(()));
    }
}
