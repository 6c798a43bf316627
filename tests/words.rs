//! Finds old words. Each concept has one name, in scenarios, reports, help texts, documents and identifiers alike.

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
    for folder in FOLDERS {
        search(root, Path::new(folder), &mut found);
    }
    for document in DOCUMENTS {
        search_file(root, Path::new(document), &mut found);
    }
    assert!(found.is_empty(), "{} old words:\n{}", found.len(), found.join("\n"));
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

fn search(root: &Path, folder: &Path, found: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(root, &path, found);
        } else if kind.is_file()
            && path != Path::new(file!())
            && !DATA.iter().any(|data| path.extension().is_some_and(|e| e == *data))
        {
            search_file(root, &path, found);
        }
    }
}

/// Searches a file. One that is missing or no text has no words.
fn search_file(root: &Path, path: &Path, found: &mut Vec<String>) {
    let Ok(text) = fs::read_to_string(root.join(path)) else { return };
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
