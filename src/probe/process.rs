pub fn named(_: &[&str]) -> Vec<u32> { vec![] }
pub fn parent(_: u32) -> Option<u32> { None }
