//! The manifest of a finished entry: its files with sizes and sha256 sums.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{cache::open_up, error::Error};

use crate::digest::hex;

const NAME: &str = "manifest.json";
const SCHEMA: &str = "bootrace.cache/1";
/// The largest manifest, in bytes. A larger file is not a manifest.
const MAX_MANIFEST: u64 = 1 << 20;

/// Size and sha256 of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// A finished entry's data; `T` is specific to the kind of entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest<T> {
    schema: String,
    pub created: Timestamp,
    /// Checksums by file name in the entry.
    pub files: BTreeMap<String, Sum>,
    pub about: T,
}

impl<T: Serialize + DeserializeOwned> Manifest<T> {
    pub fn new(about: T, files: impl IntoIterator<Item = (&'static str, Sum)>) -> Self {
        let files = files.into_iter().map(|(name, sum)| (name.to_string(), sum)).collect();
        Manifest { schema: SCHEMA.into(), created: Timestamp::now(), files, about }
    }

    /// Writes the manifest into a new entry, as its last file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, entry: &Path) -> Result<(), Error> {
        write_json(&entry.join(NAME), self)
    }

    /// The entry's manifest; `None` if the entry is incomplete: it has no valid manifest of this version, or a file is
    /// missing or has another size.
    pub fn load(entry: &Path) -> Option<Self> {
        let manifest: Self = read_json(&entry.join(NAME))?;
        let fits = |(name, sum): (&String, &Sum)| {
            !name.contains('/')
                && fs::symlink_metadata(entry.join(name)).is_ok_and(|m| m.is_file() && m.len() == sum.bytes)
        };
        (manifest.schema == SCHEMA && manifest.files.iter().all(fits)).then_some(manifest)
    }

    /// Reads every file. Returns a line for each one that is missing or differs.
    pub fn verify(&self, entry: &Path) -> Vec<String> {
        let wrong = |(name, sum): (&String, &Sum)| match sum_file(&entry.join(name)) {
            Ok(found) if found == *sum => None,
            Ok(found) => Some(format!("{name}: sha256 is {}, should be {}", found.sha256, sum.sha256)),
            Err(error) => Some(error.to_string()),
        };
        self.files.iter().filter_map(wrong).collect()
    }
}

/// Writes a file atomically: to another name, then renames it. It does not sync, which would wait for all data of a new
/// image. After a power cut, files without their data differ in size from the manifest.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let write = || {
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(Error::io("writing", path))?;
    open_up(path)
}

/// Reads a JSON file; `None` if it is missing or invalid.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_MANIFEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Writes a stream to a file and computes its checksum.
pub(super) async fn save<B: AsRef<[u8]>>(
    stream: impl Stream<Item = Result<B, Error>>,
    path: &Path,
) -> Result<Sum, Error> {
    let mut file = File::create_new(path).map_err(Error::io("creating", path))?;
    let mut stream = std::pin::pin!(stream);
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        let chunk = chunk.as_ref();
        file.write_all(chunk).map_err(Error::io("writing", path))?;
        hash.update(chunk);
        bytes += chunk.len() as u64;
    }
    open_up(path)?;
    Ok(Sum { bytes, sha256: hex(hash.finalize()) })
}

pub(super) fn sum_file(path: &Path) -> Result<Sum, Error> {
    let sum = || {
        let mut file = File::open(path)?;
        let (mut bytes, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Sum { bytes, sha256: hex(hash.finalize()) }),
                n => {
                    hash.update(&buffer[..n]);
                    bytes += n as u64;
                }
            }
        }
    };
    sum().map_err(Error::io("reading", path))
}

pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> (tempfile::TempDir, Manifest<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        let manifest = Manifest::new(7, [("file", sum_file(&file).unwrap())]);
        manifest.write(dir.path()).unwrap();
        (dir, manifest)
    }

    #[test]
    fn a_whole_entry_is_found_with_its_manifest() {
        let (dir, manifest) = entry();
        let found = Manifest::<u8>::load(dir.path()).unwrap();
        assert_eq!((found.about, &found.files), (7, &manifest.files));
        assert!(found.verify(dir.path()).is_empty());
    }

    #[test]
    fn an_entry_that_lost_a_file_or_part_of_one_is_none() {
        let (dir, _) = entry();
        fs::write(dir.path().join("file"), "cont").unwrap();
        assert!(Manifest::<u8>::load(dir.path()).is_none());
        fs::remove_file(dir.path().join("file")).unwrap();
        assert!(Manifest::<u8>::load(dir.path()).is_none());
    }

    #[test]
    fn a_torn_or_foreign_manifest_is_none() {
        let (dir, _) = entry();
        let path = dir.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        for other in [&text[..text.len() / 2], "", "{}", &text.replace(SCHEMA, "other/1")] {
            fs::write(&path, other).unwrap();
            assert!(Manifest::<u8>::load(dir.path()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_full_check_sees_a_change_that_keeps_the_size() {
        let (dir, _) = entry();
        fs::write(dir.path().join("file"), "CONTENT").unwrap();
        let found = Manifest::<u8>::load(dir.path()).unwrap();
        assert!(found.verify(dir.path())[0].starts_with("file: sha256 is "));
    }
}
