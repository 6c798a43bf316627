//! The rules of `cloud` and `sha256` in `[image]`.

use super::{
    Image,
    path::at,
    rules::Wrong,
    text::{ensure, fail, file_on_host},
};
use crate::foreign::quoted;

/// Longest URL, in bytes.
const URL_MOST: usize = 1024;

pub(super) fn check(image: &Image, wrong: &mut Wrong<'_>) {
    if let Some(cloud) = &image.cloud {
        wrong(at!["image", "cloud"], if cloud.contains("://") { url(cloud) } else { file_on_host(cloud) });
        if is_url(cloud) && image.sha256.is_none() {
            let text = "the file at a URL may change: write its sha256 = \"...\" beside it, from the publisher's SHA256SUMS";
            wrong(at!["image", "cloud"], fail(text));
        }
        if !image.packages.is_empty() {
            let text = "packages can't be added to a cloud image, which is booted as it is: put them into it (virt-customize does), or use suite";
            wrong(at!["image", "packages"], fail(text));
        }
    }
    if let Some(sum) = &image.sha256 {
        let good = sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let text = || format!("{} is no sha256 sum: write 64 hex digits, in lower case", quoted(sum));
        wrong(at!["image", "sha256"], ensure(good, text));
        if image.cloud.is_none() {
            wrong(at!["image", "sha256"], fail("this goes with cloud: leave it out for other sources"));
        }
    }
}

/// Whether `cloud` is a http(s) URL; else it is a file on this host.
pub fn is_url(cloud: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| cloud.starts_with(scheme))
}

/// The URL may contain no user or password: outputs and results show it.
fn url(text: &str) -> Result<(), String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~:/%+-".contains(c);
    let good = rest.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphanumeric()) && rest.contains('/') && rest.chars().all(plain)
    });
    ensure(good && text.len() <= URL_MOST, || {
        format!(
            "{} is not where a cloud image can be fetched: write a http or https URL without user, password and query, \
             as in \"https://HOST/noble-server-cloudimg-amd64.img\", or a file of this host",
            quoted(text)
        )
    })
}
