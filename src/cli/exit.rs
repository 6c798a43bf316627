//! Exit codes in one table. `--help`, the reference and the code use it.

/// An end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    Refuted,
    Undecided,
    /// Ended by this signal.
    Signal(u8),
}

/// Each exit, its code as text, and its meaning for all commands.
const TABLE: [(Exit, &str, &str); 6] = [
    (Exit::Done, "0", "done"),
    (
        Exit::Failed,
        "1",
        "failed: a run or a side of an A/B, more instances of NEW than of BASE, a build, a standard target that can't run \
         (doctor), a figure beyond its bound (calibrate), a target without a good sample (export), an unreadable file \
         (history --strict)",
    ),
    (
        Exit::Usage,
        "2",
        "usage: the command line, a scenario or a results file is wrong, or two runs can't be compared",
    ),
    (Exit::Refuted, "3", "NEW is regressed, or a claim is refuted; not with --fail-on never"),
    (
        Exit::Undecided,
        "4",
        "a verdict is inconclusive or a claim undecided, only with --fail-on inconclusive or undecided",
    ),
    (
        Exit::Signal(2),
        "130",
        "ended by Ctrl-C (129: hang-up, 131: Ctrl-\\, 143: SIGTERM): measured samples are kept, started instances are \
         removed; a signal that is ignored at the start, as by nohup, stays ignored",
    ),
];

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refuted => 3,
            Exit::Undecided => 4,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// The table's rows: code and meaning.
pub fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.iter().map(|(_, code, meaning)| (*code, *meaning))
}

/// Appends the exit codes to a help text.
pub(super) fn help(text: &str) -> String {
    let mut out = format!("{text}\n\nExit codes:");
    for (code, meaning) in rows() {
        let mut width = usize::MAX;
        for word in meaning.split(' ') {
            if width.saturating_add(1 + word.len()) > 98 {
                out.push_str(if width == usize::MAX { "\n  " } else { "\n       " });
                if width == usize::MAX {
                    out.push_str(&format!("{code:<5}"));
                }
                width = 7;
            } else {
                out.push(' ');
                width += 1;
            }
            out.push_str(word);
            width += word.len();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_has_the_code_that_the_table_shows() {
        for (exit, code, _) in TABLE {
            assert_eq!(exit.code().to_string(), code);
        }
    }

    #[test]
    fn a_help_text_has_every_code_in_lines_that_fit() {
        let text = help("Examples:");
        assert!(rows().all(|(code, _)| text.contains(&format!("\n  {code:<5}"))), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100 && !line.ends_with(' ')), "{text}");
    }
}
