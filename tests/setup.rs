//! What `scripts/setup` does about the archive keys, with its own functions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs `script` after the functions of scripts/setup, with what its main sets, and returns what it said.
fn with_setup(script: &str, scratch: &Path) -> String {
    let prelude = r#"source "$1"; scratch=$2; apt_patience=(); services_held=false; set -euo pipefail; "#;
    let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/setup");
    let mut bash = Command::new("bash");
    bash.arg("-c").arg(format!("{prelude}{script}")).arg("bash").args([&setup, scratch]).env("NO_COLOR", "1");
    let output = bash.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

/// Names and lengths of apt's sources, pins and lists, with the content of what is small.
fn apts_own() -> Vec<(PathBuf, u64, Vec<u8>)> {
    let mut dirs = vec![PathBuf::from("/etc/apt"), "/var/lib/apt/lists".into()];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) if found.len() > 1 << 20 => files.push((entry.path(), found.len(), Vec::new())),
                Ok(found) => {
                    files.push((entry.path(), found.len(), fs::read(entry.path()).unwrap_or_default()))
                }
                Err(_) => {}
            }
        }
    }
    files.sort();
    files
}

#[test]
fn mirrors_are_those_of_the_hosts_sources_in_either_form() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("parts")).unwrap();
    write(
        "sources.list",
        "deb http://one.test/debian bookworm main contrib\n# deb http://off.test/debian bookworm main\n\
         deb http://one.test/debian bookworm-updates main\ndeb http://one.test/security bookworm-security main\n\
         deb cdrom:[Debian 12]/ bookworm main\ndeb http://other.test/program bookworm stable\n",
    );
    write(
        "parts/debian.sources",
        "Types: deb deb-src\nURIs: https://two.test/debian mirror+file:/etc/mirrors\nSuites: oldstable trixie\n\
         Components: main\n\nEnabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n",
    );
    let script = "apt-get() { command apt-get -o Dir::Etc::SourceList=$scratch/sources.list \
                  -o Dir::Etc::SourceParts=$scratch/parts \"$@\"; }; debian_mirrors bookworm";
    let printed = with_setup(script, dir.path());
    let mirrors: Vec<&str> = printed.lines().filter(|line| !line.starts_with("W: ")).collect();
    assert_eq!(
        mirrors,
        ["http://one.test/debian", "https://two.test/debian", "mirror+file:/etc/mirrors"],
        "{printed}"
    );
}

#[test]
fn a_mirror_that_does_not_answer_costs_a_note_and_nothing_of_apts_own() {
    let dir = tempfile::tempdir().unwrap();
    let before = apts_own();
    let script = "has_ubuntu_keys() { return 1; }; debian_mirrors() { echo http://127.0.0.1:9/debian; }; bring_ubuntu_keys";
    let said = with_setup(script, dir.path());
    assert!(
        said.starts_with(
            "note      Ubuntu's archive keys are not available from http://127.0.0.1:9/debian: "
        ),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(apts_own() == before, "apt's sources, pins or lists have changed");

    let none = "has_ubuntu_keys() { return 1; }; debian_mirrors() { :; }; bring_ubuntu_keys";
    let said = with_setup(none, dir.path());
    assert!(said.contains("no source of apt's is Debian's"), "{said}");
    let there = "has_ubuntu_keys() { :; }; debian_mirrors() { exit 1; }; bring_ubuntu_keys";
    assert_eq!(with_setup(there, dir.path()), "");
}

#[test]
#[ignore = "needs root and a Debian mirror: scripts/test runs it"]
fn ubuntus_keys_come_from_debian_13_and_nothing_else_of_it_does() {
    let debian = fs::read_to_string("/etc/os-release").unwrap().lines().any(|line| line == "ID=debian");
    if !debian {
        // The other way round they are in the distribution's own packages, which setup has installed.
        assert!(Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let before = apts_own();
    let said = with_setup("has_ubuntu_keys() { return 1; }; bring_ubuntu_keys", dir.path());
    assert_eq!(said, "installed ubuntu-keyring, of Debian trixie, for images of Ubuntu's suites\n");
    assert!(apts_own() == before, "apt's sources, pins or lists have changed");
    assert!(Path::new("/usr/share/keyrings/ubuntu-archive-keyring.gpg").exists());
    let trusted = fs::read_dir("/etc/apt/trusted.gpg.d").unwrap().flatten();
    let trusted = trusted.filter(|entry| entry.file_name().to_string_lossy().starts_with("ubuntu")).count();
    assert_eq!(trusted, 0, "this host's own packages could come from Ubuntu");
}
