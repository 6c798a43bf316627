use super::Error;
use std::path::{Path,PathBuf};
pub struct Hierarchy { pub version: u8 }
impl Hierarchy { pub fn dir(&self, _: &str) -> Option<&PathBuf> { None } }
pub fn hierarchy() -> Result<Hierarchy, Error> { Ok(Hierarchy{version:1}) }
pub fn pids(_: &Path) -> Result<Vec<u32>, Error> { Ok(vec![]) }
