//! `cloud` and `sha256` in `[image]`.

use super::*;

fn image(lines: &str) -> Image {
    parse(&format!("{LEAST}[image]\n{lines}")).unwrap().image
}

fn wrong_image(lines: &str) -> String {
    wrong(&format!("[image]\n{lines}"))
}

#[test]
fn a_cloud_image_is_a_file_or_a_url_with_its_sum_and_replaces_the_default_suite() {
    let file = image("cloud = 'noble.img'");
    assert_eq!((file.suite, file.fallback, file.cloud.as_deref()), (None, None, Some("noble.img")));
    assert!(!cloud::is_url("noble.img") && !cloud::is_url("http.img"));
    let sum = "0123456789abcdef".repeat(4);
    let url = image(&format!("cloud = 'https://host/a/noble.img'\nsha256 = '{sum}'"));
    assert_eq!(url.sha256, Some(sum));
    assert!(cloud::is_url(&url.cloud.unwrap()));
}

#[test]
fn an_error_in_a_cloud_image_has_its_fix() {
    let sum = "0".repeat(64);
    for (lines, message) in [
        (
            "cloud = 'http://host/noble.img'".to_string(),
            "6:9: image.cloud: the file at a URL may change: write its sha256 = \"...\" beside it, from the publisher's SHA256SUMS",
        ),
        (
            format!("cloud = 'ftp://host/noble.img'\nsha256 = '{sum}'"),
            "6:9: image.cloud: \"ftp://host/noble.img\" is not where a cloud image can be fetched: write a http or https URL without user, password and query, as in \"https://HOST/noble-server-cloudimg-amd64.img\", or a file of this host",
        ),
        (
            "cloud = '-K/etc/x'".to_string(),
            "6:9: image.cloud: \"-K/etc/x\" is not a file that can be used: write a path without control characters that does not start with '-'",
        ),
        (
            "cloud = 'noble.img'\nsha256 = 'ABC'".to_string(),
            "7:10: image.sha256: \"ABC\" is no sha256 sum: write 64 hex digits, in lower case",
        ),
        (
            format!("tarball = 'x'\nsha256 = '{sum}'"),
            "7:10: image.sha256: this goes with cloud: leave it out for other sources",
        ),
        (
            "cloud = 'noble.img'\npackages = ['redis']".to_string(),
            "7:12: image.packages: packages can't be added to a cloud image, which is booted as it is: put them into it (virt-customize does), or use suite",
        ),
        (
            "tarball = 'x'\ncloud = 'noble.img'".to_string(),
            "7:9: image.cloud: give only one of suite, tarball, registry and cloud",
        ),
        (
            "cloud = 'noble.img'\nfallback = 'debian/bookworm'".to_string(),
            "7:12: image.fallback: this goes with a suite: leave it out for a tarball, registry or cloud image",
        ),
    ] {
        assert_eq!(wrong_image(&lines), format!("x.toml:{message}"));
    }
    for hostile in
        ["http://me:secret@host/x", "http://host", "http://host/a?b=c", "https://-x/y", "http://h/a b"]
    {
        let lines = format!("cloud = '{hostile}'\nsha256 = '{sum}'");
        assert!(wrong_image(&lines).contains("is not where a cloud image can be fetched"), "{hostile}");
    }
}
