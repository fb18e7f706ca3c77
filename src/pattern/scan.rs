//! The pass over a regex's text: finds what `regex-syntax` refuses with a poor message, or reads as something else.
//!
//! Together with the tree pass in [`super::dialect`] it decides the dialect. What is checked here is decided by the
//! characters alone, so that one walk reports every place.

use std::ops::Range;

use super::PatternError;
use crate::finding::{Code, code};

/// Adds one error per construct of `text` that Python `re` and Rust `regex` do not share.
pub(super) fn scan(text: &str, errors: &mut Vec<PatternError>) {
    let mut scanner = Scanner { text, at: 0, errors };
    scanner.run();
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    errors: &'a mut Vec<PatternError>,
}

impl Scanner<'_> {
    fn run(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '\\' => self.escape(false),
                '[' => self.class(),
                '(' => self.group(),
                '*' | '+' | '?' => self.repeat(1),
                '{' => self.brace(),
                _ => self.at += c.len_utf8(),
            }
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&mut self, code: &'static Code, range: Range<usize>, message: &str, help: impl Into<String>) {
        self.errors.push(PatternError { code, part: 0, range, message: message.to_owned(), help: Some(help.into()) });
    }

    /// At a backslash: passes over it and what it escapes.
    fn escape(&mut self, in_class: bool) {
        let start = self.at;
        let rest = self.rest().to_owned();
        let Some(escaped) = rest.chars().nth(1) else {
            self.at = self.text.len();
            return; // A lone backslash at the end: regex-syntax says so.
        };
        self.at += 1 + escaped.len_utf8();
        let tail = rest.get(1 + escaped.len_utf8()..).unwrap_or("");
        let braced = tail.starts_with('{').then(|| tail.find('}')).flatten().map_or(0, |close| close + 1);
        match escaped {
            '0'..='9' => {
                self.at += tail.bytes().take(2).take_while(u8::is_ascii_digit).count();
                let range = start..self.at;
                if escaped == '0' || in_class || self.at - start == 4 {
                    let help = r"write the character itself, or `\x` and two hexadecimal digits";
                    self.error(&code::REGEX_ESCAPE, range, "an octal escape is read by Python only", help);
                } else {
                    let help = "a pattern decides by itself, not by what it matched before; write the alternatives out";
                    self.error(&code::BACK_REFERENCE, range, "back-references are not in the policy dialect", help);
                }
            }
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'a' | 'f' | 'n' | 'r' | 't' | 'v' => {}
            'x' | 'u' | 'U' if braced > 0 => {
                self.at += braced;
                let message = "a braced code point is read by Rust only";
                let help = r"write `\x` and two hexadecimal digits, or `\u` and four";
                self.error(&code::REGEX_ESCAPE, start..self.at, message, help);
            }
            'x' | 'u' | 'U' => {
                let wanted = match escaped {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits = tail.bytes().take(wanted).take_while(u8::is_ascii_hexdigit).count();
                self.at += digits;
                if digits < wanted {
                    let message = format!(r"`\{escaped}` needs {wanted} hexadecimal digits");
                    let help = "fill up with zeros on the left, or write the character itself";
                    self.error(&code::REGEX_SYNTAX, start..self.at, &message, help);
                }
            }
            'b' if in_class => {
                let message = r"`\b` inside a class is a backspace in Python and an error in Rust";
                self.error(&code::REGEX_CLASS, start..self.at, message, r"write `\x08` if a backspace is meant");
            }
            'b' if braced > 0 => {
                self.at += braced;
                let message = r"`\b{...}` is a special word edge in Rust and an error in Python";
                self.error(&code::REGEX_ESCAPE, start..self.at, message, r"write `\b`");
            }
            'b' | 'A' if !in_class => {}
            'B' => {
                let message = r"`\B` matches the empty text in Rust and not in Python";
                let help = r"say what the neighbours are, for example `\w` on both sides";
                self.error(&code::REGEX_ESCAPE, start..self.at, message, help);
            }
            'z' | 'Z' => {
                let message = format!(r"`\{escaped}` is not an anchor in both Python and Rust");
                self.error(&code::REGEX_ESCAPE, start..self.at, &message, "leave it out: patterns are always anchored");
            }
            'p' | 'P' => {
                self.at += if braced > 0 { braced } else { tail.chars().next().map_or(0, char::len_utf8) };
                let message = format!(r"`\{escaped}` classes are read by Rust only");
                let help = "names are ASCII: write the characters, for example `[A-Za-z]`";
                self.error(&code::REGEX_ESCAPE, start..self.at, &message, help);
            }
            'N' => {
                self.at += braced;
                let help = "write the character itself";
                self.error(&code::REGEX_ESCAPE, start..self.at, "named characters are read by Python only", help);
            }
            '<' | '>' => {
                let message = format!(r"`\{escaped}` is a word edge in Rust and a literal `{escaped}` in Python");
                let help = format!(r"write `{escaped}` for the character, `\b` for the edge");
                self.error(&code::REGEX_ESCAPE, start..self.at, &message, help);
            }
            c if c.is_ascii_punctuation() => {}
            c if c.is_ascii_alphabetic() => {
                let message = format!(r"`\{c}` is not an escape that Python and Rust share");
                self.error(&code::REGEX_ESCAPE, start..self.at, &message, format!("write `{c}` for the character"));
            }
            c => {
                let message = format!("`{}` needs no backslash, and Rust refuses one", c.escape_default());
                self.error(&code::REGEX_ESCAPE, start..self.at, &message, "leave the backslash out");
            }
        }
    }

    /// At `[`: passes over the class.
    fn class(&mut self) {
        self.at += 1;
        for first in ['^', ']'] {
            if self.peek() == Some(first) {
                self.at += 1;
            }
        }
        while let Some(c) = self.peek() {
            match c {
                ']' => {
                    self.at += 1;
                    return;
                }
                '\\' => self.escape(true),
                '[' => self.nested_class(),
                '&' | '-' | '~' | '|' if self.rest().chars().nth(1) == Some(c) => {
                    let range = self.at..self.at + 2;
                    self.at += 2;
                    let message =
                        format!("`{c}{c}` inside a class is a set operation in one engine and text in the other");
                    let help = match c {
                        '-' => r"write the set that is left; a hyphen itself is `\-`".to_owned(),
                        '|' => "a class needs no `|` between its members; write it once if it is a member".to_owned(),
                        _ => format!("write the resulting set; `{c}` itself is written once"),
                    };
                    self.error(&code::REGEX_CLASS, range, &message, help);
                }
                _ => self.at += c.len_utf8(),
            }
        }
    }

    /// At a `[` inside a class.
    fn nested_class(&mut self) {
        let start = self.at;
        let rest = self.rest();
        let posix = ["[:", "[.", "[="]
            .into_iter()
            .filter(|open| rest.starts_with(open))
            .find_map(|open| rest.find(&format!("{}]", &open[1..])))
            .map(|close| start..start + close + 2)
            .filter(|range| self.text.get(range.start + 2..range.end - 2).is_some_and(|name| !name.contains('[')));
        if let Some(range) = posix {
            let written = match self.text.get(range.clone()).unwrap_or("") {
                "[:alpha:]" => "A-Za-z",
                "[:alnum:]" => "0-9A-Za-z",
                "[:digit:]" => "0-9",
                "[:lower:]" => "a-z",
                "[:upper:]" => "A-Z",
                "[:word:]" => "0-9A-Za-z_",
                "[:xdigit:]" => "0-9A-Fa-f",
                "[:space:]" => r"\s",
                "[:punct:]" => "the characters",
                _ => "the characters themselves",
            };
            self.at = range.end;
            let help = format!("write `{written}` instead");
            let help = if written.starts_with("the") { format!("write {written}") } else { help };
            self.error(&code::REGEX_CLASS, range, "a POSIX class is read by Rust only", help);
        } else {
            self.at += 1;
            let message = "`[` inside a class opens a nested class in Rust and is text in Python";
            self.error(&code::REGEX_CLASS, start..start + 1, message, r"write `\[` for the character");
        }
    }

    /// At `(`: passes over the opening of the group only.
    fn group(&mut self) {
        let start = self.at;
        self.at += 1;
        let Some(kind) = self.rest().strip_prefix('?').map(str::to_owned) else { return };
        let opened = |length: usize| start..start + 2 + length;
        if kind.starts_with(':') {
            self.at += 2;
        } else if let Some(named) = kind.strip_prefix("P<") {
            self.at += 3;
            self.group_name(named);
        } else if ["=", "!", "<=", "<!"].iter().any(|look| kind.starts_with(look)) {
            let negative = kind.starts_with('!') || kind.starts_with("<!");
            let help = if negative {
                "match more, and list what must not match under `except`"
            } else {
                "write what follows or precedes as part of the pattern, as alternatives if there are several"
            };
            let range = start..self.closing(start).unwrap_or(start + 2 + if kind.starts_with('<') { 2 } else { 1 });
            self.at = start + 2 + if kind.starts_with('<') { 2 } else { 1 };
            self.error(&code::LOOK_AROUND, range, "look-around is not in the policy dialect", help);
        } else if kind.starts_with('>') {
            self.at += 2;
            let message = "an atomic group is read by Python 3.11 only";
            self.error(&code::POSSESSIVE, opened(1), message, "write `(?:`: matching is linear in any case");
        } else if kind.starts_with("P=") {
            let end = self.closing(start).unwrap_or(start + 4);
            self.at = end;
            let help = "a pattern decides by itself, not by what it matched before; write the alternatives out";
            self.error(&code::BACK_REFERENCE, start..end, "back-references are not in the policy dialect", help);
        } else if kind.starts_with('#') {
            let end =
                self.text.get(start..).and_then(|rest| rest.find(')')).map_or(self.text.len(), |at| start + at + 1);
            self.at = end;
            let help = "put the comment in the policy, after a `#` of its own";
            self.error(&code::REGEX_GROUP, start..end, "a regex comment is read by Python only", help);
        } else if kind.starts_with('<') {
            self.at += 2;
            let message = "Python spells a named group `(?P<`";
            self.error(&code::REGEX_GROUP, opened(1), message, "write `(?P<`, which both read");
        } else if kind.starts_with('(') {
            self.at += 1;
            let message = "a conditional group is read by Python only";
            self.error(&code::REGEX_GROUP, opened(1), message, "write the two cases as alternatives");
        } else {
            let flags = kind.bytes().take_while(|b| b.is_ascii_alphabetic() || *b == b'-').count();
            let closed = kind.as_bytes().get(flags).is_some_and(|b| matches!(b, b':' | b')'));
            if flags > 0 && closed {
                self.at = start + 2 + flags + 1;
                let message = "inline flags are not in the policy dialect";
                let help = match kind.as_bytes().first() {
                    Some(b'i') => "write both cases, for example `[Ww]eight`",
                    Some(b's') => "leave it out: `.` matches every character",
                    Some(b'm') => "leave it out: a name is one line",
                    _ => "leave the flags out and write what they stood for",
                };
                self.error(&code::INLINE_FLAGS, opened(flags + 1), message, help);
            } else {
                self.at += 1;
                let message = "a kind of group that Python and Rust do not share";
                self.error(&code::REGEX_GROUP, opened(0), message, "write `(` or `(?:`");
            }
        }
    }

    fn group_name(&mut self, named: &str) {
        let start = self.at;
        let Some(length) = named.find('>') else { return };
        self.at += length + 1;
        let name = named.get(..length).unwrap_or("");
        let shared = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !shared {
            let message = format!("`{name}` is not a group name in both Python and Rust");
            let help = "names are ASCII letters, digits and `_`, and do not start with a digit";
            self.error(&code::REGEX_GROUP, start..start + length, &message, help);
        }
    }

    /// One past the `)` that closes the group opened at `open`.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        let mut in_class = false;
        let mut bytes = self.text.bytes().enumerate().skip(open);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'[' => in_class = true,
                b']' => in_class = false,
                b'(' if !in_class => depth += 1,
                b')' if !in_class => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// At `{`: a counted repeat as both read it, or an error.
    fn brace(&mut self) {
        let start = self.at;
        let inside = self.rest().get(1..).and_then(|rest| rest.split_once('}')).map(|(inside, _)| inside.to_owned());
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match inside.as_deref() {
            Some(counts) if digits(counts) => self.repeat(counts.len() + 2),
            Some(counts) => match counts.split_once(',') {
                Some((min, max)) if digits(min) && (max.is_empty() || digits(max)) => self.repeat(counts.len() + 2),
                Some(("", max)) if digits(max) => {
                    let range = start..start + counts.len() + 2;
                    self.at = range.end;
                    let message = "a repeat without a lower bound is read by Python only";
                    self.error(&code::REGEX_REPEAT, range, message, format!("write `{{0,{max}}}`"));
                }
                _ => self.bare_brace(start),
            },
            None => self.bare_brace(start),
        }
    }

    fn bare_brace(&mut self, start: usize) {
        self.at = start + 1;
        let message = "`{` without counts is text in Python and an error in Rust";
        self.error(
            &code::REGEX_REPEAT,
            start..start + 1,
            message,
            r"write `\{` for the character, or `{2,3}` for a repeat",
        );
    }

    /// At a repeat of `length` bytes: passes over it and its marks.
    fn repeat(&mut self, length: usize) {
        let start = self.at;
        self.at += length;
        if self.peek() == Some('?') {
            self.at += 1;
        } else if self.peek() == Some('+') {
            self.at += 1;
            let message = "a `+` after a repeat is possessive in Python, and repeats the repeat in Rust";
            let help = "leave the last `+` out: matching is linear in any case";
            self.error(&code::POSSESSIVE, start..self.at, message, help);
        }
        let again = match self.peek() {
            Some('*' | '+' | '?') => 1,
            Some('{') if self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                self.rest().find('}').map_or(1, |close| close + 1)
            }
            _ => return,
        };
        let range = start..self.at + again;
        self.at += again;
        self.error(
            &code::REGEX_REPEAT,
            range,
            "a repeat of a repeat is an error in Python",
            "group the inner one: `(?:a*)*`",
        );
        while matches!(self.peek(), Some('*' | '+' | '?')) {
            self.at += 1;
        }
    }
}
