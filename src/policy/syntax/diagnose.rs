//! What is wrong with a broken statement, for someone who writes policies rather than parsers.

use std::ops::Range;

use super::statement::{Statement, Unclosed};
use crate::finding::{Finding, code, suggest};
use crate::source::{SourceId, Span};

/// Lines without a key that are shown.
const MOST_LINES: usize = 5;

/// How much of a text is unreadable for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The statement.
    Statement,
    /// What stands under a header that cannot be read.
    Section,
    /// What stands from here to the next header: the keys of a table that has lost its own.
    LostSection,
    /// Every line that sets no key.
    Lines,
    /// The whole text.
    Text,
}

/// What to say about a statement.
#[derive(Debug)]
pub(super) struct Diagnosis {
    message: String,
    labels: Vec<(Range<usize>, &'static str)>,
    help: Option<String>,
    /// How much of the text it is about.
    pub(super) reach: Reach,
}

impl Diagnosis {
    fn new(message: impl Into<String>, at: Range<usize>) -> Self {
        Self { message: message.into(), labels: vec![(at, "")], help: None, reach: Reach::Statement }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds the place of what came before.
    fn after(mut self, first: Range<usize>) -> Self {
        if let Some((_, label)) = self.labels.first_mut() {
            *label = "again here";
        }
        self.labels.push((first, "first here"));
        self
    }

    pub(super) fn finding(&self, source: SourceId) -> Finding {
        let mut finding = Finding::new(&code::SYNTAX, self.message.clone());
        for (range, label) in &self.labels {
            finding = finding.at(Span::new(source, range.clone()), *label);
        }
        match &self.help {
            Some(help) => finding.help(help.clone()),
            None => finding,
        }
    }
}

/// Finds words for the trouble in the statement `index`; `at` and `message` are the parser's.
pub(super) fn diagnose(text: &str, statements: &[Statement], index: usize, at: usize, message: &str) -> Diagnosis {
    let Some(statement) = statements.get(index) else { return Diagnosis::new(plain(message).0, at..at) };
    if let Some(unclosed) = statement.unclosed {
        return not_closed(text, statement, unclosed);
    }
    let written = text.get(statement.range.clone()).unwrap_or("");
    if message.starts_with("duplicate key") {
        return if statement.is_header {
            Diagnosis { reach: Reach::Section, ..header_twice(text, statements, statement, written) }
        } else {
            key_twice(text, statements, index, statement)
        };
    }
    if statement.is_header {
        let header = Diagnosis::new("the header of the table is not well formed", statement.range.clone())
            .help("a header is a name in brackets, `[mesh]`, or in two for one of a list, `[[expect]]`");
        return Diagnosis { reach: Reach::Section, ..header };
    }
    if statement.equals.is_none() {
        return not_an_assignment(statements, index, statement, written);
    }
    if message.starts_with("missing escaped value") {
        return escape(text, at);
    }
    word(text, at, message).unwrap_or_else(|| {
        let (message, help) = plain(message);
        let diagnosis = Diagnosis::new(message, at..at);
        match help {
            Some(help) => diagnosis.help(help),
            None => diagnosis,
        }
    })
}

/// The parser's message and what it expected instead.
pub(super) fn plain(message: &str) -> (String, Option<String>) {
    let line = message.lines().next().unwrap_or_default().trim_end_matches('.');
    match line.split_once(", expected ") {
        Some((message, expected)) => (message.to_owned(), Some(format!("expected is {expected}"))),
        None if line.is_empty() => ("this is not TOML".to_owned(), None),
        None => (line.to_owned(), None),
    }
}

fn not_closed(text: &str, statement: &Statement, unclosed: Unclosed) -> Diagnosis {
    let Unclosed { at, open } = unclosed;
    let (what, close) = match open {
        "[" => ("`[`", "]"),
        "{" => ("`{`", "}"),
        quote => ("the string", quote),
    };
    let line = text.get(at..statement.range.end.max(at)).unwrap_or("");
    let line = line.lines().next().unwrap_or("").trim_end();
    let end = if what == "the string" { at + line.len() } else { at + open.len() };
    Diagnosis::new(format!("{what} is not closed"), at..end).help(match close {
        "\"" => r#"close it with `"`"#.to_owned(),
        close => format!("close it with `{close}`"),
    })
}

fn header_twice(text: &str, statements: &[Statement], statement: &Statement, written: &str) -> Diagnosis {
    let name = written.trim_matches(['[', ']']).trim();
    let again = Diagnosis::new(format!("the table `{name}` is opened twice"), statement.range.clone());
    let same = |other: &&Statement| {
        let other = text.get(other.range.clone()).unwrap_or("");
        other.trim_matches(['[', ']']).trim() == name
    };
    let first = statements.iter().filter(|other| other.is_header).find(same);
    let again = match first.filter(|first| first.range != statement.range) {
        Some(first) => again.after(first.range.clone()),
        None => again,
    };
    let is_list = super::super::language::POLICY
        .fields
        .iter()
        .any(|field| field.key == name && matches!(field.kind, super::super::language::Kind::List(_)));
    again.help(if is_list {
        format!("one of a list stands in two brackets, `[[{name}]]`")
    } else {
        "put all of its keys under one header".to_owned()
    })
}

fn key_twice(text: &str, statements: &[Statement], index: usize, statement: &Statement) -> Diagnosis {
    let key = |statement: &Statement| {
        let end = statement.equals.unwrap_or(statement.range.end);
        text.get(statement.range.start..end).unwrap_or("").trim()
    };
    let place = |statement: &Statement| statement.range.start..statement.range.start + key(statement).len();
    let (above, below) = statements.split_at(index);
    let above: Vec<&Statement> = above.iter().rev().take_while(|other| !other.is_header).collect();
    let first_of = |name: &str| above.iter().rev().find(|other| key(other) == name);
    let below = below.iter().take_while(|other| !other.is_header);
    let again: Vec<_> = below.filter_map(|other| Some((other, first_of(key(other))?))).collect();
    // A second name, or several keys again, are another table that has lost its header.
    let lost_header = again.len() > 1 || key(statement) == "name";
    let names = suggest::list(again.iter().map(|(other, _)| key(other)));
    let Some((&(second, first), rest)) = again.split_first() else {
        // The same key twice in an inline table: the parser knows where.
        return Diagnosis::new(format!("`{}` is set twice in one table", key(statement)), place(statement))
            .help("keep one");
    };
    let mut diagnosis = match rest {
        [] => Diagnosis::new(format!("{names} is set twice in one table"), place(second)),
        _ => Diagnosis::new(format!("{names} are set twice in one table"), place(second)),
    };
    diagnosis = diagnosis.after(place(first));
    for (second, first) in rest {
        diagnosis.labels.extend([(place(second), "again here"), (place(first), "first here")]);
    }
    if lost_header {
        diagnosis = diagnosis.help("if this is another table, a header stands before it, such as `[[LOADER_RULES]]`");
    } else {
        diagnosis = diagnosis.help("keep one");
    }
    Diagnosis { reach: if lost_header { Reach::LostSection } else { Reach::Statement }, ..diagnosis }
}

/// A line that sets no key: this one, and all others like it, as a file in another notation is wrong in every line.
fn not_an_assignment(statements: &[Statement], index: usize, statement: &Statement, written: &str) -> Diagnosis {
    if index == 0 && written.starts_with('{') {
        let json =
            Diagnosis::new("this is JSON, and a policy is TOML", statement.range.start..statement.range.start + 1);
        return Diagnosis {
            reach: Reach::Text,
            ..json.help("write `language = 1` instead of `\"language\": 1`, and `[mesh]` before the keys of the mesh")
        };
    }
    let others = statements.iter().skip(index + 1).filter(|other| other.sets_nothing());
    let mut diagnosis = match others.clone().count() {
        0 => Diagnosis::new("a line that sets no key", statement.range.clone()),
        more => Diagnosis::new(format!("{} lines that set no key", more + 1), statement.range.clone()),
    };
    diagnosis.labels.extend(others.take(MOST_LINES - 1).map(|other| (other.range.clone(), "")));
    let diagnosis = match written.split_once(':') {
        Some((key, _)) => diagnosis.help(format!("write `{} = ...`", key.trim().trim_matches(['"', '\'']))),
        None => diagnosis.help("write `key = value`; a comment begins with `#`"),
    };
    Diagnosis { reach: Reach::Lines, ..diagnosis }
}

/// A backslash in double quotes that stands for nothing.
fn escape(text: &str, at: usize) -> Diagnosis {
    let start = text.get(..at).and_then(|before| before.rfind('\\')).unwrap_or(at);
    let length = text.get(start..).unwrap_or("").chars().take(2).map(char::len_utf8).sum::<usize>();
    let written = text.get(start..start + length).unwrap_or("");
    Diagnosis::new(format!("`{written}` means nothing in double quotes"), start..start + length)
        .help("put a regex in single quotes, where a backslash is a backslash; in double quotes it is `\\\\`")
}

/// A bare word where a value should be.
fn word(text: &str, at: usize, message: &str) -> Option<Diagnosis> {
    let is_word = |c: char| c.is_alphanumeric() || "_-*./{}".contains(c);
    let before = text.get(..at)?;
    let start = before
        .rfind(|c| !is_word(c))
        .map_or(0, |last| last + before.get(last..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8));
    let rest = text.get(start..)?;
    let written = rest.get(..rest.find(|c| !is_word(c)).unwrap_or(rest.len()))?;
    let judged = ["string values must be quoted", "invalid boolean", "invalid float", "invalid value"];
    if !written.starts_with(char::is_alphabetic) || !judged.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    let help = match written.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => "write `true`".to_owned(),
        "false" | "no" | "off" => "write `false`".to_owned(),
        "none" | "null" | "nil" => {
            "TOML has no such value: leave the key out, or write `\"-\"` for a dimension that is not split".to_owned()
        }
        _ => format!("text stands in quotes: `\"{written}\"`"),
    };
    Some(Diagnosis::new(format!("`{written}` is not a value"), start..start + written.len()).help(help))
}
