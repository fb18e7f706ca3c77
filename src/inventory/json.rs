//! A strict JSON reader that knows the byte offset of everything it reads.
//!
//! Foreign headers are read with it: it allocates only for strings that hold escapes, never recurses deeper than
//! [`MAX_DEPTH`], sees repeated keys, and tells numbers that a header may hold (plain unsigned integers) from all others.

use std::borrow::Cow;

/// How deep values that are skipped may nest.
const MAX_DEPTH: usize = 128;

/// What is wrong with a JSON text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonError {
    /// Byte offset in the text.
    pub(super) at: usize,
    /// Whether the text is well-formed here but holds a value of another kind.
    pub(super) wrong_type: bool,
    /// One sentence.
    pub(super) message: Cow<'static, str>,
}

/// A place in a JSON text, moving forward.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Offset of the next byte.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// Reads an object; `entry` gets each key with its offset and must read the value.
    pub(super) fn object<E: From<JsonError>>(
        &mut self,
        mut entry: impl FnMut(&mut Self, Cow<'a, str>, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect_kind(b'{', "an object")?;
        if self.take_if(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error("a key in quotes was expected").into());
            }
            let key = self.string()?;
            if !self.take_if(b':') {
                return Err(self.error("`:` was expected after the key").into());
            }
            entry(self, key, at)?;
            if self.take_if(b',') {
                continue;
            }
            if self.take_if(b'}') {
                return Ok(());
            }
            return Err(self.error("`,` or `}` was expected").into());
        }
    }

    /// Reads an array; `item` must read each value.
    pub(super) fn array<E: From<JsonError>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect_kind(b'[', "an array")?;
        if self.take_if(b']') {
            return Ok(());
        }
        loop {
            self.skip_space();
            item(self)?;
            if self.take_if(b',') {
                continue;
            }
            if self.take_if(b']') {
                return Ok(());
            }
            return Err(self.error("`,` or `]` was expected").into());
        }
    }

    /// Reads a string; borrowed unless it holds escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.mismatch("a string"));
        }
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        // Start of the run that is not yet copied into `owned`.
        let mut run = start;
        loop {
            // Straight to the next byte that means something.
            let plain = self.text.as_bytes().get(self.at..).unwrap_or_default();
            self.at += plain.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(plain.len());
            match self.peek() {
                None => return Err(self.error("the text ends inside a string")),
                Some(b'"') => {
                    let tail = self.slice(run, self.at);
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(mut text) => {
                            text.push_str(tail);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(self.text.get(run..self.at).unwrap_or(""));
                    let unescaped = self.escape()?;
                    owned.get_or_insert_default().push(unescaped);
                    run = self.at;
                }
                Some(_) => return Err(self.error("a control character stands in a string; it must be escaped")),
            }
        }
    }

    /// Reads a number that has neither sign, fraction nor exponent and fits 64 bits.
    pub(super) fn unsigned(&mut self) -> Result<u64, JsonError> {
        self.skip_space();
        let start = self.at;
        let mut value: Option<u64> = Some(0);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.and_then(|v| v.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            self.at += 1;
        }
        let digits = self.at - start;
        let fail = |message: &'static str| JsonError { at: start, wrong_type: true, message: message.into() };
        match self.peek() {
            _ if digits == 0 => Err(self.mismatch("an unsigned integer")),
            _ if digits > 1 && self.text.as_bytes().get(start) == Some(&b'0') => {
                Err(JsonError { at: start, wrong_type: false, message: "a number may not start with `0`".into() })
            }
            Some(b'.' | b'e' | b'E') => Err(fail("an unsigned integer was expected, without fraction or exponent")),
            _ => value.ok_or_else(|| fail("the number does not fit in 64 bits")),
        }
    }

    /// Reads any value and drops it.
    pub(super) fn skip(&mut self) -> Result<(), JsonError> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), JsonError> {
        self.skip_space();
        if depth >= MAX_DEPTH {
            return Err(self.error("values nest too deep"));
        }
        match self.peek() {
            Some(b'{') => self.object(|cursor, _, _| cursor.skip_nested(depth + 1)),
            Some(b'[') => self.array(|cursor| cursor.skip_nested(depth + 1)),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ => {
                for word in ["true", "false", "null"] {
                    if self.rest().starts_with(word) {
                        self.at += word.len();
                        return Ok(());
                    }
                }
                Err(self.error("a value was expected"))
            }
        }
    }

    fn skip_number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let digits = |cursor: &mut Self| {
            let from = cursor.at;
            while let Some(b'0'..=b'9') = cursor.peek() {
                cursor.at += 1;
            }
            cursor.at > from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let integer = self.at;
        let mut good = digits(self) && !(leading_zero && self.at - integer > 1);
        if self.peek() == Some(b'.') {
            self.at += 1;
            good &= digits(self);
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            good &= digits(self);
        }
        if good { Ok(()) } else { Err(JsonError { at: start, wrong_type: false, message: "not a JSON number".into() }) }
    }

    /// The next byte, space not skipped.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips JSON white space.
    pub(super) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a str {
        self.slice(self.at, self.text.len())
    }

    /// An error at the next byte.
    pub(super) fn error(&self, message: impl Into<Cow<'static, str>>) -> JsonError {
        let message = message.into();
        let message = if self.at >= self.text.len() { format!("the text ends: {message}").into() } else { message };
        JsonError { at: self.at, wrong_type: false, message }
    }

    /// "`what` was expected" where the next value, if there is one, is of another kind.
    fn mismatch(&self, what: &str) -> JsonError {
        let found = match self.peek() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b'-') => "a negative number",
            Some(b'0'..=b'9') => "a number",
            _ if self.rest().starts_with("true") || self.rest().starts_with("false") => "a boolean",
            _ if self.rest().starts_with("null") => "null",
            _ => return self.error(format!("{what} was expected")),
        };
        JsonError { at: self.at, wrong_type: true, message: format!("{what} was expected, not {found}").into() }
    }

    fn expect_kind(&mut self, open: u8, what: &str) -> Result<(), JsonError> {
        self.skip_space();
        if self.peek() == Some(open) {
            self.at += 1;
            return Ok(());
        }
        Err(self.mismatch(what))
    }

    fn take_if(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn slice(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or("")
    }

    /// Reads an escape; the cursor stands on the backslash.
    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        let bad = |message: &'static str| JsonError { at: start, wrong_type: false, message: message.into() };
        self.at += 1;
        let kind = self.peek().ok_or_else(|| bad("the text ends inside an escape"))?;
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4().ok_or_else(|| bad("`\\u` takes four hexadecimal digits"))?;
                let scalar = if (0xd800..0xdc00).contains(&high) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex4().ok_or_else(|| bad("`\\u` takes four hexadecimal digits"))?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(bad("half of a surrogate pair stands alone"));
                    }
                    0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    high
                };
                char::from_u32(scalar).ok_or_else(|| bad("half of a surrogate pair stands alone"))?
            }
            _ => return Err(bad("no such escape")),
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at.checked_add(4)?)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads any value, as serde_json would have it, by our cursor.
    fn value(cursor: &mut Cursor<'_>) -> Result<(), JsonError> {
        cursor.skip()?;
        cursor.skip_space();
        if cursor.rest().is_empty() { Ok(()) } else { Err(cursor.error("text after the value")) }
    }

    fn reads(text: &str) -> Result<(), JsonError> {
        value(&mut Cursor::new(text))
    }

    #[test]
    fn strings_unescape_and_errors_point_at_the_byte() {
        assert_eq!(Cursor::new(r#"  "a\u0062\n\ud83d\ude00c""#).string().unwrap(), "ab\n\u{1f600}c");
        assert!(matches!(Cursor::new(r#""plain""#).string().unwrap(), Cow::Borrowed("plain")));
        for (text, at) in [
            (r#""ab\ud800""#, 3),
            (r#""ab\ud800\u0041""#, 3),
            (r#""ab\udc00""#, 3),
            (r#""ab\x""#, 3),
            (r#""ab\u12g4""#, 3),
            (r#""ab\u+123""#, 3),
            ("\"ab\u{1}\"", 3),
            (r#""abc"#, 4),
        ] {
            let error = Cursor::new(text).string().unwrap_err();
            assert_eq!(error.at, at, "{text}: {error:?}");
        }
    }

    #[test]
    fn only_plain_unsigned_integers_are_numbers_of_a_header() {
        assert_eq!(Cursor::new("18446744073709551615").unsigned(), Ok(u64::MAX));
        assert_eq!(Cursor::new(" 0]").unsigned(), Ok(0));
        for text in ["18446744073709551616", "-1", "+1", "1.0", "1e3", "01", "\"1\"", "true", "null", "", "NaN", "0x1"]
        {
            let read = Cursor::new(text).unsigned();
            assert!(read.is_err() || text == "0x1", "{text}: {read:?}");
        }
        // `0x1` reads as `0`, and what follows is then refused by whoever expects `,` or `]`.
        assert!(Cursor::new("[0x1]").array(|cursor| cursor.unsigned().map(drop)).is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(reads(&("[".repeat(100) + &"]".repeat(100))).is_ok());
        let error = reads(&"[".repeat(1_000_000)).unwrap_err();
        assert_eq!((error.at, &*error.message), (128, "values nest too deep"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn accepts_what_serde_json_accepts(text in r#"([\[\]{}:, \n"a\\01.eE+-]|"a"|"b":|true|null|\\u00e9|\\ud83d|\\ude00){0,12}"#) {
            // Numbers that overflow a double are the one thing serde_json refuses beyond the grammar.
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(reads(&text).is_ok(), theirs, "{}", text);
        }
    }
}
