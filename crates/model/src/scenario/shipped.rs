//! Finds a scenario by name or path: a file, one in `./scenarios`, or one in the binary.

use std::path::{Path, PathBuf};

use super::{Error, Scenario, text};
use crate::foreign::quoted;

/// The folder below the working directory that has scenarios by name.
pub const FOLDER: &str = "scenarios";

/// The TOML of the quickstart scenario, which is in the binary.
pub const QUICKSTART: &str = include_str!("../../scenarios/quickstart.toml");

/// The scenarios in the binary: name and TOML.
pub const SHIPPED: [(&str, &str); 9] = [
    ("boots", include_str!("../../scenarios/boots.toml")),
    ("density", include_str!("../../scenarios/density.toml")),
    ("engines", include_str!("../../scenarios/engines.toml")),
    ("folklore", include_str!("../../scenarios/folklore.toml")),
    ("nginx", include_str!("../../scenarios/nginx.toml")),
    ("python", include_str!("../../scenarios/python.toml")),
    ("quickstart", QUICKSTART),
    ("redis", include_str!("../../scenarios/redis.toml")),
    ("starts", include_str!("../../scenarios/starts.toml")),
];

/// Finds a scenario by name or path, and the folder that its relative paths start from.
///
/// A text with a slash, or with `.toml` at its end, is a file. Any other is a name: of `./scenarios/NAME.toml`, else
/// of one of [`SHIPPED`].
///
/// # Errors
/// As [`Scenario::load`], and for a name that no scenario has.
pub fn find(name_or_path: &str) -> Result<(Scenario, PathBuf), Error> {
    find_in(Path::new(FOLDER), name_or_path)
}

fn find_in(folder: &Path, name_or_path: &str) -> Result<(Scenario, PathBuf), Error> {
    if let Some(path) = file_in(folder, name_or_path) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        return Ok((Scenario::load(&path)?, folder.unwrap_or(Path::new(".")).into()));
    }
    if let Some((name, toml)) = SHIPPED.iter().find(|(name, _)| *name == name_or_path) {
        return Ok((Scenario::parse(toml, &format!("{name} (built in)"))?, ".".into()));
    }
    let known = names_in(folder);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    Err(Error::Unknown {
        name: quoted(name_or_path),
        nearest: crate::foreign::did_you_mean(name_or_path, &known),
        known: known.join(", "),
    })
}

/// The file that [`find`] reads for a name or path; `None` for a scenario in the binary, and for an unknown name.
pub fn file(name_or_path: &str) -> Option<PathBuf> {
    file_in(Path::new(FOLDER), name_or_path)
}

fn file_in(folder: &Path, name_or_path: &str) -> Option<PathBuf> {
    if name_or_path.contains('/') || name_or_path.ends_with(".toml") {
        return Some(name_or_path.into());
    }
    let path = text::is_name(name_or_path).then(|| folder.join(format!("{name_or_path}.toml")));
    path.filter(|path| path.exists())
}

/// Every name that [`find`] accepts in this working directory, sorted.
pub fn names() -> Vec<String> {
    names_in(Path::new(FOLDER))
}

fn names_in(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name =
        |entry: std::fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_string());
    let mut names: Vec<String> = files.filter_map(name).filter(|name| text::is_name(name)).collect();
    names.extend(SHIPPED.iter().map(|(name, _)| name.to_string()));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_folder_comes_before_the_one_in_the_binary() {
        let folder = tempfile::tempdir().unwrap();
        let built_in = find_in(folder.path(), "redis").unwrap();
        assert_eq!(built_in.1, Path::new("."));

        let own = super::super::QUICKSTART.replace("quickstart", "my-redis");
        std::fs::write(folder.path().join("redis.toml"), own).unwrap();
        let (scenario, relative_to) = find_in(folder.path(), "redis").unwrap();
        assert_eq!((scenario.name.as_str(), relative_to.as_path()), ("my-redis", folder.path()));
    }

    #[test]
    fn a_slash_or_a_toml_ending_makes_it_a_file() {
        for file in ["./redis", "redis.toml", "no/such"] {
            let error = find_in(Path::new("scenarios"), file).unwrap_err().to_string();
            assert!(error.starts_with(&format!("reading the scenario {file}: ")), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_gets_the_shipped_ones_and_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["mine.toml", "not a name.toml", "notes.txt"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let error = |name| find_in(folder.path(), name).unwrap_err().to_string();
        let mut known = SHIPPED.map(|(name, _)| name).to_vec();
        known.push("mine");
        known.sort_unstable();
        let known = format!("expected one of {}, or the path of a file, as in ./my.toml", known.join(", "));
        assert_eq!(
            error("rediss"),
            format!("there is no scenario \"rediss\" (did you mean redis?): {known}")
        );
        assert_eq!(error("\u{1b}[2J"), format!("there is no scenario \"\\u{{1b}}[2J\": {known}"));
    }

    #[test]
    fn every_shipped_scenario_is_sound_and_called_as_its_file() {
        for (name, text) in SHIPPED {
            assert_eq!(Scenario::parse(text, name).unwrap().name, name);
        }
    }
}
