//! The host's pool of huge pages of the default size.

use std::path::Path;

use super::{Error, read};

/// Pages of the pool; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub page_bytes: u64,
    pub total: u64,
    /// Pages that are neither used nor reserved.
    pub available: u64,
}

impl Pool {
    /// # Errors
    /// When /proc/meminfo can't be read, or the kernel has no such pool.
    pub fn read() -> Result<Self, Error> {
        Self::read_from(Path::new("/proc/meminfo"))
    }

    pub(crate) fn read_from(path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        let find = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let value = value.and_then(|value| value.split_ascii_whitespace().next()?.parse::<u64>().ok());
            value.ok_or_else(|| {
                Error::new(path, format!("has no {key}: this kernel has no pool of huge pages"))
            })
        };
        let available = find("HugePages_Free")?.saturating_sub(find("HugePages_Rsvd")?);
        Ok(Pool {
            page_bytes: find("Hugepagesize")?.saturating_mul(1024),
            total: find("HugePages_Total")?,
            available,
        })
    }

    /// The number of pages for so many bytes, rounded up.
    pub fn pages(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.page_bytes.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_pages_are_not_available() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "MemFree: 1 kB\nHugePages_Total:     128\nHugePages_Free:      100\nHugePages_Rsvd:       30\n\
                    HugePages_Surp:        0\nHugepagesize:       2048 kB\n";
        std::fs::write(file.path(), text).unwrap();
        let pool = Pool::read_from(file.path()).unwrap();
        assert_eq!(pool, Pool { page_bytes: 2 << 20, total: 128, available: 70 });
        assert_eq!((pool.pages(81 << 20), pool.pages(82 << 20)), (41, 41));
    }

    #[test]
    fn a_kernel_without_a_pool_is_said_to_have_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "MemFree: 1 kB\n").unwrap();
        let error = Pool::read_from(file.path()).unwrap_err().to_string();
        assert!(error.contains("has no HugePages_Free"), "{error}");
    }
}
