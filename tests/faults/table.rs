//! `docs/contribute/faults.md`: a section per group of faults, each written by the test of its group.

use std::{fs, path::PathBuf};

/// The sections in their order.
const SECTIONS: [&str; 12] = [
    "bootrace killed by SIGKILL",
    "Signals",
    "Parts of an instance killed",
    "The engines' daemons",
    "Workloads",
    "Guests",
    "The host's disk",
    "The cache",
    "Killed while an image is made",
    "The wall clock",
    "Two runs at once",
    "Ordinary users",
];

const HEAD: &str = "# Faults

Each row is a fault that a test injects for real, and what a user then sees. The tests of `tests/faults/` write this file
(`BOOTRACE_GENERATE=1`) and otherwise compare it to what they see: see [testing](testing.md). Process ids, times, random
names and temporary paths are replaced by words; … stands for text that a race or the host words. Lines of progress are left
out. After a SIGKILL or a second Ctrl-C, `bootrace clean` and `bootrace run --resume` follow, and every planned sample is
there; where none was planned yet, `bootrace clean` and the same command. *Kept* is the number of samples in
`results.json` afterwards, at least;
*left behind* is what `docker`, `podman`, `virsh`, cgroups, mounts, processes and directories have afterwards.
";
const COLUMNS: &str = "| fault | step | target | what the user sees | exit code | kept | left behind |\n\
                       |---|---|---|---|---|---|---|\n";

/// One fault and what a user saw.
#[derive(Debug, Clone)]
pub struct Line {
    pub fault: String,
    pub step: String,
    pub target: String,
    pub sees: Vec<String>,
    pub code: String,
    pub kept: String,
    pub left: String,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/contribute/faults.md")
}

/// The sections of the committed file: title and text.
fn committed() -> Vec<(String, String)> {
    let text = fs::read_to_string(path()).unwrap_or_default();
    let sections = text.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(title, text)| (title.to_owned(), text.trim().to_owned())).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn render(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| {
        let sees = line.sees.iter().map(|line| format!("`{}`", line.replace('|', "\\|"))).collect::<Vec<_>>();
        let [fault, step, target, code, kept, left] =
            [&line.fault, &line.step, &line.target, &line.code, &line.kept, &line.left]
                .map(|text| cell(text));
        let sees = if sees.is_empty() { "nothing".into() } else { sees.join("<br>") };
        format!("| {fault} | {step} | {target} | {sees} | {code} | {kept} | {left} |\n")
    });
    COLUMNS.to_owned() + &rows.collect::<String>()
}

/// Panics where the committed section differs from these lines; with `BOOTRACE_GENERATE` set, writes it instead.
pub fn holds(title: &str, lines: &[Line]) {
    assert!(SECTIONS.contains(&title), "{title} is no section");
    let (made, mut sections) = (render(lines), committed());
    if std::env::var_os("BOOTRACE_GENERATE").is_none() {
        let there = sections.iter().find(|(name, _)| name == title).map_or("", |(_, text)| text);
        let fix = format!("fix: BOOTRACE_GENERATE=1 scripts/test --test faults, for the section {title:?}");
        assert_eq!(there, made.trim(), "docs/contribute/faults.md differs from what the faults show\n{fix}");
        return;
    }
    sections.retain(|(name, _)| name != title);
    sections.push((title.into(), made));
    let order = |name: &str| SECTIONS.iter().position(|section| *section == name);
    sections.retain(|(name, _)| order(name).is_some());
    sections.sort_by_key(|(name, _)| order(name));
    let text = sections.iter().map(|(name, text)| format!("\n## {name}\n\n{}\n", text.trim()));
    fs::write(path(), HEAD.to_owned() + &text.collect::<String>()).unwrap();
}

#[test]
fn the_table_of_faults_has_every_section() {
    let names: Vec<_> = committed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, SECTIONS);
    assert!(fs::read_to_string(path()).unwrap().starts_with(HEAD), "fix: BOOTRACE_GENERATE=1");
}
