//! What the user calls a side: a scenario, a bootrace executable, or a git revision of one.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;

use super::revision::Revision;
use crate::scenario;

/// What was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideSpec {
    /// A file, or a name that is known here; run by this bootrace.
    Scenario(String),
    /// A bootrace, canonical.
    Binary(PathBuf),
    /// A bootrace that is yet to be built.
    Revision(Revision),
}

impl SideSpec {
    /// Tells what `text` is: `scenario:`, `binary:` and `rev:` say it; else a path that ends with `.toml` or a known
    /// name is a scenario, an executable file a binary, and what git knows as a commit a revision, in this order.
    ///
    /// # Errors
    /// With all that was tried.
    pub fn tell(text: &str) -> anyhow::Result<SideSpec> {
        if let Some(name) = text.strip_prefix("scenario:") {
            return Ok(SideSpec::Scenario(name.into()));
        }
        if let Some(path) = text.strip_prefix("binary:") {
            return binary(Path::new(path))
                .map(SideSpec::Binary)
                .map_err(|why| anyhow!("{path} is no bootrace: {why}"));
        }
        if let Some(revision) = text.strip_prefix("rev:") {
            return Revision::find(revision)
                .map(SideSpec::Revision)
                .map_err(|why| anyhow!("{revision:?} is no git revision here: {why}"));
        }
        let known = scenario::names();
        if text.ends_with(".toml") || known.iter().any(|name| name == text) {
            return Ok(SideSpec::Scenario(text.into()));
        }
        let no_binary = match binary(Path::new(text)) {
            Ok(path) => return Ok(SideSpec::Binary(path)),
            Err(why) => why,
        };
        let no_revision = match Revision::find(text) {
            Ok(revision) => return Ok(SideSpec::Revision(revision)),
            Err(why) => why,
        };
        Err(anyhow!(
            "{text:?} is nothing that could be measured: no scenario (known are {}; a file ends with .toml), no executable file ({no_binary}), and no git revision here ({no_revision})",
            known.join(", ")
        ))
    }
}

fn binary(path: &Path) -> Result<PathBuf, String> {
    let file = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !file.is_file() {
        return Err("it is no file".into());
    }
    if file.permissions().mode() & 0o111 == 0 {
        return Err("it is not executable".into());
    }
    path.canonicalize().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_name_and_a_toml_file_are_scenarios_and_an_executable_file_is_a_binary() {
        let scenario = |name: &str| SideSpec::Scenario(name.into());
        assert_eq!(SideSpec::tell("redis").unwrap(), scenario("redis"));
        assert_eq!(SideSpec::tell("no/such.toml").unwrap(), scenario("no/such.toml"));
        assert_eq!(
            SideSpec::tell("/bin/sh").unwrap(),
            SideSpec::Binary(Path::new("/bin/sh").canonicalize().unwrap())
        );
    }

    #[test]
    fn a_prefix_says_what_is_meant_whatever_else_it_could_be() {
        assert_eq!(SideSpec::tell("scenario:/bin/sh").unwrap(), SideSpec::Scenario("/bin/sh".into()));
        let error = |text| format!("{:#}", SideSpec::tell(text).unwrap_err());
        assert!(
            error("binary:redis").starts_with("redis is no bootrace: No such file"),
            "{}",
            error("binary:redis")
        );
        assert!(error("binary:/etc/passwd").contains("it is not executable"));
        assert!(error("binary:/etc").contains("it is no file"));
        assert!(
            error("rev:redis").starts_with("\"redis\" is no git revision here: "),
            "{}",
            error("rev:redis")
        );
    }

    #[test]
    fn what_is_nothing_is_said_with_all_that_was_tried() {
        let error = SideSpec::tell("no-such-thing").unwrap_err().to_string();
        for sign in [
            "\"no-such-thing\"",
            "no scenario (known are ",
            "redis",
            "no executable file (No such file",
            "no git revision here (",
        ] {
            assert!(error.contains(sign), "no {sign:?} in {error}");
        }
    }
}
