//! Foreign text made safe to print: quoted, cut, and without characters that control a terminal. And the nearest name
//! to a mistyped one.

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

/// The text with every character that could control the terminal escaped.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if is_active(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Whether a character controls a terminal: control characters, and those that change the direction of the text around
/// them.
pub fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// ` (did you mean NAME?)` where a known name is near; else an empty string.
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!(" (did you mean {near}?)"),
        None => String::new(),
    }
}

/// The known name with the least edit distance, if that is small.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // Far longer than any known name, and the distance takes time in proportion to the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let near = known.iter().min_by_key(distance)?;
    let differs = strsim::damerau_levenshtein(name, near);
    (differs <= 1.max(near.len() / 3)).then_some(*near)
}
