//! The rules for a single value. Values become arguments of programs, file names and requests to
//! engines: each is bounded, has safe characters only, and does not look like an option.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::foreign::{is_active, quoted};

/// Most bytes of a command, and of all variables, as JSON: two of them fit into a control frame of 256 KiB.
const COMMAND_MOST: usize = 64 << 10;
const TEXT_MOST: usize = 200;
const PATTERN_MOST: usize = 4096;
const PATH_MOST: usize = 4095;

/// Whether this can be the name of a scenario or target.
pub(super) fn is_name(text: &str) -> bool {
    let start = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    start && text.len() <= 64 && only(text, "._-", false)
}

pub(super) fn name(text: &str) -> Result<(), String> {
    ensure(is_name(text), || {
        format!(
            "{} is not a name: write 1 to 64 of a-z, 0-9, '.', '_' and '-', with a letter or digit first",
            quoted(text)
        )
    })
}

pub(super) fn sentence(text: &str) -> Result<(), String> {
    let good = !text.trim().is_empty() && text.chars().count() <= TEXT_MOST && !text.chars().any(is_active);
    ensure(good, || {
        format!("{} is not a sentence: write one line of up to {TEXT_MOST} characters", quoted(text))
    })
}

pub(super) fn suite(text: &str) -> Result<(), String> {
    let good = text.split_once('/').is_some_and(|(distribution, suite)| {
        ["debian", "ubuntu"].contains(&distribution) && starts_alphanumeric(suite) && only(suite, ".-", false)
    });
    ensure(good && text.len() <= 64, || {
        format!(
            "{} is not a suite: write debian/SUITE or ubuntu/SUITE, as in \"ubuntu/noble\" or \"debian/bookworm\"",
            quoted(text)
        )
    })
}

pub(super) fn package(text: &str) -> Result<(), String> {
    let good = (2..=100).contains(&text.len()) && starts_alphanumeric(text) && only(text, "+.-", false);
    ensure(good, || {
        format!(
            "{} is not a package name: write 2 to 100 of a-z, 0-9, '+', '.' and '-', with a letter or digit first",
            quoted(text)
        )
    })
}

pub(super) fn component(text: &str) -> Result<(), String> {
    let good = text.len() <= 64 && starts_alphanumeric(text) && only(text, "-", false);
    ensure(good, || {
        format!("{} is not a component: write a-z, 0-9 and '-', as in \"main\" or \"universe\"", quoted(text))
    })
}

/// The URL may contain no user or password: outputs and results show it.
pub(super) fn mirror(text: &str) -> Result<(), String> {
    let rest = ["http://", "https://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let good = rest.is_some_and(|rest| starts_alphanumeric(rest) && only(rest, "._~:/%+-", true));
    ensure(good && text.len() <= 1024, || {
        format!(
            "{} is not a mirror: write a http, https or file URL without user and password, as in \"http://HOST/debian\"",
            quoted(text)
        )
    })
}

pub(super) fn registry(text: &str) -> Result<(), String> {
    let good =
        text.len() <= 255 && starts_alphanumeric(text) && only(text, "._/:@-", true) && !text.contains("//");
    ensure(good, || {
        format!(
            "{} is not an image reference: write [HOST/]NAME[:TAG][@DIGEST], as in \"ubuntu:24.04\"",
            quoted(text)
        )
    })
}

/// As QEMU names its CPU models.
pub(super) fn cpu_model(text: &str) -> Result<(), String> {
    let good = text.len() <= 64 && starts_alphanumeric(text) && only(text, "._-", true);
    ensure(good, || {
        format!(
            "{} is not a CPU model: write \"host-passthrough\", \"host-model\", or letters, digits, '.', '_' and '-' \
             as in \"qemu64\" or \"Skylake-Server\"",
            quoted(text)
        )
    })
}

/// The name of an engine's object, of letters, digits and `others`.
pub(super) fn engine_name(text: &str, others: &str, what: &str, example: &str) -> Result<(), String> {
    let good = text.len() <= 128 && starts_alphanumeric(text) && only(text, others, true);
    ensure(good, || {
        let others = others.chars().map(|c| format!("'{c}'")).collect::<Vec<_>>().join(", ");
        format!(
            "{} is not {what}: write letters, digits, {others}, with a letter or digit first, as in \"{example}\"",
            quoted(text)
        )
    })
}

pub(super) fn file_on_host(text: &str) -> Result<(), String> {
    let good =
        !text.is_empty() && text.len() <= PATH_MOST && !text.starts_with('-') && !text.chars().any(is_active);
    ensure(good, || {
        format!(
            "{} is not a file that can be used: write a path without control characters that does not start with '-'",
            quoted(text)
        )
    })
}

pub(super) fn file_in_image(text: &str) -> Result<(), String> {
    let good = text.starts_with('/') && text.len() <= PATH_MOST && !text.chars().any(is_active);
    ensure(good, || {
        format!(
            "{} is not an absolute path: write it as the workload sees it, as in \"/run/ready\"",
            quoted(text)
        )
    })
}

pub(super) fn command(argv: &[String]) -> Result<(), String> {
    if argv.first().is_none_or(String::is_empty) {
        return fail("there is no program to run: write it and its arguments, as in [\"sleep\", \"5\"]");
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return fail("an argument contains a NUL byte, which no program can receive: remove it");
    }
    ensure(json_len(argv) <= COMMAND_MOST, || {
        "the command is over 64 KiB: put long input into a file of the image".to_string()
    })
}

pub(super) fn user(text: &str) -> Result<(), String> {
    // The kernel takes the highest number for none.
    let number = |part: &str| part.parse::<u32>().is_ok_and(|id| id < u32::MAX);
    let name = |part: &str| {
        part.len() <= 64
            && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c))
    };
    let good = text.split(':').count() <= 2 && text.split(':').all(|part| number(part) || name(part));
    ensure(good, || {
        format!(
            "{} is not a user: write its name or number, and a group after it or not, as in \"redis\" or \"1000:1000\"",
            quoted(text)
        )
    })
}

pub(super) fn variable(key: &str, value: &str) -> Result<(), String> {
    let good = !key.starts_with(|c: char| c.is_ascii_digit())
        && !key.is_empty()
        && key.len() <= 255
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !good {
        return fail("this is not a variable's name: write letters, digits and '_', with no digit first");
    }
    if key == "PATH" {
        return fail(
            "PATH is the same on every target and can't be set: name the program with its full path",
        );
    }
    ensure(!value.contains('\0'), || "a variable can't have a NUL byte in it: leave it out".to_string())
}

/// Checks the size of all variables together.
pub(super) fn variables(env: &BTreeMap<String, String>) -> Result<(), String> {
    ensure(json_len(env) <= COMMAND_MOST, || {
        "all variables together are over 64 KiB: use fewer or shorter ones".to_string()
    })
}

pub(super) fn regex(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return fail(
            "an empty pattern matches every line: write what the line looks like, as in \"^ready$\"",
        );
    }
    if pattern.len() > PATTERN_MOST {
        return Err(format!("the pattern is too long: write up to {PATTERN_MOST} bytes"));
    }
    let compiled = regex_lite::Regex::new(pattern);
    compiled.map(|_| ()).map_err(|e| format!("{} is not a regular expression: {e}", quoted(pattern)))
}

pub(super) fn within(value: u32, range: RangeInclusive<u32>) -> Result<(), String> {
    ensure(range.contains(&value), || {
        format!("{value} is out of range: write a whole number from {} to {}", range.start(), range.end())
    })
}

pub(super) fn between<T: PartialOrd + std::fmt::Display>(
    value: T,
    least: T,
    most: T,
    why: &str,
) -> Result<(), String> {
    ensure(least <= value && value <= most, || {
        format!("{value} is out of range: write \"{least}\" to \"{most}\" ({why})")
    })
}

fn starts_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Only lower-case letters, digits and `others`; with `upper`, upper-case letters too.
fn only(text: &str, others: &str, upper: bool) -> bool {
    let good = |c: char| {
        c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || others.contains(c)
            || (upper && c.is_ascii_uppercase())
    };
    text.chars().all(good)
}

/// Bytes of this value in a control frame.
fn json_len<T: serde::Serialize + ?Sized>(value: &T) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |json| json.len())
}

pub(super) fn ensure(good: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(text()) }
}

pub(super) fn fail(text: &str) -> Result<(), String> {
    Err(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_number_with_a_group_or_without() {
        for good in ["redis", "1000", "1000:1000", "www-data:adm", "_apt", "0"] {
            assert_eq!(user(good), Ok(()), "{good}");
        }
        for bad in
            ["", ":", "a:b:c", "a:", ":1", "-1", "4294967295", "a b", "../x", "root\n", &"x".repeat(65)]
        {
            assert!(user(bad).unwrap_err().contains("is not a user: write"), "{bad}");
        }
    }
}
