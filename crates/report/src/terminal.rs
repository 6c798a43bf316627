//! The form of tables in the terminal.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, LineStyle, Table, TableStyle, Width};

/// Widest line of the tables and of the text below them, in columns.
pub const WIDTH: usize = 100;
/// Width of the rows' labels in a table with a column for each target.
pub const LABEL: u16 = 18;
/// Width of a target's column, with one space on either side.
pub const COLUMN: u16 = 25;

const RULE: LineStyle = LineStyle::new('─', '─', '─', '─');
pub const RULES: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// A table with a column for each target, below its head; a row is its label and its cells.
pub fn columns(
    heads: impl Iterator<Item = String>,
    rows: impl Iterator<Item = (String, Vec<String>)>,
) -> String {
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_header([String::new()].into_iter().chain(heads));
    for (label, cells) in rows {
        let cells = cells.into_iter().map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right));
        table.add_row([Cell::new(label)].into_iter().chain(cells));
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        let width = if i == 0 { LABEL + 2 } else { COLUMN };
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        if i > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

/// Lines of at most `width` characters, broken at spaces; a longer word is broken anywhere.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.last_mut().expect("starts with a line").extend(word);
            lines.push(String::new());
            word = rest;
        }
        let line = lines.last_mut().expect("starts with a line");
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        used += word.len();
        line.extend(word);
    }
    lines
}
