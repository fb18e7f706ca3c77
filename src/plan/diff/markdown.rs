//! Diffs for pull requests: the sentence first, one table, every weight in a fold, within a budget of bytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::PlanDiff;
use super::text::{ChangeRecord, ChangeText};
use crate::finding::render::text::{markdown, markdown_code};
use crate::units::{count, counted};

/// Kept for closing the fold and for saying what was left out.
const RESERVE: usize = 256;

/// Text that stops growing when the budget is spent.
struct Page {
    out: String,
    most: usize,
}

impl Page {
    /// Adds a piece whole, or not at all.
    fn push(&mut self, piece: &str) -> bool {
        let fits = self.out.len() + piece.len() <= self.most;
        if fits {
            self.out.push_str(piece);
        }
        fits
    }

    /// Adds pieces up to the first that does not fit; returns how many were left out.
    fn push_all(&mut self, pieces: &[String]) -> usize {
        let fitting = pieces.iter().take_while(|piece| self.push(piece)).count();
        pieces.len() - fitting
    }
}

impl PlanDiff {
    /// The diff for a comment: what changes in one sentence, a table of templates, and every weight in a fold.
    ///
    /// The text is never longer than `max_bytes` (budgets below 1 KiB count as 1 KiB). What does not fit is left out from
    /// the end, whole rows and lines at a time, and the last line says how much.
    #[must_use]
    pub fn markdown(&self, max_bytes: usize) -> String {
        let max_bytes = max_bytes.max(1024);
        let mut page = Page { out: format!("**{}**\n", markdown(&self.sentence())), most: max_bytes - RESERVE };
        let mut left_out: Vec<String> = Vec::new();
        let mut note = |left: usize, of: usize, what: &str| {
            if left > 0 {
                left_out.push(format!("{} of {}", count(left as u64), counted(of, what)));
            }
        };
        let names = [&self.old.name, &self.new.name].map(|name| markdown_code(name));
        page.push(&format!("\n{} -> {}, over {}\n", names[0], names[1], markdown_code(&self.over())));
        page.push(&format!("\n{}\n", self.on_devices()));

        let rows = self.rows();
        if !rows.is_empty() {
            let head = "\n| edit | weights | shard | quant | load | bytes of each |\n|---|---|---|---|---|---|\n";
            let left = if page.push(head) { page.push_all(&rows) } else { rows.len() };
            note(left, rows.len(), "row");
        }
        for (title, lines) in self.remarks() {
            let lines: Vec<String> = lines.iter().map(|line| format!("- {}\n", markdown(line))).collect();
            let left = if page.push(&format!("\n{title}:\n")) { page.push_all(&lines) } else { lines.len() };
            note(left, lines.len(), "remark");
        }
        let lines: Vec<String> = self.weights.iter().map(line).collect();
        if !lines.is_empty() {
            let summary = counted(lines.len(), "weight");
            let fold = format!("\n<details><summary>{summary}</summary>\n\n");
            let first = lines.first().map_or(0, String::len);
            if page.out.len() + fold.len() + first <= page.most {
                page.out.push_str(&fold);
                note(page.push_all(&lines), lines.len(), "weight");
                page.out.push_str("\n</details>\n");
            } else {
                note(lines.len(), lines.len(), "weight");
            }
        }
        if !left_out.is_empty() {
            let what = left_out.join(", ");
            let _ = writeln!(page.out, "\nLeft out, to stay within {} bytes: {what}.", count(max_bytes as u64));
        }
        page.out
    }

    fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        let mut shown: BTreeSet<usize> = BTreeSet::new();
        for group in self.groups() {
            shown.extend(&group.edits);
            let edits: Vec<String> = group.edits.iter().filter_map(|&at| self.edit_cell(at)).collect();
            let edits = if edits.is_empty() { "none".to_owned() } else { edits.join("<br>") };
            rows.extend(group.records.iter().map(|record| row(&edits, record)));
        }
        let idle = (0..self.edits.len()).filter(|at| !shown.contains(at)).filter_map(|at| self.edit_cell(at));
        rows.extend(idle.map(|edit| format!("| {edit} | none | | | | |\n")));
        rows
    }

    fn edit_cell(&self, at: usize) -> Option<String> {
        let edit = self.edits.get(at)?;
        let keys: String = edit.key_lines().map(|line| format!("<br>{}", markdown_code(&line))).collect();
        Some(format!("{}{keys}", markdown(&edit.title())))
    }
}

fn row(edits: &str, record: &ChangeRecord) -> String {
    let ChangeText { form, shard, quant, load, bytes } = &record.text;
    let mut row = format!(
        "| {edits} | {}<br>{} x {} |",
        markdown_code(&record.template),
        count(record.weights.len() as u64),
        markdown(form)
    );
    for cell in [shard, quant, load] {
        let cell = if cell.is_empty() { String::new() } else { format!(" {}", markdown_code(cell)) };
        let _ = write!(row, "{cell} |");
    }
    let _ = writeln!(row, " {} |", markdown(bytes));
    row
}

/// One weight of the fold.
fn line(weight: &super::WeightChange) -> String {
    let text = ChangeText::new(weight);
    let changes: Vec<String> = text.lines().map(|line| markdown(&line)).collect();
    format!("- {} {}\n", markdown_code(&weight.path), changes.join("; "))
}
