//! Finds old words, and commands that end more than they name. Each concept has one name, in scenarios, reports, help
//! texts, documents and identifiers alike.

use std::{fs, path::Path};

/// Old words and their replacements. In words without a dot a space also stands for an underscore or a hyphen, so that
/// identifiers are found too.
const OLD: [(&str, &str); 52] = [
    ("cpu.work", "work.time"),
    ("cpu.work_host", "work.cpu"),
    ("cpu.work_guest", "work.cpu_guest"),
    ("startup.launch", "startup.app"),
    ("startup.unit", "startup.agent_unit"),
    ("copy.make", "disk.provision"),
    ("copy.first_write", "cow.first_write"),
    ("copy.rewrite", "cow.rewrite"),
    ("copy.bytes", "cow.bytes"),
    ("[copy]", "[cow]"),
    ("start = \"cold\"", "start = \"create\""),
    ("sampling.cache", "sampling.page_cache"),
    ("mend", "fix"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("doubt", "caveat"),
    ("doubts", "caveats"),
    ("doubtful", "a caveat"),
    ("disturbed", "interference"),
    ("walls", "isolation"),
    ("knob", "option"),
    ("knobs", "options"),
    ("taken in turn", "interleaved"),
    ("paced", "as a side, interleaved"),
    ("pacer", "SideChannel"),
    ("party", "SideProcess or side"),
    ("parties", "sides"),
    ("conduct", "coordinate"),
    ("conductor", "coordinator"),
    ("caller", "coordinator, sudo user or the function's user"),
    ("callers", "coordinators, sudo users or the function's users"),
    ("Live", "RunningInstance"),
    ("Heard", "EventStream"),
    ("Terms", "LaunchSpec"),
    ("Ticket", "InstanceId"),
    ("Moment", "Timestamp"),
    ("What(", "ChannelEvent or a noun"),
    ("enum What", "ChannelEvent or a noun"),
    ("first life", "initial start"),
    ("second life", "restart or resume"),
    ("second start", "restart or resume"),
    ("second starts", "restarts and resumes"),
    ("cage", "sandbox, sandboxed child"),
    ("caged", "sandboxed"),
    ("thing", "ResourceKind, left-over or the noun itself"),
    ("things", "resources, left-overs or the noun itself"),
    ("enum Whose", "Owner"),
    ("let whose", "owner"),
    ("Against", "RelativeTo"),
    (".counts()", "is_measured()"),
    ("told", "reported, shown or a noun"),
    ("perform", "run, measure or do"),
];

/// Commands that no text may advise: they end or remove what others on the host need, or whatever has got a stale pid by
/// now. Each with a replacement.
const BROAD: [(&str, &str); 15] = [
    ("pkill", "start-stop-daemon --stop with --pidfile and --name, or the unit"),
    ("killall", "start-stop-daemon --stop with --pidfile and --name, or the unit"),
    ("kill $(", "start-stop-daemon --stop with --pidfile and --name, or the unit"),
    ("kill -9 $(", "start-stop-daemon --stop with --pidfile and --name, or the unit"),
    ("kill `", "start-stop-daemon --stop with --pidfile and --name, or the unit"),
    ("fuser -k", "the process by its pid, after a look at it"),
    ("system prune", "bootrace image prune, or image rm NAME"),
    ("container prune", "bootrace clean, or rm NAME"),
    ("image prune -a", "bootrace image prune, or image rm NAME"),
    ("volume prune", "volume rm NAME"),
    ("rm $(", "bootrace clean, or rm NAME"),
    ("rm -f $(", "bootrace clean, or rm NAME"),
    ("restart docker", "only the user knows whose containers it ends"),
    ("stop docker", "only the user knows whose containers it ends"),
    ("virsh destroy $(", "bootrace clean"),
];

/// Lines that must name old words: a part of the path, and of the line.
const ALLOWED: [(&str, &str); 3] = [
    // The test of the errors that name a key's new name.
    ("scenario/tests/deserialize.rs", "this key is called"),
    // The table behind the errors that name a metric's new name.
    ("crates/model/src/metric.rs", "\", Metric::"),
    // Rust's attribute.
    (".rs", "#[track_caller]"),
];

const FOLDERS: [&str; 12] = [
    "src",
    "crates",
    "agent",
    "benches",
    "examples",
    "scenarios",
    "scripts",
    "docs",
    "tests",
    "ci",
    ".ci",
    ".github",
];
/// Documents in the top folder, where they exist. The changelog may name old words.
const DOCUMENTS: [&str; 4] = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "AGENTS.md"];
/// Recorded results and generated pages: their texts come from the program.
const DATA: [&str; 5] = ["json", "html", "svg", "png", "xz"];

#[test]
fn no_old_word_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(root.join("README.md").is_file(), "the top folder has no README.md");
    let mut found = Vec::new();
    let mut search = |path: &Path, text: &str| search_text(path, text, &mut found);
    FOLDERS.into_iter().for_each(|folder| each_text(root, Path::new(folder), &mut search));
    DOCUMENTS.into_iter().for_each(|document| with_text(root, Path::new(document), &mut search));
    assert!(found.is_empty(), "{} old words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_text_advises_to_end_or_remove_more_than_it_names() {
    let broad = |line: &str| BROAD.into_iter().filter(|(broad, _)| line.contains(broad)).collect::<Vec<_>>();
    assert_eq!(broad("fix: sudo kill $(pidof podman)").len(), 1);
    assert_eq!(broad("sudo docker system prune").len(), 1);
    assert_eq!(broad("bootrace image prune --all"), []);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut search = |path: &Path, text: &str| {
        for (number, line) in text.lines().enumerate() {
            let at = format!("{}:{}", path.display(), number + 1);
            found.extend(
                broad(line).into_iter().map(|(broad, better)| format!("{at}: {broad:?}; better: {better}")),
            );
        }
    };
    FOLDERS.into_iter().for_each(|folder| each_text(root, Path::new(folder), &mut search));
    DOCUMENTS.into_iter().for_each(|document| with_text(root, Path::new(document), &mut search));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn old_words_are_found_in_prose_keys_and_identifiers() {
    let words = |line: &str| old_words(line).map(|(old, _)| old).collect::<Vec<_>>();
    assert_eq!(words("/// Mends what is wrong."), ["mends"]);
    assert_eq!(words("fn second_start(things: u8)"), ["second start", "things"]);
    assert_eq!(words("metric = \"cpu.work_host\""), ["cpu.work_host"]);
    assert_eq!(words("[copy]"), ["[copy]"]);
    assert_eq!(words("pub enum Whose {"), ["enum Whose"]);
    for fine in [
        "whose image",
        "nothing",
        "something",
        "recommend",
        "workload.work",
        "performance",
        "fn a_run_counts()",
    ] {
        assert_eq!(words(fine), [] as [&str; 0], "{fine}");
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = fs::read_to_string(root.join("docs/contribute/cases.md")).unwrap();
    let mut sources = String::new();
    for folder in ["tests", "src", "crates", "agent"] {
        each_text(root, Path::new(folder), &mut |_, text| sources.push_str(text));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<_> =
        cases.split("::").skip(1).map(|after| after.split(|c| !is_name(c)).next().unwrap()).collect();
    assert!(names.len() > 50, "{names:?}");
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| name.len() > 1 && !sources.contains(&format!("fn {name}(")))
        .collect();
    assert_eq!(missing, [] as [&str; 0]);
}

/// Shows `search` each text below a folder but this file.
fn each_text(root: &Path, folder: &Path, search: &mut dyn FnMut(&Path, &str)) {
    let mut entries: Vec<_> = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            each_text(root, &path, search);
        } else if kind.is_file()
            && path != Path::new(file!())
            && !DATA.iter().any(|data| path.extension().is_some_and(|e| e == *data))
        {
            with_text(root, &path, search);
        }
    }
}

/// One that is missing or no text has no words.
fn with_text(root: &Path, path: &Path, search: &mut dyn FnMut(&Path, &str)) {
    if let Ok(text) = fs::read_to_string(root.join(path)) {
        search(path, &text);
    }
}

fn search_text(path: &Path, text: &str, found: &mut Vec<String>) {
    let name = path.display().to_string();
    for (number, line) in text.lines().enumerate() {
        let allowed = |(file, part): &(&str, &str)| name.contains(file) && line.contains(part);
        if !ALLOWED.iter().any(allowed) {
            found.extend(
                old_words(line)
                    .map(|(old, new)| format!("{name}:{}: {old:?} is called {new} now", number + 1)),
            );
        }
    }
}

/// The old words of a line with their replacements.
fn old_words(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let exact = line.replace(['_', '-'], " ");
    let (exact_lower, line_lower) = (exact.to_lowercase(), line.to_lowercase());
    OLD.into_iter().filter(move |(old, _)| {
        // A word with a dot is a key, which may contain underscores. A capitalised word is the name of a type.
        let line = match (old.contains('.'), old.contains(char::is_uppercase)) {
            (true, _) => &line_lower,
            (false, true) => &exact,
            (false, false) => &exact_lower,
        };
        line.match_indices(old).any(|(at, _)| {
            let in_word = |c: char| c.is_alphanumeric() || c == '_';
            let whole = |inner: Option<char>, outer: Option<char>| {
                !inner.is_some_and(in_word) || !outer.is_some_and(in_word)
            };
            whole(old.chars().next(), line[..at].chars().next_back())
                && whole(old.chars().next_back(), line[at + old.len()..].chars().next())
        })
    })
}
