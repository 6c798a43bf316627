//! The host's available memory, and the memory that same-page merging saves.

use super::Root;
use crate::sample::density::HostMemory;

/// Reads the kernel's current figures, from three small files.
pub fn memory() -> HostMemory {
    Root::host().memory()
}

impl Root {
    pub(crate) fn memory(&self) -> HostMemory {
        let meminfo = self.text("proc/meminfo").unwrap_or_default();
        // Lines of `MemAvailable:   21467376 kB`.
        let bytes = |key: &str| {
            let value = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let swap = bytes("SwapTotal").zip(bytes("SwapFree"));
        HostMemory {
            available_bytes: bytes("MemAvailable"),
            swap_used_bytes: swap.map(|(total, free)| total.saturating_sub(free)),
            ksm: self.number::<u8>("sys/kernel/mm/ksm/run").map(|run| run == 1),
            ksm_pages: self.number("sys/kernel/mm/ksm/pages_sharing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_and_missing_lines_are_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let root = Root(dir.path().into());
        assert_eq!(root.memory(), HostMemory::default());
        put(
            "proc/meminfo",
            "MemTotal:       24678240 kB\nMemAvailable:   21467376 kB\nSwapTotal:       1000 kB\nSwapFree:         400 kB\n",
        );
        put("sys/kernel/mm/ksm/run", "1\n");
        put("sys/kernel/mm/ksm/pages_sharing", "1234\n");
        let expected = HostMemory {
            available_bytes: Some(21_467_376 << 10),
            swap_used_bytes: Some(600 << 10),
            ksm: Some(true),
            ksm_pages: Some(1234),
        };
        assert_eq!(root.memory(), expected);
        put("proc/meminfo", "MemAvailable: lots\n");
        assert_eq!(root.memory().available_bytes, None);
    }

    #[test]
    fn this_host_reports_its_available_memory() {
        assert!(memory().available_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
