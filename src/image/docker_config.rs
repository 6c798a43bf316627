//! The settings of Docker's own program: `config.json`, and the contexts beside it.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bootrace_model::{digest::hex, foreign::quoted};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    report::sudo_user,
    sys::{self, users},
};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// A user's settings. They have secrets: no error quotes them, and they can't be printed.
pub struct DockerConfig {
    dir: PathBuf,
    settings: Value,
    /// User and group ids of the sudo user, if the settings are that user's.
    owner: Option<(u32, u32)>,
}

impl DockerConfig {
    /// The settings in DOCKER_CONFIG; else the sudo user's, for `docker login` and `docker context use` are that user's;
    /// else this user's own.
    ///
    /// # Errors
    /// When they can't be read, with the file and the reason.
    pub fn of_user() -> Result<Self, String> {
        if let Some(dir) = sys::variable("DOCKER_CONFIG") {
            return Self::read(dir.into());
        }
        let owner = sudo_user::ids();
        let sudo_users = owner.and_then(|(uid, _)| users::home_of(uid)).map(|home| home.join(".docker"));
        match sudo_users.filter(|dir| dir.join("config.json").exists()) {
            Some(dir) => Ok(DockerConfig { owner, ..Self::read(dir)? }),
            None => Self::read(users::home().unwrap_or_else(|| "/".into()).join(".docker")),
        }
    }

    pub(crate) fn read(dir: PathBuf) -> Result<Self, String> {
        let settings = read_json(&dir.join("config.json"))?.unwrap_or_default();
        Ok(DockerConfig { dir, settings, owner: None })
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// User and group ids of the sudo user, if the settings are that user's.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }

    /// The helper program that has a registry's login, without the prefix of its name.
    pub fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.settings["credHelpers"][registry].as_str();
        own.or(self.settings["credsStore"].as_str()).filter(|helper| !helper.is_empty())
    }

    /// A registry's login in the settings themselves; older ones name it by a URL.
    pub fn login(&self, registry: &str) -> Option<&Value> {
        let host = |name: &str| {
            let name = name.split_once("://").map_or(name, |(_, rest)| rest);
            name.split('/').next().unwrap_or_default().to_owned()
        };
        let logins = self.settings["auths"].as_object()?;
        let by_host = || logins.iter().find(|(name, _)| host(name) == host(registry)).map(|(_, login)| login);
        logins.get(registry).or_else(by_host)
    }

    /// The context that `docker context use` chose.
    pub fn current_context(&self) -> Option<&str> {
        self.settings["currentContext"].as_str().filter(|name| !name.is_empty())
    }

    /// The address of Docker in a context; `None` where the context leaves it to Docker's default.
    ///
    /// # Errors
    /// When there is no such context, or it can't be read.
    pub fn address(&self, context: &str) -> Result<Option<String>, String> {
        let contexts = self.dir.join("contexts/meta");
        let file = contexts.join(hex(Sha256::digest(context))).join("meta.json");
        let Some(meta) = read_json(&file)? else {
            return Err(format!("{} has no context {}", contexts.display(), quoted(context)));
        };
        let host = meta["Endpoints"]["docker"]["Host"].as_str();
        let host = host.ok_or_else(|| format!("{} has no address of Docker", file.display()))?;
        Ok(Some(host.to_owned()).filter(|host| !host.is_empty()))
    }
}

/// Reads a file that another user may have written; `None` if there is none.
fn read_json(path: &Path) -> Result<Option<Value>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    // A pipe would block.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        // The home is another user's, as after runuser. Docker's own program goes on without the settings too.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!("{}: {error}: Docker's settings in it are not used", path.display());
            return Ok(None);
        }
        opened => opened.map_err(|error| failed(&error))?,
    };
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is no file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > LARGEST {
        return Err(failed(&format!("it is larger than {LARGEST} bytes")));
    }
    // Names the place of a mistake, without the text there.
    let value: Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    match value.is_object() {
        true => Ok(Some(value)),
        false => Err(failed(&"it is no JSON object")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// Writes a context as `docker context create` does.
    pub fn write_context(dir: &Path, name: &str, meta: &str) {
        let context = dir.join("contexts/meta").join(hex(Sha256::digest(name)));
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("meta.json"), meta).unwrap();
    }

    fn read(text: &str) -> Result<DockerConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), text).unwrap();
        DockerConfig::read(dir.path().into())
    }

    #[test]
    fn the_folder_of_a_context_is_the_digest_of_its_name() {
        let digest = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
        assert_eq!(hex(Sha256::digest("foo\n")), digest, "sha256sum's");
        let dir = tempfile::tempdir().unwrap();
        write_context(dir.path(), "remote", r#"{"Name":"remote","Endpoints":{"docker":{"Host":"ssh://h"}}}"#);
        let config = DockerConfig::read(dir.path().into()).unwrap();
        assert_eq!((config.current_context(), config.address("remote")), (None, Ok(Some("ssh://h".into()))));
        assert!(config.address("other").unwrap_err().ends_with("/contexts/meta has no context \"other\""));
    }

    #[test]
    fn a_damaged_file_is_named_and_its_secrets_are_not() {
        for (text, why) in [
            (r#"{"auths":{"r":{"auth":"s3cret"}"#, "EOF"),
            (r#""s3cret""#, "no JSON object"),
            (r#"{"auths" s3cret"#, "line 1 column"),
            (&format!("{}{{}}", " ".repeat(LARGEST as usize)), "larger than"),
        ] {
            let error = read(text).err().unwrap();
            assert!(
                error.contains("/config.json: ") && error.contains(why) && !error.contains("s3cret"),
                "{error}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config.json")).unwrap();
        assert!(DockerConfig::read(dir.path().into()).err().unwrap().contains("it is no file"));
        assert_eq!(DockerConfig::read("/nowhere".into()).unwrap().current_context(), None);
    }
}
