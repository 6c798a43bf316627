//! Finds the version of a container runtime: the engine reports only its path.

use std::{path::Path, process::Stdio, time::Duration};

use bollard::models::SystemInfo;

/// Runtimes that are safe to call with `--version`: they print it and do nothing else.
const KNOWN: [&str; 5] = ["runc", "crun", "youki", "runsc", "kata-runtime"];
/// Generous, so that a busy host's results have the version too.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest version that is kept, in characters.
const LONGEST: usize = 60;

/// The fix for a runtime's message that the engine passes on, if one is known. Runtimes have no error codes.
pub(super) fn hint(message: &str) -> Option<&'static str> {
    message.contains("unknown version specified").then_some(
        "install a newer runtime, or leave \"runtime\" out: this one is older than this Docker, whose containers it can't \
         read",
    )
}

/// A runtime's name and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub program: String,
    pub version: String,
}

/// Asks the program of a local engine's runtime; `None` if bootrace does not know the program or it prints no version.
pub(super) async fn version(runtime: Option<&str>, info: &SystemInfo) -> Option<Version> {
    if let Some(version) = reported(runtime?, info) {
        return Some(version);
    }
    let path = program(runtime?, info)?;
    let program = Path::new(&path).file_name()?.to_str()?.to_owned();
    let mut command = tokio::process::Command::new(&path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let version = parse(&String::from_utf8_lossy(&output.stdout))?;
    Some(Version { program, version })
}

/// Newer engines report runc's version: their runc may differ from the one in this process's PATH.
pub(crate) fn reported(runtime: &str, info: &SystemInfo) -> Option<Version> {
    let status = info.runtimes.as_ref()?.get(runtime)?.status.as_ref()?;
    let features: serde_json::Value =
        serde_json::from_str(status.get("org.opencontainers.runtime-spec.features")?).ok()?;
    let version = features["annotations"]["org.opencontainers.runc.version"].as_str()?;
    Some(Version { program: "runc".into(), version: parse(version)? })
}

/// The program of a known runtime, by the engine's path for it.
pub(crate) fn program(runtime: &str, info: &SystemInfo) -> Option<String> {
    let named = info.runtimes.as_ref().and_then(|all| all.get(runtime)).and_then(|one| one.path.clone());
    // containerd names shims by their runtime.
    let by_shim = (runtime == "io.containerd.runc.v2").then(|| "runc".to_owned());
    let path = named.filter(|path| !path.is_empty()).or(by_shim).unwrap_or_else(|| runtime.into());
    let known = |path: &String| {
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| KNOWN.contains(&name))
    };
    Some(path).filter(known)
}

/// Parses a first line such as `crun version 1.8.1` or `kata-runtime  : 3.1.0`.
pub(crate) fn parse(said: &str) -> Option<String> {
    let version = said.lines().next()?.split_whitespace().last()?;
    let fit = version.len() <= LONGEST && version.chars().all(|c| c.is_ascii_graphic());
    (fit && version.starts_with(|c: char| c.is_ascii_alphanumeric())).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::Runtime;

    use super::*;

    #[test]
    fn a_version_is_the_last_word_of_the_first_line_and_nothing_that_could_harm() {
        assert_eq!(parse("crun version 1.8.1\ncommit: f8a096be\n").as_deref(), Some("1.8.1"));
        assert_eq!(
            parse("runsc version release-20240401.0\nspec: 1.1.0\n").as_deref(),
            Some("release-20240401.0")
        );
        assert_eq!(parse("kata-runtime  : 3.1.0\n").as_deref(), Some("3.1.0"));
        for bad in ["", "\n", "x \u{1b}[2J", &format!("runc {}", "9".repeat(100)), "runc --"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_listed_runtimes_are_executed() {
        let path = |path: &str| Runtime { path: Some(path.into()), ..Runtime::default() };
        let runtimes =
            HashMap::from([("crun".into(), path("/usr/bin/crun")), ("mine".into(), path("/usr/bin/reboot"))]);
        let info = SystemInfo { runtimes: Some(runtimes), ..SystemInfo::default() };
        assert_eq!(program("crun", &info).as_deref(), Some("/usr/bin/crun"));
        assert_eq!(program("mine", &info), None);
        assert_eq!(program("nosuch", &info), None);
        assert_eq!(program("runc", &info).as_deref(), Some("runc"));
        assert_eq!(program("io.containerd.runc.v2", &info).as_deref(), Some("runc"));
    }

    #[test]
    fn docker_29_says_which_runc_it_has() {
        let info: SystemInfo = serde_json::from_str(include_str!("samples/29/info.json")).unwrap();
        assert_eq!(reported("runc", &info).unwrap().version, "1.3.4-0ubuntu1~24.04.1");
        assert_eq!(reported("crun", &info), None);
        let older: SystemInfo = serde_json::from_str(include_str!("samples/20.10/info.json")).unwrap();
        assert_eq!(reported("runc", &older), None);
    }

    #[tokio::test]
    async fn a_runtime_that_is_not_there_has_no_version() {
        let info = SystemInfo::default();
        assert_eq!(version(Some("/nowhere/crun"), &info).await, None);
        assert_eq!(version(None, &info).await, None);
    }
}
