//! Walks the members of the outermost object.
//!
//! Holds the top level to the JSON grammar and jumps over whatever is inside a value. It does not
//! know which keys matter, and it does not decode anything.

use std::ops::Range;

use super::ScanError;
use super::skip;

/// The JSON type of a top-level value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// Plain if there is known to be neither a backslash nor a bare control character in it.
    String {
        plain: bool,
    },
    Number,
    Null,
    Boolean,
    Container,
}

/// A top-level value: its type and the bytes it takes, quotes or brackets included.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) kind: ValueKind,
    pub(super) span: Range<usize>,
}

/// A string as it stands in the line, without its quotes.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) plain: bool,
}

/// The place in the line, and whether a member has been read.
///
/// The calls alternate: `next_key` stands before a key or the closing brace, `value` directly
/// after a colon.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    line: &'a [u8],
    position: usize,
    has_member: bool,
}

impl<'a> Cursor<'a> {
    /// Stands right after the opening brace.
    pub(super) fn enter(line: &'a [u8]) -> Result<Self, ScanError> {
        let mut cursor = Cursor {
            line,
            position: 0,
            has_member: false,
        };
        match cursor.peek() {
            Ok(b'{') => cursor.position += 1,
            _ => {
                return Err(ScanError::NotAnObject {
                    offset: cursor.position,
                });
            }
        }
        Ok(cursor)
    }

    /// Reads the next key and its colon, or the closing brace, which gives `None`.
    #[inline]
    pub(super) fn next_key(&mut self) -> Result<Option<Text<'a>>, ScanError> {
        let next = self.peek()?;
        if next == b'}' {
            self.position += 1;
            return Ok(None);
        }
        if self.has_member {
            self.expect(b',')?;
        }
        self.has_member = true;
        self.expect(b'"')?;
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// Reads one value and stands behind it.
    #[inline]
    pub(super) fn value(&mut self) -> Result<Value, ScanError> {
        let first = self.peek()?;
        let start = self.position;
        let kind = match first {
            b'"' => {
                self.position += 1;
                ValueKind::String {
                    plain: self.string()?.plain,
                }
            }
            b'{' | b'[' => {
                self.position = skip::container(self.line, start)?;
                ValueKind::Container
            }
            b'n' => self.literal(b"null", ValueKind::Null)?,
            b't' => self.literal(b"true", ValueKind::Boolean)?,
            b'f' => self.literal(b"false", ValueKind::Boolean)?,
            _ => self.number()?,
        };
        Ok(Value {
            kind,
            span: start..self.position,
        })
    }

    /// Makes sure that only white space is left.
    pub(super) fn finish(mut self) -> Result<(), ScanError> {
        match self.peek() {
            Ok(_) => Err(ScanError::TrailingBytes {
                offset: self.position,
            }),
            Err(_) => Ok(()),
        }
    }

    /// Skips white space and returns the byte behind it without taking it.
    #[inline]
    fn peek(&mut self) -> Result<u8, ScanError> {
        match self.line.get(self.position) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => self.peek_behind_space(),
        }
    }

    /// Most lines have no white space between tokens.
    #[cold]
    fn peek_behind_space(&mut self) -> Result<u8, ScanError> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.line.get(self.position) {
            self.position += 1;
        }
        let byte = self.line.get(self.position).copied();
        byte.ok_or(ScanError::Truncated)
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Result<(), ScanError> {
        if self.peek()? == wanted {
            self.position += 1;
            return Ok(());
        }
        Err(self.unexpected())
    }

    fn unexpected(&self) -> ScanError {
        ScanError::UnexpectedByte {
            offset: self.position,
        }
    }

    /// Stands after an opening quote, moves behind the closing one, and returns what is between.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>, ScanError> {
        let text = self.line.get(self.position..).unwrap_or_default();
        let end = skip::string(text).ok_or(ScanError::Truncated)?;
        self.position += end.quote + 1;
        Ok(Text {
            bytes: text.get(..end.quote).unwrap_or_default(),
            plain: end.plain,
        })
    }

    fn literal(&mut self, word: &[u8], kind: ValueKind) -> Result<ValueKind, ScanError> {
        for wanted in word {
            match self.line.get(self.position) {
                Some(byte) if byte == wanted => self.position += 1,
                Some(_) => return Err(self.unexpected()),
                None => return Err(ScanError::Truncated),
            }
        }
        Ok(kind)
    }

    /// Takes a number by the JSON grammar: no plus sign, no leading zero, no bare dot.
    fn number(&mut self) -> Result<ValueKind, ScanError> {
        self.take(b"-");
        if !self.take(b"0") {
            self.digits()?;
        }
        if !matches!(self.line.get(self.position), Some(b'.' | b'e' | b'E')) {
            return Ok(ValueKind::Number);
        }
        if self.take(b".") {
            self.digits()?;
        }
        if self.take(b"eE") {
            self.take(b"+-");
            self.digits()?;
        }
        Ok(ValueKind::Number)
    }

    /// Takes one byte if it is in the set.
    #[inline]
    fn take(&mut self, set: &[u8]) -> bool {
        let taken = self
            .line
            .get(self.position)
            .is_some_and(|byte| set.contains(byte));
        self.position += usize::from(taken);
        taken
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let rest = self.line.get(self.position..).unwrap_or_default();
        let behind = rest.iter().position(|byte| !byte.is_ascii_digit());
        match behind.unwrap_or(rest.len()) {
            0 if rest.is_empty() => Err(ScanError::Truncated),
            0 => Err(self.unexpected()),
            count => {
                self.position += count;
                Ok(())
            }
        }
    }
}
