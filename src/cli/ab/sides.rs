//! The sides of an A/B as on the command line: a scenario, a bootrace executable, or a git revision of the clone.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::revision::Revision;
use crate::{sample::Side, scenario};

/// One side: its program, arguments and record.
#[derive(Debug, Clone, Serialize)]
pub struct SideProcess {
    pub side: Side,
    /// As the user called it.
    pub argument: String,
    /// The executable to start.
    #[serde(skip)]
    pub start: PathBuf,
    /// The executable's path for the record.
    pub program: PathBuf,
    /// `None` unless the side is a git revision.
    pub commit: Option<String>,
    /// The scenario as on the command line; for a revision, its path in the clone.
    pub scenario: String,
    #[serde(skip)]
    pub arguments: Vec<std::ffi::OsString>,
    /// The id of its run.
    pub run: String,
}

/// What the text of `--base` or `--new` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideSpec {
    /// A file or a shipped scenario, run by this bootrace.
    Scenario(String),
    /// Canonical path of a bootrace executable.
    Binary(PathBuf),
    /// A commit that has the scenario, not yet checked out.
    Revision(Revision),
}

impl SideSpec {
    /// Classifies `text`: by its prefix `scenario:`, `binary:` or `rev:`; else a path that ends with `.toml` or a shipped
    /// name is a scenario, an executable file a binary, and a commit in git a revision, in this order.
    ///
    /// # Errors
    /// When `text` is none of these, with the reason for each.
    pub fn parse(text: &str) -> anyhow::Result<SideSpec> {
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
            "{text:?} is no scenario (shipped are {}; a file ends with .toml), no executable file ({no_binary}), and no git revision here ({no_revision})",
            known.join(", ")
        ))
    }
}

/// One side before anything of it runs.
pub struct AbSide {
    pub side: Side,
    /// As on the command line.
    pub argument: String,
    pub spec: SideSpec,
    /// The scenario that it runs; for a revision, the path in the clone.
    pub scenario: String,
}

impl AbSide {
    pub fn revision(&self) -> Option<&Revision> {
        match &self.spec {
            SideSpec::Revision(revision) => Some(revision),
            _ => None,
        }
    }
}

/// Both sides from the command line; `scenario` is for sides that are no scenario themselves.
///
/// # Errors
/// When a side can't be classified, or a revision has no scenario in its clone.
pub fn both(base: &str, new: &str, scenario: Option<&str>) -> anyhow::Result<[AbSide; 2]> {
    let parse = |side: Side, text: &str| SideSpec::parse(text).with_context(|| format!("--{side} {text}"));
    let specs = [parse(Side::Base, base)?, parse(Side::New, new)?];
    if let ([SideSpec::Scenario(_), SideSpec::Scenario(_)], Some(scenario)) = (&specs, scenario) {
        anyhow::bail!(
            "both sides are scenarios, so no side would run the scenario {scenario:?}\nfix: leave it out"
        );
    }
    let scenarios = scenarios([&specs[0], &specs[1]], scenario).map_err(|revision| {
        anyhow!(
            "the revision {revision} needs a scenario of the clone {}\nfix: name its file after the options, as in bench/startup.toml",
            revision.clone.display()
        )
    })?;
    let ([base_spec, new_spec], [of_base, of_new]) = (specs, scenarios);
    let side = |side, argument: &str, spec, scenario| -> anyhow::Result<AbSide> {
        let mut side = AbSide { side, argument: argument.to_owned(), spec, scenario };
        if let Some(revision) = side.revision() {
            side.scenario = revision.path_of(&side.scenario).map_err(|why| anyhow!(why))?;
        }
        Ok(side)
    };
    Ok([side(Side::Base, base, base_spec, of_base)?, side(Side::New, new, new_spec, of_new)?])
}

/// The scenario of each side: its own, the one of the command line, or the other side's; else quickstart, except for a
/// revision.
fn scenarios<'a>(sides: [&'a SideSpec; 2], argument: Option<&str>) -> Result<[String; 2], &'a Revision> {
    let own = sides.map(|side| match side {
        SideSpec::Scenario(name) => Some(name.as_str()),
        _ => None,
    });
    let of = |side: usize| match (own[side].or(argument).or(own[1 - side]), sides[side]) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, SideSpec::Revision(revision)) => Err(revision),
        (None, _) => Ok("quickstart".to_owned()),
    };
    Ok([of(0)?, of(1)?])
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
    fn a_shipped_name_and_a_toml_file_are_scenarios_and_an_executable_file_is_a_binary() {
        let scenario = |name: &str| SideSpec::Scenario(name.into());
        assert_eq!(SideSpec::parse("redis").unwrap(), scenario("redis"));
        assert_eq!(SideSpec::parse("no/such.toml").unwrap(), scenario("no/such.toml"));
        assert_eq!(
            SideSpec::parse("/bin/sh").unwrap(),
            SideSpec::Binary(Path::new("/bin/sh").canonicalize().unwrap())
        );
    }

    #[test]
    fn a_side_without_a_scenario_takes_the_other_ones() {
        let (scenario, binary) = (SideSpec::Scenario("my.toml".into()), SideSpec::Binary("/x".into()));
        assert_eq!(scenarios([&scenario, &binary], None).unwrap(), ["my.toml", "my.toml"]);
        assert_eq!(scenarios([&binary, &scenario], None).unwrap(), ["my.toml", "my.toml"]);
        assert_eq!(scenarios([&binary, &scenario], Some("redis")).unwrap(), ["redis", "my.toml"]);
        assert_eq!(scenarios([&binary, &binary], Some("redis")).unwrap(), ["redis", "redis"]);
        assert_eq!(scenarios([&binary, &binary], None).unwrap(), ["quickstart", "quickstart"]);
    }

    #[test]
    fn a_prefix_decides_whatever_else_the_text_could_be() {
        assert_eq!(SideSpec::parse("scenario:/bin/sh").unwrap(), SideSpec::Scenario("/bin/sh".into()));
        let error = |text| format!("{:#}", SideSpec::parse(text).unwrap_err());
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
    fn an_unusable_side_is_reported_with_all_attempts() {
        let error = SideSpec::parse("no-such-side").unwrap_err().to_string();
        for sign in [
            "\"no-such-side\"",
            "no scenario (shipped are ",
            "redis",
            "no executable file (No such file",
            "no git revision here (",
        ] {
            assert!(error.contains(sign), "no {sign:?} in {error}");
        }
    }
}
