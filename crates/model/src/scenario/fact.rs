//! Facts for claims: properties of isolation, each true or false for a sample.

/// Every fact, and its meaning where it is true.
pub const FACTS: [(&str, &str); 3] = [
    ("kernel.shared", "the instance runs on the host's own kernel: its boot id is the host's"),
    ("processes.visible", "the instance sees processes of the host"),
    ("pagecache.shared", "a page of the image that the host has read appears in the instance's page cache"),
];

/// Whether there is a fact of this name.
pub(super) fn is_fact(name: &str) -> bool {
    FACTS.iter().any(|(fact, _)| *fact == name)
}
