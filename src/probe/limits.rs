//! The resource limits of a process.

use std::path::PathBuf;

use super::{Error, read};

/// Soft and hard limit; `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// The limits of a process's open files and of its user's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub files: Limit,
    pub processes: Limit,
}

/// Reads a process's limits by its host pid.
///
/// # Errors
/// When it has ended, or belongs to another user and this process is not root.
pub fn of(pid: u32) -> Result<Limits, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/limits"));
    parse(&read(&path)?).ok_or_else(|| Error::new(&path, "is not as proc(5) has it"))
}

/// Lines of a name, which may have spaces, soft limit, hard limit and unit.
pub(crate) fn parse(text: &str) -> Option<Limits> {
    let find = |name: &str| {
        let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        let mut next = || match words.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some(Limit { soft: next()?, hard: next()? })
    };
    Some(Limits { files: find("Max open files")?, processes: find("Max processes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_none() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             96365                unlimited            processes \n\
                    Max open files            1024                 20000                files     \n";
        let limits = parse(text).unwrap();
        assert_eq!(limits.files, Limit { soft: Some(1024), hard: Some(20000) });
        assert_eq!(limits.processes, Limit { soft: Some(96365), hard: None });
        assert_eq!(parse("Max open files 1 x files\nMax processes 1 1 processes\n"), None);
        assert!(of(std::process::id()).is_ok());
    }
}
