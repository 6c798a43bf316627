//! The commit that a run measures, from git or CI's variables, read before the first instance. Its absence is no error.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::sample::Source;

/// How long git may take for all questions. On a cold page cache git reads all of a large repository, and a run
/// without its commit is missing in histories.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 4096;
/// The most that is read of GitHub's event file, in bytes. GitHub's own limit is 25 MB.
const LARGEST_EVENT: u64 = 32 << 20;

/// Parses the commit of the command line.
///
/// # Errors
/// When the text is no hash.
pub fn commit(text: &str) -> Result<String, String> {
    hash(text).ok_or_else(|| "a commit is 7 to 64 hex digits, as `git rev-parse HEAD` prints it".into())
}

fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    let is_hash = (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| text.to_ascii_lowercase())
}

/// The source from `commit`, else from CI's variables, else from git in the scenario's folder or the working
/// directory. With `commit`, CI and git add only branch, address and changes.
pub fn find(commit: Option<&str>, folder: &Path) -> Option<Source> {
    let found = from_ci(|name| std::env::var(name).ok())
        .or_else(|| [folder, Path::new(".")].into_iter().find_map(of_folder));
    let Some(commit) = commit.and_then(hash) else { return found };
    let same = found.as_ref().is_some_and(|f| f.commit.starts_with(&commit) || commit.starts_with(&f.commit));
    let found = found.unwrap_or_default();
    // Branch and changes that git reports belong to its own commit only.
    Some(Source {
        commit,
        dirty: found.dirty.filter(|_| same),
        branch: found.branch.filter(|_| same),
        ..found
    })
}

/// The source from git in `folder` alone.
pub fn of_folder(folder: &Path) -> Option<Source> {
    from_git(folder, Instant::now() + PATIENCE)
}

/// GitHub's variables, then GitLab's. Of a pull or merge request it is the head: the commit that CI checks out merges it
/// into the base for this one job, and no clone has it.
fn from_ci(variable: impl Fn(&str) -> Option<String>) -> Option<Source> {
    let github = || {
        let url = format!("{}/{}", variable("GITHUB_SERVER_URL")?, variable("GITHUB_REPOSITORY")?);
        web(&url)
    };
    let named = |name: &str| variable(name).as_deref().and_then(name_of);
    let hashed = |name: &str| variable(name).as_deref().and_then(hash);
    if let Some(commit) = hashed("GITHUB_SHA") {
        let is_merge = variable("GITHUB_REF").is_some_and(|name| name.starts_with("refs/pull/"));
        let head =
            variable("GITHUB_EVENT_PATH").filter(|_| is_merge).and_then(|path| head_of(Path::new(&path)));
        let (commit, branch) = match head {
            Some((commit, branch)) => (commit, branch.or_else(|| named("GITHUB_HEAD_REF"))),
            None => (commit, named("GITHUB_HEAD_REF").or_else(|| named("GITHUB_REF_NAME"))),
        };
        return Some(Source { commit, branch, url: github(), dirty: None });
    }
    // GitLab has the first of each only in pipelines that merge the request.
    let commit = hashed("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA").or_else(|| hashed("CI_COMMIT_SHA"))?;
    let branch = named("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME").or_else(|| named("CI_COMMIT_REF_NAME"));
    let url = variable("CI_PROJECT_URL").as_deref().and_then(web);
    Some(Source { commit, branch, url, dirty: None })
}

/// Commit and branch of a pull request's head, from GitHub's event file.
pub(crate) fn head_of(event: &Path) -> Option<(String, Option<String>)> {
    #[derive(serde::Deserialize)]
    struct Event {
        pull_request: PullRequest,
    }
    #[derive(serde::Deserialize)]
    struct PullRequest {
        head: Head,
    }
    #[derive(serde::Deserialize)]
    struct Head {
        sha: String,
        #[serde(rename = "ref")]
        branch: Option<String>,
    }
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(event).ok()?.is_file() {
        return None;
    }
    let mut json = Vec::new();
    std::fs::File::open(event).ok()?.take(LARGEST_EVENT).read_to_end(&mut json).ok()?;
    let Event { pull_request: PullRequest { head } } = serde_json::from_slice(&json).ok()?;
    Some((hash(&head.sha)?, head.branch.as_deref().and_then(name_of)))
}

fn name_of(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text != "HEAD").then(|| crate::report::clean(text, 200))
}

/// An address of the web without credentials; `None` for any other.
pub fn web(url: &str) -> Option<String> {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/%:+[]".contains(c);
    let sound = ["http", "https"].contains(&scheme)
        && !host.is_empty()
        && !path.is_empty()
        && url.len() <= 300
        && host.chars().chain(path.chars()).all(plain);
    sound.then(|| format!("{scheme}://{host}/{path}"))
}

/// `None` where there is no git, no repository or one that git does not trust.
fn from_git(folder: &Path, deadline: Instant) -> Option<Source> {
    let commit = hash(&git(folder, &["rev-parse", "--verify", "HEAD"], deadline)?)?;
    let branch = git(folder, &["rev-parse", "--abbrev-ref", "HEAD"], deadline).as_deref().and_then(name_of);
    let url = git(folder, &["remote", "get-url", "origin"], deadline).as_deref().and_then(web);
    let changed = git(folder, &["status", "--porcelain", "--untracked-files=no"], deadline);
    Some(Source { commit, branch, url, dirty: changed.map(|lines| !lines.trim().is_empty()) })
}

/// The first [`LONGEST`] bytes of git's output; `None` when it fails or takes too long.
fn git(folder: &Path, arguments: &[&str], deadline: Instant) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut command = Command::new("git");
    super::git::alone(&mut command);
    let mut child = command
        .arg("-C")
        .arg(folder)
        // A repository's own settings must not start programs of its own.
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = (&mut stdout).take(LONGEST).read_to_string(&mut text);
        // Dropping `stdout` closes the pipe, which ends a git that still writes.
        let _ = sender.send(read.ok().map(|_| text));
    });
    let text = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    let Ok(Some(text)) = text else {
        end(child);
        return None;
    };
    let ended = loop {
        match child.try_wait().ok()? {
            Some(status) => break status.success() || text.len() as u64 == LONGEST,
            None if Instant::now() >= deadline => {
                end(child);
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    ended.then_some(text)
}

/// Kills the process and reaps it in a thread, since a process that waits for a dead disk may never end.
fn end(mut child: std::process::Child) {
    let _ = child.kill();
    std::thread::spawn(move || child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn ci(pairs: &[(&str, &str)]) -> Option<Source> {
        from_ci(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn github_and_gitlab_name_commit_branch_and_address() {
        let source = ci(&[
            ("GITHUB_SHA", SHA),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "own/er"),
            ("GITHUB_REF_NAME", "main"),
        ]);
        let source = source.unwrap();
        assert_eq!(source.commit, SHA);
        assert_eq!(source.url.as_deref(), Some("https://github.com/own/er"));
        assert_eq!((source.branch.as_deref(), source.dirty), (Some("main"), None));
        let source =
            ci(&[("CI_COMMIT_SHA", SHA), ("CI_PROJECT_URL", "https://gitlab.example/a/b/c")]).unwrap();
        assert_eq!(source.url.as_deref(), Some("https://gitlab.example/a/b/c"));
        assert_eq!(ci(&[("GITHUB_SHA", "HEAD; rm -rf /")]), None);
        assert_eq!(ci(&[]), None);
    }

    #[test]
    fn the_source_of_a_pull_request_is_its_head() {
        const HEAD: &str = "89abcdef0123456789abcdef0123456789abcdef";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("event.json");
        let of = |event: &[u8], variables: &[(&str, &str)]| {
            std::fs::write(&path, event).unwrap();
            let github =
                [("GITHUB_SHA", SHA), ("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_REF_NAME", "7/merge")];
            let path = [("GITHUB_EVENT_PATH", path.to_str().unwrap())];
            let source = ci(&[variables, &github, &path].concat()).unwrap();
            (source.commit, source.branch.unwrap())
        };
        let event = |sha: &str, branch: &str| {
            serde_json::json!({"pull_request": {"head": {"sha": sha, "ref": branch}, "title": "x"}})
                .to_string()
        };
        let got = |commit: &str, branch: &str| (commit.to_owned(), branch.to_owned());
        assert_eq!(of(event(HEAD, "fix").as_bytes(), &[]), got(HEAD, "fix"));
        // A push has no pull request, and its commit is one that clones have.
        let push = [("GITHUB_REF", "refs/heads/main"), ("GITHUB_REF_NAME", "main")];
        assert_eq!(of(event(HEAD, "fix").as_bytes(), &push), got(SHA, "main"));
        // Strangers choose the branch, and an event may be damaged.
        let branch = of(event(HEAD, "a\u{1b}[31m\u{202e}b").as_bytes(), &[]).1;
        assert!(branch.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{branch:?}");
        assert!(of(event(HEAD, &"x".repeat(100_000)).as_bytes(), &[]).1.chars().count() <= 230);
        let whole = event(HEAD, "fix");
        let deep = "[".repeat(100_000);
        for damaged in [
            &b""[..],
            b"\xff",
            b"{}",
            &whole.as_bytes()[..40],
            event("$(x)", "fix").as_bytes(),
            deep.as_bytes(),
        ] {
            assert_eq!(of(damaged, &[("GITHUB_HEAD_REF", "fix")]), got(SHA, "fix"));
        }
        for not_a_file in ["/dev/zero", "/no/such/file", "/"] {
            assert_eq!(of(b"", &[("GITHUB_EVENT_PATH", not_a_file)]), got(SHA, "7/merge"));
        }
        let gitlab = |more: &[(&str, &str)]| {
            let always = [("CI_COMMIT_SHA", SHA), ("CI_COMMIT_REF_NAME", "refs/merge-requests/7/merge")];
            let source = ci(&[&always, more].concat()).unwrap();
            (source.commit, source.branch.unwrap())
        };
        let branch = ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "fix");
        assert_eq!(gitlab(&[branch, ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", HEAD)]), got(HEAD, "fix"));
        assert_eq!(gitlab(&[branch, ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "")]), got(SHA, "fix"));
    }

    #[test]
    fn only_web_addresses_are_kept_and_their_credentials_are_not() {
        assert_eq!(web("https://me:secret@example.org/a/b.git").as_deref(), Some("https://example.org/a/b"));
        for not in [
            "git@github.com:a/b.git",
            "ssh://git@h/a",
            "file:///a/b",
            "javascript://x/a",
            "https://h/a\"b",
            "https://h",
        ] {
            assert_eq!(web(not), None, "{not}");
        }
    }

    #[test]
    fn git_tells_the_commit_and_whether_files_were_changed_since() {
        let dir = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(dir.path()).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
            assert!(
                git.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success(),
                "{arguments:?}"
            );
        };
        let asked = || from_git(dir.path(), Instant::now() + Duration::from_secs(60));
        assert_eq!(asked(), None);
        run(&["init", "-b", "trunk"]);
        assert_eq!(asked(), None, "there is no commit yet");
        std::fs::write(dir.path().join("a"), "1").unwrap();
        run(&["add", "a"]);
        run(&["commit", "-m", "a"]);
        run(&["remote", "add", "origin", "https://example.org/a.git"]);
        let source = asked().unwrap();
        assert_eq!(source.commit.len(), 40);
        assert_eq!((source.branch.as_deref(), source.dirty), (Some("trunk"), Some(false)));
        assert_eq!(source.url.as_deref(), Some("https://example.org/a"));
        std::fs::write(dir.path().join("a"), "2").unwrap();
        assert_eq!(asked().unwrap().dirty, Some(true));
        assert_eq!(from_git(dir.path(), Instant::now()), None, "nobody is waited for beyond the deadline");
    }

    #[test]
    fn a_commit_of_the_command_line_is_a_hash_or_an_error() {
        assert_eq!(commit("ABCDEF0").as_deref(), Ok("abcdef0"));
        assert!(commit("main").is_err() && commit("abc").is_err());
    }
}
