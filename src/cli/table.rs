//! Tables: columns for people, the same rows for a pull request.

use std::fmt::Write as _;

use crate::finding::render::text;

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under headings. Long texts belong into the last column, which pads nothing.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

/// A text; names and paths are code where there is markup.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Plain(String),
    Code(String),
}

impl Cell {
    fn text(&self) -> &str {
        match self {
            Cell::Plain(text) | Cell::Code(text) => text,
        }
    }
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Aligned columns, two spaces apart. Texts that could reprogram a terminal are spelled out.
    pub(super) fn human(&self) -> String {
        let heading = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| text::one_line(cell.text()).into_owned()).collect());
        let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
        let mut widths = vec![0; self.columns.len()];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for line in &lines {
            let mut text = String::new();
            for (at, ((cell, &width), (_, align))) in line.iter().zip(&widths).zip(&self.columns).enumerate() {
                if at > 0 {
                    text.push_str("  ");
                }
                let _ = match align {
                    Align::Left => write!(text, "{cell:<width$}"),
                    Align::Right => write!(text, "{cell:>width$}"),
                };
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out
    }

    /// A table of GitHub's markdown.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        for (name, _) in &self.columns {
            let _ = write!(out, "| {name} ");
        }
        out.push_str("|\n");
        for (_, align) in &self.columns {
            out.push_str(if *align == Align::Right { "|--:" } else { "|---" });
        }
        out.push_str("|\n");
        for row in &self.rows {
            for cell in row {
                let text = match cell {
                    Cell::Plain(plain) => text::markdown(plain),
                    Cell::Code(code) if code.is_empty() => String::new(),
                    Cell::Code(code) => text::markdown_code(code),
                };
                let _ = write!(out, "| {text} ");
            }
            out.push_str("|\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_twice() {
        let mut table = Table::new(&[("bytes", Align::Right), ("dtype", Align::Left), ("path", Align::Left)]);
        table.row(vec![Cell::Plain("1 B".into()), Cell::Plain("bf16".into()), Cell::Code("a|b".into())]);
        table.row(vec![Cell::Plain("1024 B".into()), Cell::Plain("f8_e4m3".into()), Cell::Code("x\u{1b}[2J`y".into())]);
        assert_eq!(table.human(), " bytes  dtype    path\n   1 B  bf16     a|b\n1024 B  f8_e4m3  x\\u{1b}[2J`y\n");
        assert_eq!(
            table.markdown(),
            "| bytes | dtype | path |\n|--:|---|---|\n| 1 B | bf16 | `a\\|b` |\n\
             | 1024 B | f8\\_e4m3 | ``x\\u{1b}[2J`y`` |\n"
        );
    }
}
