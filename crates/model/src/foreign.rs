//! Makes foreign text (of scenarios, images, guests and engines) safe to print, and finds the nearest name to a mistyped
//! one.

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

/// Whether a character controls a terminal, or hides or reorders the text around it.
pub fn is_active(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    // XML forbids the noncharacters at a plane's end.
    invisible || c.is_control() || u32::from(c) & 0xfffe == 0xfffe
}

fn is_shown(c: char) -> bool {
    c.is_whitespace() || !is_active(c)
}

/// Makes text of a scenario, guest or engine inert for readers: line breaks become spaces; control
/// characters, invisible ones and those that change the reading direction are removed; text beyond
/// `longest` characters is replaced by its length. The result is not escaped for HTML or Markdown.
pub fn clean(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    let mut left = 0;
    let mut last = ' ';
    for (i, c) in text.chars().filter(|c| is_shown(*c)).enumerate() {
        let c = if c.is_whitespace() { ' ' } else { c };
        if i >= longest {
            left += 1;
        } else if c != ' ' || last != ' ' {
            shown.push(c);
        }
        last = c;
    }
    let mut shown = shown.trim_end().to_owned();
    if left > 0 {
        shown.push_str(&format!(" … ({left} more)"));
    }
    shown
}

/// Like [`clean`], with the line breaks kept.
pub fn clean_lines(text: &str, longest: usize) -> String {
    let whole: Vec<String> = text.chars().take(longest).collect::<String>().lines().map(line).collect();
    let more = text.chars().count().saturating_sub(longest);
    let mut shown = whole.join("\n");
    if more > 0 {
        shown.push_str(&format!("\n… ({more} more)"));
    }
    shown
}

fn line(text: &str) -> String {
    text.chars().filter(|c| is_shown(*c)).map(|c| if c.is_whitespace() { ' ' } else { c }).collect()
}

/// Makes foreign text safe for a terminal: escapes control characters, and keeps the last `max` bytes, since programs
/// print the reason of a failure last.
pub fn tail(text: &str, max: usize) -> String {
    let text = text.trim();
    let start = text.ceil_char_boundary(text.len().saturating_sub(max));
    let mut shown = String::from(if start > 0 { "..." } else { "" });
    for c in text[start..].chars() {
        match c {
            '\n' => shown.push_str(" | "),
            c if is_active(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
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
    let length = name.chars().count();
    let near = known.iter().filter_map(|known| {
        let most = 1.max(known.len() / 3);
        // The distance of the lengths is no greater, and takes no time in proportion to their product.
        let may_be_near = known.len().abs_diff(length) <= most;
        let distance = may_be_near.then(|| strsim::osa_distance(name, known))?;
        (distance <= most).then_some((distance, *known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_can_neither_colour_a_terminal_nor_turn_or_break_a_line() {
        assert_eq!(
            clean("\u{1b}[31mred\u{7}\r\n  two\u{202e}x\u{200b}\u{fffe}\u{1ffff}", 99),
            "[31mred twox"
        );
        assert_eq!(clean(&"a".repeat(100), 5), "aaaaa … (95 more)");
        assert_eq!(clean_lines("a\u{1b}\n\tb", 99), "a\n b");
    }

    #[test]
    fn the_tail_of_foreign_text_is_bounded_and_cannot_move_the_cursor() {
        assert_eq!(tail("\u{1b}[2Jno\nroom\n", 100), "\\u{1b}[2Jno | room");
        assert_eq!(tail("abcdef", 3), "...def");
        assert_eq!(tail("aé", 1), "...");
    }
}
