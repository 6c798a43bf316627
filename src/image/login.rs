//! The login of a registry, as `docker login` keeps it: in Docker's settings, or with a helper program. It goes to Docker
//! with the pull; no error, log or result has it.

use std::{process::Stdio, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::docker_config::DockerConfig;
use crate::{supervisor, sys::users};

/// Docker Hub's name in Docker's settings.
const HUB: &str = "https://index.docker.io/v1/";
/// How long a helper may take: some ask a cloud's service.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of a helper's answer.
const LONGEST_ANSWER: u64 = 64 << 10;
/// A helper's words for a registry without a login.
const NOT_FOUND: &str = "credentials not found";

/// The login for a pull.
pub(super) struct Login {
    pub credentials: Option<DockerCredentials>,
    /// Explains a pull that is refused.
    pub note: String,
    /// Set if there may be a login that can't be had.
    pub problem: Option<String>,
}

impl Login {
    /// The login of this user or the sudo user.
    pub async fn of(reference: &str) -> Login {
        let registry = registry_of(reference);
        let found = async {
            let config = DockerConfig::of_user()?;
            Ok::<_, String>((read(&config, registry, PATIENCE).await?, config.file()))
        };
        match found.await {
            Ok((credentials, file)) => {
                let file = file.display();
                let note = match credentials {
                    Some(_) => format!("it was asked with the login for {registry} of {file}"),
                    None => format!("{file} has no login for {registry}, which `docker login` makes"),
                };
                Login { credentials, note, problem: None }
            }
            Err(why) => {
                let note = format!("it was asked without a login: {why}");
                Login { credentials: None, problem: Some(why), note }
            }
        }
    }

    /// The text of an engine or a registry, without the secrets that it was sent.
    pub fn conceal(&self, text: String) -> String {
        let Some(login) = &self.credentials else { return text };
        let secrets = [&login.password, &login.identitytoken, &login.registrytoken];
        secrets.into_iter().flatten().fold(text, |text, secret| text.replace(secret.as_str(), "[secret]"))
    }
}

/// The registry of an image, as Docker's settings name it.
pub(crate) fn registry_of(reference: &str) -> &str {
    let is_host = |first: &&str| first.contains(['.', ':']) || *first == "localhost";
    match reference.split_once('/').map(|(first, _)| first).filter(is_host) {
        None | Some("docker.io" | "index.docker.io") => HUB,
        Some(host) => host,
    }
}

async fn read(
    config: &DockerConfig,
    registry: &str,
    patience: Duration,
) -> Result<Option<DockerCredentials>, String> {
    match config.helper(registry) {
        Some(helper) => ask(helper, registry, config.owner(), patience).await,
        None => config.login(registry).map_or(Ok(None), |login| {
            kept(login, registry)
                .map_err(|why| format!("the login for {registry} in {} {why}", config.file().display()))
        }),
    }
}

/// A login in Docker's settings; `None` if the entry is empty, as those are whose login a helper has.
pub(crate) fn kept(login: &Value, registry: &str) -> Result<Option<DockerCredentials>, &'static str> {
    let text = |key: &str| login[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (mut username, mut password) = (text("username"), text("password"));
    if let Some(encoded) = text("auth") {
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("is not encoded as base64")?;
        let (user, secret) = decoded.split_once(':').ok_or("has no user and password")?;
        (username, password) = (Some(user.into()), Some(secret.trim_end_matches('\0').into()));
    }
    let (identitytoken, registrytoken) = (text("identitytoken"), text("registrytoken"));
    let is_empty = [&username, &identitytoken, &registrytoken].into_iter().all(Option::is_none);
    Ok((!is_empty).then(|| DockerCredentials {
        username,
        password,
        identitytoken,
        registrytoken,
        serveraddress: Some(registry.into()),
        ..DockerCredentials::default()
    }))
}

/// Asks a helper program, as the settings' owner.
async fn ask(
    helper: &str,
    registry: &str,
    owner: Option<(u32, u32)>,
    patience: Duration,
) -> Result<Option<DockerCredentials>, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if helper.is_empty() || !helper.chars().all(is_plain) {
        return Err("Docker's settings name a helper that is no program's name".into());
    }
    answer_of(&format!("docker-credential-{helper}"), registry, owner, patience).await
}

async fn answer_of(
    program: &str,
    registry: &str,
    owner: Option<(u32, u32)>,
    patience: Duration,
) -> Result<Option<DockerCredentials>, String> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid).env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
        command.envs(users::home_of(uid).map(|home| ("HOME", home)));
    }
    let failed = |why: &dyn std::fmt::Display| format!("{program} gave no login for {registry}: {why}");
    // Ends it when this future ends, in time or not.
    let _lifeline = supervisor::supervise(command.as_std_mut(), None).map_err(|error| failed(&error))?;
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let answer = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that needs no name may have closed it.
            let _ = stdin.write_all(registry.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST_ANSWER + 1).read_to_end(&mut answer).await?;
        }
        if answer.len() as u64 > LONGEST_ANSWER {
            return Err(std::io::Error::other(format!("it printed more than {LONGEST_ANSWER} bytes")));
        }
        Ok((child.wait().await?, answer))
    };
    let late = |_| failed(&format!("it did not end within {patience:?}"));
    let (status, answer) = timeout(patience, answer).await.map_err(late)?.map_err(|error| failed(&error))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&answer);
        // Its other words are not shown: nobody knows which secrets they have.
        return match text.contains(NOT_FOUND) {
            true => Ok(None),
            false => Err(failed(&format!("{status}; docker pull shows what it says"))),
        };
    }
    let answer: Value = serde_json::from_slice(&answer).map_err(|_| failed(&"its answer is no JSON"))?;
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    let (Some(username), Some(secret)) = (text("Username"), text("Secret")) else {
        return Err(failed(&"its answer has no Username and Secret"));
    };
    let login = DockerCredentials { serveraddress: Some(registry.into()), ..DockerCredentials::default() };
    Ok(Some(match username.as_str() {
        "<token>" => DockerCredentials { identitytoken: Some(secret), ..login },
        _ => DockerCredentials { username: Some(username), password: Some(secret), ..login },
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), text).unwrap();
        let config = DockerConfig::read(dir.path().into()).unwrap();
        (dir, config)
    }

    async fn login(text: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
        read(&config(text).1, registry, Duration::from_secs(30)).await
    }

    #[test]
    fn an_images_registry_is_named_as_docker_does() {
        for (reference, registry) in [
            ("redis:7", HUB),
            ("library/redis", HUB),
            ("docker.io/me/private", HUB),
            ("ghcr.io/me/private@sha256:00", "ghcr.io"),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/a/redis", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry_of(reference), registry, "{reference}");
        }
    }

    #[tokio::test]
    async fn a_login_is_found_under_each_name_that_docker_login_gives_it() {
        // user:pa:ss
        let entry = r#"{"auth":"dXNlcjpwYTpzcw=="}"#;
        for (key, registry) in
            [("ghcr.io", "ghcr.io"), ("https://ghcr.io/v1/", "ghcr.io"), (HUB, HUB), ("index.docker.io", HUB)]
        {
            let found =
                login(&format!(r#"{{"auths":{{"{key}":{entry}}}}}"#), registry).await.unwrap().unwrap();
            assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("user"), Some("pa:ss")));
            assert_eq!(found.serveraddress.as_deref(), Some(registry));
        }
        let token = login(r#"{"auths":{"r.io":{"auth":"dTo=","identitytoken":"t"}}}"#, "r.io").await;
        assert_eq!(token.unwrap().unwrap().identitytoken.as_deref(), Some("t"));
        for none in ["{}", r#"{"auths":{"r.io":{}}}"#, r#"{"auths":{"xr.io":{"auth":"dTpw"}}}"#] {
            assert_eq!(login(none, "r.io").await, Ok(None), "{none}");
        }
    }

    #[tokio::test]
    async fn a_damaged_login_is_an_error_without_its_text() {
        for (text, why) in [
            (r#"{"auths":{"r.io":{"auth":"s3cret!"}}}"#, "is not encoded as base64"),
            // s3cret
            (r#"{"auths":{"r.io":{"auth":"czNjcmV0"}}}"#, "has no user and password"),
            (r#"{"credsStore":"../s3cret"}"#, "no program's name"),
        ] {
            let error = login(text, "r.io").await.unwrap_err();
            assert!(error.contains(why) && !error.contains("s3cret") && !error.contains("czNj"), "{error}");
        }
        let absent = login(r#"{"credHelpers":{"r.io":"none-of-this-name"}}"#, "r.io").await.unwrap_err();
        assert!(
            absent.starts_with("docker-credential-none-of-this-name gave no login for r.io: "),
            "{absent}"
        );
    }

    /// The answer of a helper that is this script. Another program writes it: a process that a test forks meanwhile would
    /// have it open for writing, and it could not be executed.
    async fn answer(
        script: &str,
        owner: Option<(u32, u32)>,
        patience: Duration,
    ) -> Result<Option<DockerCredentials>, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let helper = dir.path().join("docker-credential-test");
        let mut install = std::process::Command::new("install");
        let mut install =
            install.args(["-m", "755", "/dev/stdin"]).arg(&helper).stdin(Stdio::piped()).spawn().unwrap();
        write!(install.stdin.take().unwrap(), "#!/bin/sh\n{script}\n").unwrap();
        assert!(install.wait().unwrap().success());
        answer_of(helper.to_str().unwrap(), "r.io", owner, patience).await
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry_without_a_shell() {
        let long = Duration::from_secs(30);
        let script = r#"[ "$1" = get ] && printf '{"Username":"%s","Secret":"s"}' "$(cat)""#;
        let login = answer(script, None, long).await.unwrap().unwrap();
        assert_eq!((login.username.as_deref(), login.password.as_deref()), (Some("r.io"), Some("s")));
        let token =
            answer(r#"echo '{"Username":"<token>","Secret":"t"}'"#, None, long).await.unwrap().unwrap();
        assert_eq!((token.username, token.identitytoken.as_deref()), (None, Some("t")));
        let none = answer("echo credentials not found in native keychain; exit 1", None, long).await;
        assert_eq!(none, Ok(None));
    }

    #[tokio::test]
    async fn a_helper_that_fails_floods_or_hangs_is_named_and_its_output_is_not_shown() {
        let long = Duration::from_secs(30);
        for (script, patience, why) in [
            ("echo s3cret; echo s3cret >&2; exit 3", long, "exit status: 3; docker pull shows what it says"),
            ("echo s3cret", long, "its answer is no JSON"),
            (r#"echo '{"Secret":"s3cret"}'"#, long, "has no Username and Secret"),
            ("exec cat /dev/zero", long, "printed more than 65536 bytes"),
            ("exec sleep infinity", Duration::from_millis(50), "did not end within 50ms"),
        ] {
            let error = answer(script, None, patience).await.unwrap_err();
            assert!(error.contains("/docker-credential-test gave no login for r.io: "), "{error}");
            assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    #[ignore = "needs root: scripts/test runs it"]
    async fn a_helper_of_the_sudo_users_settings_runs_as_that_user() {
        let script =
            r#"printf '{"Username":"%s","Secret":"s"}' "$(id -u) $(id -g) $(id -G) $XDG_RUNTIME_DIR""#;
        let login = answer(script, Some((4242, 4243)), Duration::from_secs(30)).await.unwrap().unwrap();
        assert_eq!(login.username.as_deref(), Some("4242 4243 4243 /run/user/4242"));
    }

    #[test]
    fn a_registry_that_repeats_a_secret_is_quoted_without_it() {
        let credentials =
            DockerCredentials { password: Some("s3cret".into()), ..DockerCredentials::default() };
        let login = Login { credentials: Some(credentials), note: String::new(), problem: None };
        assert_eq!(login.conceal("no s3cret here".into()), "no [secret] here");
    }

    #[test]
    fn a_registrys_own_helper_comes_before_the_store() {
        let (_dir, config) = config(r#"{"credsStore":"pass","credHelpers":{"r.io":"own"}}"#);
        assert_eq!((config.helper("r.io"), config.helper("other.io")), (Some("own"), Some("pass")));
    }
}
