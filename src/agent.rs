//! The agent's executable, which this build puts into every image.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::digest::hex;

/// The static agent for this host's architecture.
pub const EXECUTABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// The value of `Hello.build` of an agent from this build.
pub const BUILD: &str = bootrace_agent::BUILD;

/// sha256 of [`EXECUTABLE`] in lower-case hex: the expected `Identity.agent_digest`.
pub fn digest() -> String {
    static DIGEST: OnceLock<String> = OnceLock::new();
    let hash = || hex(Sha256::digest(EXECUTABLE));
    DIGEST.get_or_init(hash).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_agent_is_a_static_executable_of_the_same_build_as_the_protocol() {
        assert!(EXECUTABLE.starts_with(b"\x7fELF"));
        let contains = |text: &str| EXECUTABLE.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(contains(BUILD), "it was built from other sources");
        assert!(!contains("/ld-linux"), "it needs a dynamic loader, which images needn't have");
        assert_eq!(digest().len(), 64);
    }
}
