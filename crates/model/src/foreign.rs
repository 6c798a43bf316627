//! Text from outside, fit to be shown: quoted, cut, and without what drives a terminal; and names that are near to others.

/// Longest piece of foreign text that a message repeats, in characters.
pub const LONGEST_QUOTE: usize = 60;

/// Text in quotes: escaped, and cut where it is long.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// The source text of a value: escaped, and cut where it is long.
pub fn cut(source: &str) -> String {
    match source.char_indices().nth(LONGEST_QUOTE) {
        None => printable(source),
        Some((end, _)) => format!("{}...", printable(&source[..end])),
    }
}

/// Without characters that could drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if is_active(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Whether a character does something to a terminal besides being shown: control characters, and those
/// that turn the direction of the text around them.
pub fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `, did you mean NAME?`-like, where a known name is near enough to be meant.
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!(" (did you mean {near}?)"),
        None => String::new(),
    }
}

/// The known name that differs least, if it differs by few letters.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any name of ours by far, and the distance takes time that is the product of lengths.
    if name.len() > 64 {
        return None;
    }
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let near = known.iter().min_by_key(distance)?;
    let differs = strsim::damerau_levenshtein(name, near);
    (differs <= 1.max(near.len() / 3)).then_some(*near)
}
