//! The names of instances. The search for left-overs recognises by them what is bootrace's.

use sha2::{Digest, Sha256};

const PREFIX: &str = "bootrace-";

/// The prefix that the names of all instances of a run share.
pub fn tag(run: &str) -> String {
    let digest = Sha256::digest(run.as_bytes());
    format!("{PREFIX}{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// Whether a name has the form of a run's tag.
pub fn is_tag(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|hash| {
        hash.len() == 8 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether a name has the form of an instance's: a tag and a number, in the only way that bootrace writes them. A user's
/// `bootrace-redis` or `bootrace-0` has not.
pub fn is_instance(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(tag, number)| {
        is_tag(tag) && number.parse::<usize>().is_ok_and(|parsed| parsed.to_string() == number)
    })
}

/// Whether the instance of this name belongs to the run: a label or metadata with the run's id proves whose the
/// container or domain is, since only bootrace writes the id's hash into the name.
pub fn is_instance_of(name: &str, run: &str) -> bool {
    is_instance(name) && name.strip_prefix(&tag(run)).is_some_and(|rest| rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_bootrace_writes_is_an_instances() {
        let ours = format!("{}-17", tag("run"));
        assert!(is_instance(&ours) && is_instance_of(&ours, "run") && !is_instance_of(&ours, "another"));
        for name in [
            "bootrace-redis",
            "my-bootrace-0",
            "my-bootrace-0badcafe-0",
            "bootrace-production-db",
            "bootrace-0",
            "bootrace-cafe-0",
            "bootrace-0BADCAFE-0",
            "bootrace-0badcafe",
            "bootrace-0badcafe-",
            "bootrace-0badcafe-x",
            "bootrace-0badcafe-01",
            "bootrace-0badcafe-+1",
            "bootrace-0badcafe-1.old",
            "bootrace-0badcafe-99999999999999999999999",
            "bootrace-test-launch-123",
            "bootrace",
            "",
        ] {
            assert!(!is_instance(name) && !is_instance_of(name, "run"), "{name}");
        }
    }
}
