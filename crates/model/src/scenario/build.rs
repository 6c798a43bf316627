//! `[build]`: the command that builds the program under test, in a checkout of the user's project.

use std::{
    io::Read,
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};

use super::{
    LARGEST_FILE, Scenario,
    path::at,
    rules::Wrong,
    text::{command, ensure, fail, file_on_host},
};
use crate::foreign::quoted;

/// How `bootrace ab` builds a git revision, and `bootrace run --build` the user's clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Program and arguments, run in the top folder of the checkout; never passed to a shell.
    pub command: Vec<String>,
    /// A bootrace executable that the command makes, relative to that folder; it then measures the revision. None:
    /// this bootrace measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// A folder to keep for the next build of the same clone, relative to the top folder: a compiler's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

impl Build {
    /// The `[build]` of a file if it makes a bootrace that measures; `None` otherwise. The rest of the file may be
    /// for that bootrace's version, so this reads no other section.
    pub fn of_program(path: &Path) -> Option<Build> {
        #[derive(Deserialize)]
        struct BuildTable {
            build: Build,
        }
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(LARGEST_FILE).read_to_string(&mut text).ok()?;
        let BuildTable { build } = toml::from_str(&text).ok()?;
        let mut right = true;
        check_build(&build, &mut |_, result| right &= result.is_ok());
        (right && build.program.is_some()).then_some(build)
    }
}

pub(super) fn check(scenario: &Scenario, wrong: &mut Wrong<'_>) {
    if let Some(build) = &scenario.build {
        check_build(build, wrong);
    }
}

fn check_build(build: &Build, wrong: &mut Wrong<'_>) {
    wrong(at!["build", "command"], command(&build.command));
    for (key, path) in [("program", &build.program), ("keep", &build.keep)] {
        if let Some(path) = path {
            wrong(at!["build", key], file_on_host(path).and_then(|()| inside(path)));
        }
    }
    if let (Some(program), Some(keep)) = (&build.program, &build.keep)
        && Path::new(keep).starts_with(program)
    {
        let text = "the build keeps a folder, and makes a program: give them different paths";
        wrong(at!["build", "keep"], fail(text));
    }
}

fn inside(path: &str) -> Result<(), String> {
    let git = path.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(".git"));
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    ensure(inside && !git, || {
        format!(
            "{} is not a path inside the checkout: write it relative to the top folder, without \"..\", as in \"target/release/bootrace\"",
            quoted(path)
        )
    })
}
