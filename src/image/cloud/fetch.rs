//! Fetches a cloud image's file: copies it from this host or downloads it with curl, and checks its checksum.

use std::{cell::Cell, path::Path};

use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use super::super::{
    cache::open_up,
    definition::{Cloud, HostFile, Place},
    error::{Error, ErrorOrigin},
    job::Job,
    manifest::{Sum, save, sum_file},
    tool::{Tool, require},
};

/// The largest accepted file, in bytes.
const LARGEST_FILE: u64 = 16 << 30;
/// curl gives up a server that sends fewer than so many bytes a second for so many seconds.
const SLOWEST: (&str, &str) = ("1024", "60");

/// Writes the cloud image's file to `to` and checks the checksum that the scenario gives.
///
/// # Errors
/// When the download or copy fails, the file is too large, or its sha256 is not the scenario's.
pub async fn fetch(job: &Job<'_>, cloud: &Cloud, to: &Path) -> Result<Sum, Error> {
    let (sum, origin) = match &cloud.place {
        Place::File(file) => (copy(job, cloud, file, to).await?, ErrorOrigin::Here),
        Place::Url(url) => (download(job, cloud, url, to).await?, ErrorOrigin::There),
    };
    match &cloud.sha256 {
        Some(expected) if *expected != sum.sha256 => Err(Error::Source {
            asked: cloud.to_string(),
            why: format!(
                "its sha256 is {}, and the scenario says {expected}: is it another version, or cut short? write the \
                 sum that its publisher gives (SHA256SUMS), and fetch the image that has it",
                sum.sha256
            ),
            origin,
        }),
        _ => Ok(sum),
    }
}

async fn copy(job: &Job<'_>, cloud: &Cloud, file: &HostFile, to: &Path) -> Result<Sum, Error> {
    if file.bytes > LARGEST_FILE {
        return Err(too_large(cloud));
    }
    let copy = Tool::new("cp").args(["--reflink=auto", "--"]).args([&file.path, to]);
    copy.run(&job.cancel).await?;
    open_up(to)?;
    let to = to.to_path_buf();
    job.blocking(move || sum_file(&to)).await
}

async fn download(job: &Job<'_>, cloud: &Cloud, url: &str, to: &Path) -> Result<Sum, Error> {
    require("curl")?;
    job.say(format!("fetching {url}"));
    let curl = Tool::new("curl")
        // Ignores the user's settings. Allows only http and https, also in redirects.
        .args(["--disable", "--proto", "=http,https", "--fail", "--location", "--max-redirs", "10"])
        .args(["--silent", "--show-error", "--connect-timeout", "20"])
        .args(["--speed-limit", SLOWEST.0, "--speed-time", SLOWEST.1])
        .args(["--max-filesize", &LARGEST_FILE.to_string(), "--url", url]);
    let (mut left, over) = (LARGEST_FILE, Cell::new(false));
    let fetched = curl
        .with_stdout(&job.cancel, |stdout| {
            let stream = ReaderStream::with_capacity(stdout, 256 << 10);
            let bounded =
                stream.map_err(|error| Error::io("reading the output of", "curl")(error)).map(|chunk| {
                    let chunk = chunk?;
                    match left.checked_sub(chunk.len() as u64) {
                        Some(rest) => left = rest,
                        None => over.set(true),
                    }
                    if over.get() { Err(too_large(cloud)) } else { Ok(chunk) }
                });
            save(bounded, to)
        })
        .await;
    match fetched {
        _ if over.get() => Err(too_large(cloud)),
        Err(Error::Tool { outcome, output, .. }) => Err(Error::Source {
            asked: cloud.to_string(),
            why: format!("curl {outcome}: {output}"),
            origin: ErrorOrigin::There,
        }),
        other => other,
    }
}

fn too_large(cloud: &Cloud) -> Error {
    let why = format!("its file is larger than {} GiB, which no cloud image is", LARGEST_FILE >> 30);
    Error::Disk { image: cloud.to_string(), why }
}
