//! Reads the kernel's files below a root, which tests replace.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The root of /proc, /sys and /etc.
pub(crate) struct Root(pub(crate) PathBuf);

impl Root {
    pub(super) fn host() -> Self {
        Root("/".into())
    }

    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn flag(&self, path: &str) -> Option<bool> {
        Some(self.number::<u8>(path)? != 0)
    }
}

/// The value of the first line with exactly this key.
pub(super) fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}
