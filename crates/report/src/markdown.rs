//! GitHub's Markdown.

/// The longest document, in bytes. GitHub refuses a comment of more than 65,536 characters and a step's summary of more
/// than 1 MiB; the rest is for a heading that whoever posts it puts above.
pub const LONGEST: usize = 65_000;
/// The room for the note at the end of a cut document, in bytes.
const NOTE: usize = 300;

/// Leaves out the last lines of a document that is longer than [`LONGEST`], and says so; `others` names what has them
/// all. No line is cut: a row of a table and a paragraph are one line each.
pub fn fit(document: String, others: &str) -> String {
    if document.len() <= LONGEST {
        return document;
    }
    let room = document.floor_char_boundary(LONGEST - NOTE);
    let end = document[..room].rfind('\n').map_or(0, |end| end + 1);
    let (kept, cut) = document.split_at(end);
    let open = kept.matches("<details>").count() - kept.matches("</details>").count();
    let lines = cut.lines().filter(|line| !line.is_empty()).count();
    let close = "\n</details>\n".repeat(open);
    format!("{kept}{close}\n**{lines} more lines don't fit into a comment: {others} has them.**\n")
}

/// Escapes text for Markdown: no markup, no HTML, no mention of a user, no link.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    // GitHub turns these into links.
    out.replace("://", "&#58;//").replace("www.", "www&#46;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_document_is_cut_between_rows_and_says_so() {
        let row = |n: usize| format!("| {n} µs → … | `x` |\n");
        let short = format!("# a\n\n{}", row(0));
        assert_eq!(fit(short.clone(), "index.html"), short);
        // Of each length, so that a row ends at each place and a cut could hit each byte of a character.
        for longer in 0..40 {
            let head = format!("# {}\n\n<details><summary>rest</summary>\n\n", "a".repeat(longer));
            let whole: String = [head].into_iter().chain((0..5000).map(row)).collect();
            let cut = fit(format!("{whole}\n</details>\n"), "index.html");
            assert!(cut.len() <= LONGEST && cut.len() > LONGEST - 2 * NOTE, "{}", cut.len());
            let (kept, end) = cut.split_once("\n\n</details>\n\n**").unwrap();
            let rows = kept.lines().count() - 4;
            assert!(whole.starts_with(&format!("{kept}\n")) && kept.ends_with('|'), "{kept}");
            // With the line that closes the details.
            let expected =
                format!("{} more lines don't fit into a comment: index.html has them.**\n", 5001 - rows);
            assert_eq!(end, expected);
        }
    }
}
