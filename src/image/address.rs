//! Which engine is asked: the address of its API and the setting that names it, in the order of the engine's own program.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use bootrace_model::foreign::{is_active, quoted};

use super::{docker_config::DockerConfig, error::Refusal};
use crate::daemon::Naming;

/// The address of an engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// `unix://PATH`, a socket of this host.
    pub uri: String,
    /// The name of the Docker context that it is from.
    pub context: Option<String>,
    /// The setting that it is from; `None`: bootrace's default.
    pub naming: Option<Naming>,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.uri)?;
        self.naming.map_or(Ok(()), |naming| write!(f, " ({})", naming.by))
    }
}

/// Why the engine that a setting names can't be used.
#[derive(Debug)]
pub struct Unusable {
    pub refusal: Refusal,
    pub naming: Naming,
}

/// The longest address that is repeated, in bytes; a socket's path is shorter.
const LONGEST: usize = 256;

/// An engine's name and the default address of root's.
pub(crate) struct Usual {
    pub name: &'static str,
    pub uri: &'static str,
}

impl Usual {
    fn address(&self) -> Address {
        Address { uri: self.uri.into(), context: None, naming: None }
    }

    fn refuse(&self, tried: String, why: impl Into<String>, naming: Naming, variable: &str) -> Unusable {
        let hint = format!("{}, or set {variable}={}", naming.undo, self.uri);
        Unusable { refusal: Refusal { tried, why: why.into(), hint }, naming }
    }

    /// Refuses what is no socket of this host.
    fn named(&self, uri: String, naming: Naming, variable: &str) -> Result<Address, Unusable> {
        let tried = format!("connecting to {} at {} ({})", self.name, quoted(&uri), naming.by);
        if uri.len() > LONGEST || uri.chars().any(is_active) {
            let why = format!("this is no address of at most {LONGEST} characters that can be printed");
            return Err(self.refuse(tried, why, naming, variable));
        }
        if !uri.starts_with("unix://") {
            let why =
                "it is no socket of this host, and bootrace reads the containers' processes on this host";
            let tried = format!("connecting to {} at {uri} ({})", self.name, naming.by);
            return Err(self.refuse(tried, why, naming, variable));
        }
        Ok(Address { uri, context: None, naming: Some(naming) })
    }
}

fn text(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

/// DOCKER_HOST, then DOCKER_CONTEXT, then the context that `docker context use` chose.
pub(crate) fn of_docker(
    usual: &Usual,
    variable: impl Fn(&str) -> Option<OsString>,
    config: impl FnOnce() -> Result<DockerConfig, String>,
) -> Result<Address, Unusable> {
    let host = "DOCKER_HOST";
    if let Some(uri) = variable(host) {
        return usual.named(text(uri), Naming::variable(host), host);
    }
    let chosen = variable("DOCKER_CONTEXT").map(text);
    if chosen.as_deref() == Some(DEFAULT) {
        return Ok(usual.address());
    }
    let config = config().map_err(|why| {
        let naming = Naming { by: "Docker's settings", undo: "correct the file" };
        usual.refuse("reading which context Docker uses".into(), why, naming, host)
    })?;
    let (context, set_by, undo) = match (&chosen, config.current_context()) {
        (Some(context), _) => (context.as_str(), "DOCKER_CONTEXT".into(), "unset DOCKER_CONTEXT"),
        (None, None | Some(DEFAULT)) => return Ok(usual.address()),
        (None, Some(context)) => (context, config.file().display().to_string(), "docker context use default"),
    };
    let naming = Naming { by: format!("Docker's context {} ({set_by})", quoted(context)).leak(), undo };
    let uri = config
        .address(context)
        .map_err(|why| usual.refuse(format!("connecting to Docker by {}", naming.by), why, naming, host))?;
    let address = usual.named(uri.unwrap_or_else(|| usual.uri.into()), naming, host)?;
    Ok(Address { context: Some(context.to_owned()), ..address })
}

/// The context that is no file.
const DEFAULT: &str = "default";

/// CONTAINER_HOST. A connection by name is refused: podman's versions keep them in several files.
pub(super) fn of_podman(
    usual: &Usual,
    variable: impl Fn(&str) -> Option<OsString>,
    settings: impl IntoIterator<Item = PathBuf>,
) -> Result<Address, Unusable> {
    let host = "CONTAINER_HOST";
    if let Some(uri) = variable(host) {
        return usual.named(text(uri), Naming::variable(host), host);
    }
    let refuse = |tried: String, naming| {
        let why = "bootrace follows no named connection of podman's";
        Err(usual.refuse(tried, why, naming, host))
    };
    if let Some(connection) = variable("CONTAINER_CONNECTION") {
        let connection = text(connection);
        let tried = format!("connecting to podman by {} (CONTAINER_CONNECTION)", quoted(&connection));
        return refuse(tried, Naming::variable("CONTAINER_CONNECTION"));
    }
    let remote = |file: PathBuf| Some((is_remote(&file)?, file));
    match settings.into_iter().filter_map(remote).last() {
        Some((true, file)) => {
            let by = format!("remote = true in {}", file.display()).leak();
            refuse(format!("connecting to podman by {by}"), Naming { by, undo: "set remote = false there" })
        }
        Some((false, _)) | None => Ok(usual.address()),
    }
}

/// `engine.remote` of a `containers.conf`. podman itself reports a damaged one.
pub(crate) fn is_remote(file: &Path) -> Option<bool> {
    let settings: toml::Table = std::fs::read_to_string(file).ok()?.parse().ok()?;
    settings.get("engine")?.get("remote")?.as_bool()
}

#[cfg(test)]
mod tests {
    use super::{super::docker_config::tests::write_context, *};

    const DOCKER: Usual = Usual { name: "Docker", uri: "unix:///var/run/docker.sock" };
    const PODMAN: Usual = Usual { name: "podman", uri: "unix:///run/podman/podman.sock" };

    struct Settings(tempfile::TempDir);

    impl Settings {
        fn new(config: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("config.json"), config).unwrap();
            let context = |name, host: &str| {
                let meta = format!(r#"{{"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
                write_context(dir.path(), name, &meta);
            };
            context("local", "unix:///run/other.sock");
            context("remote", "ssh://user@elsewhere");
            context("usual", "");
            write_context(dir.path(), "kubernetes", r#"{"Endpoints":{}}"#);
            write_context(dir.path(), "damaged", "{");
            Settings(dir)
        }

        fn docker(&self, variables: &[(&str, &str)]) -> Result<Address, Unusable> {
            of_docker(&DOCKER, of(variables), || DockerConfig::read(self.0.path().into()))
        }
    }

    fn of(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    #[test]
    fn docker_is_found_in_the_order_of_its_own_program() {
        let chosen = Settings::new(r#"{"currentContext":"local"}"#);
        let uri = |variables: &[_]| chosen.docker(variables).unwrap().uri;
        let host = ("DOCKER_HOST", "unix:///run/host.sock");
        assert_eq!(uri(&[host, ("DOCKER_CONTEXT", "nosuch")]), "unix:///run/host.sock");
        assert_eq!(uri(&[("DOCKER_CONTEXT", "default")]), DOCKER.uri);
        assert_eq!(uri(&[("DOCKER_CONTEXT", "usual")]), DOCKER.uri);
        let followed = chosen.docker(&[]).unwrap();
        assert_eq!(
            (followed.uri.as_str(), followed.context.as_deref()),
            ("unix:///run/other.sock", Some("local"))
        );
        let naming = followed.naming.unwrap();
        assert_eq!(
            naming.by,
            format!("Docker's context \"local\" ({})", chosen.0.path().join("config.json").display())
        );
        for config in ["{}", r#"{"currentContext":""}"#, r#"{"currentContext":"default"}"#] {
            assert_eq!(Settings::new(config).docker(&[]).unwrap(), DOCKER.address());
        }
        let named = Settings::new("{}").docker(&[("DOCKER_CONTEXT", "local")]).unwrap();
        assert_eq!(named.naming.unwrap().by, "Docker's context \"local\" (DOCKER_CONTEXT)");
    }

    #[test]
    fn a_context_that_names_no_socket_of_this_host_is_refused_by_name() {
        for (context, why) in [
            (
                "remote",
                "connecting to Docker at ssh://user@elsewhere (Docker's context \"remote\" (DOCKER_CONTEXT)): it is no socket",
            ),
            ("nosuch", "connecting to Docker by Docker's context \"nosuch\" (DOCKER_CONTEXT): "),
            ("../../local", "has no context \"../../local\""),
            ("kubernetes", "meta.json has no address of Docker"),
            ("damaged", "meta.json: EOF"),
        ] {
            let refused = Settings::new("{}").docker(&[("DOCKER_CONTEXT", context)]).unwrap_err();
            let text = refused.refusal.to_string();
            let fix = "; fix: unset DOCKER_CONTEXT, or set DOCKER_HOST=unix:///var/run/docker.sock";
            assert!(text.contains(why) && text.ends_with(fix), "{text}");
        }
        let damaged = Settings::new("{");
        let text = damaged.docker(&[]).unwrap_err().refusal.to_string();
        assert!(
            text.contains("config.json: EOF") && text.contains("fix: correct the file, or set DOCKER_HOST")
        );
        assert_eq!(damaged.docker(&[("DOCKER_CONTEXT", "default")]).unwrap(), DOCKER.address());
        let chosen = Settings::new(r#"{"currentContext":"gone"}"#).docker(&[]).unwrap_err();
        assert!(chosen.refusal.hint.starts_with("docker context use default"));
    }

    #[test]
    fn an_address_that_could_move_the_terminal_is_not_repeated() {
        let refused = of_docker(&DOCKER, of(&[("DOCKER_HOST", "unix:///\u{1b}[2J")]), || unreachable!());
        assert!(!refused.unwrap_err().refusal.to_string().contains('\u{1b}'));
    }

    #[test]
    fn podman_is_found_by_its_variable_and_a_named_connection_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [first, last] = ["a.conf", "b.conf"].map(|name| dir.path().join(name));
        std::fs::write(&first, "[engine]\nremote = true\n").unwrap();
        let podman = |variables: &[_], files: &[&PathBuf]| {
            of_podman(&PODMAN, of(variables), files.iter().map(|file| (*file).clone()))
        };
        let named = podman(&[("CONTAINER_HOST", "unix:///x"), ("CONTAINER_CONNECTION", "y")], &[&first]);
        assert_eq!(named.unwrap().uri, "unix:///x");
        let refused = podman(&[("CONTAINER_CONNECTION", "y")], &[]).unwrap_err().refusal.to_string();
        assert!(refused.starts_with("connecting to podman by \"y\" (CONTAINER_CONNECTION): "), "{refused}");
        let refused = podman(&[], &[&first]).unwrap_err().refusal.to_string();
        assert!(refused.contains("remote = true in ") && refused.contains("/a.conf: "), "{refused}");
        std::fs::write(&last, "[engine]\nremote = false\n").unwrap();
        assert_eq!(podman(&[], &[&first, &last]).unwrap(), PODMAN.address());
    }
}
