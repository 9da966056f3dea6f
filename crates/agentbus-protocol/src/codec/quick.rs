//! The quick reader: members with plain texts, as nearly every peer writes them.
//!
//! It accepts nothing that the JSON library refuses and takes nothing for something else. Texts
//! with escapes, `null`, negative numbers and whatever else is seldom are [`Unusual`].

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::plain::plain_prefix;
use super::read::Value;
use crate::Metadata;

/// Something that is left to the tolerant reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusual;

/// The members of one object, which is all of the text.
pub(super) struct Members<'a> {
    text: &'a str,
    /// How much of it is read.
    at: usize,
    /// Whether a comma stands before the next member.
    has_begun: bool,
}

impl<'a> Members<'a> {
    pub(super) fn open(text: &'a str) -> Result<Self, Unusual> {
        let mut members = Self {
            text,
            at: 0,
            has_begun: false,
        };
        members.expect(b'{')?;
        Ok(members)
    }

    /// The next key; `None` at the end of the object, if that is the end of the text.
    pub(super) fn next_key(&mut self) -> Result<Option<&'a str>, Unusual> {
        if self.has_begun {
            match self.next_byte()? {
                b',' => {}
                b'}' if self.rest().iter().all(is_blank) => return Ok(None),
                _ => return Err(Unusual),
            }
        }
        self.has_begun = true;
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// A text without escapes.
    fn string(&mut self) -> Result<&'a str, Unusual> {
        self.expect(b'"')?;
        let end = self.at + plain_prefix(self.rest());
        let string = self.text.get(self.at..end).ok_or(Unusual)?;
        self.at = end;
        match self.rest().first() {
            Some(b'"') => self.at += 1,
            _ => return Err(Unusual),
        }
        Ok(string)
    }

    /// A whole number of few enough digits.
    fn whole(&mut self) -> Result<u64, Unusual> {
        self.skip_blanks();
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        let end = self.at + self.rest().iter().take_while(is_digit).count();
        let number = self.text.get(self.at..end).ok_or(Unusual)?;
        self.at = end;
        let goes_on = matches!(self.rest().first(), Some(b'.' | b'e' | b'E'));
        if goes_on || number.len() > 1 && number.starts_with('0') {
            return Err(Unusual);
        }
        number.parse().map_err(|_| Unusual)
    }

    fn value(&mut self) -> Result<&'a RawValue, Unusual> {
        let rest = self.text.get(self.at..).ok_or(Unusual)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter();
        let value = values.next().ok_or(Unusual)?.map_err(|_| Unusual)?;
        self.at += values.byte_offset();
        Ok(value)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unusual> {
        match self.next_byte()? {
            next if next == byte => Ok(()),
            _ => Err(Unusual),
        }
    }

    /// The next byte that is no blank.
    fn next_byte(&mut self) -> Result<u8, Unusual> {
        self.skip_blanks();
        let next = *self.rest().first().ok_or(Unusual)?;
        self.at += 1;
        Ok(next)
    }

    fn skip_blanks(&mut self) {
        while self.rest().first().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// RFC 8259, section 2.
const fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl<'a> Value<'a> for Members<'a> {
    type Error = Unusual;

    fn text(&mut self) -> Result<Cow<'a, str>, Unusual> {
        self.string().map(Cow::Borrowed)
    }

    fn version(&mut self) -> Result<Option<u32>, Unusual> {
        let version = u32::try_from(self.whole()?);
        version.map(Some).map_err(|_| Unusual)
    }

    fn seq(&mut self) -> Result<i128, Unusual> {
        self.whole().map(i128::from)
    }

    fn flag(&mut self) -> Result<bool, Unusual> {
        self.skip_blanks();
        for (literal, flag) in [("true", true), ("false", false)] {
            if self.rest().starts_with(literal.as_bytes()) {
                self.at += literal.len();
                return Ok(flag);
            }
        }
        Err(Unusual)
    }

    fn raw(&mut self) -> Result<Option<&'a RawValue>, Unusual> {
        self.value().map(Some)
    }

    fn metadata(&mut self) -> Result<Metadata, Unusual> {
        let raw = self.value()?;
        serde_json::from_str(raw.get()).map_err(|_| Unusual)
    }

    fn skip(&mut self) -> Result<(), Unusual> {
        self.value().map(drop)
    }
}
