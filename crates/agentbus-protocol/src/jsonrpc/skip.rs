//! Jumps over strings and nested values, many bytes at a time.
//!
//! A nested value is walked in blocks of 64 bytes. For each block three questions are answered with
//! a few word operations instead of 64 branches: which bytes are in a string, how many brackets
//! outside of strings open, and how many close. Only a block in which the value could end, or in
//! which it could get too deep, is looked at bracket by bracket. Long runs inside one string are
//! left to `memchr`.
//!
//! It promises linear time and the same answer wherever the block borders fall. It does not check
//! that inner brackets pair by kind, and a backslash outside of a string, which JSON does not know,
//! hides the byte after it.

use fearless_simd::{Level, Simd, dispatch};
use memchr::memchr2;

use super::block::{Block, LANE, Lane};
use super::{MAX_NESTING, ScanError};

/// Bytes of a string looked at before it is handed to `memchr`, whose call would cost more than
/// the search if the string is shorter.
const SHORT_STRING: usize = 8 * LANE;

/// Where a string ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// The place of the closing quote.
    pub(super) quote: usize,
    /// Whether there is known to be neither a backslash nor a bare control character before it.
    pub(super) plain: bool,
}

/// Finds the end of the string whose content `text` begins with; `None` if it does not end.
#[inline]
pub(super) fn string(text: &[u8]) -> Option<StringEnd> {
    // Keys, methods and ids mostly end within the first lane.
    let quote = first_mark_at(text, 0);
    if quote.is_some_and(|quote| text.get(quote) == Some(&b'"')) {
        return quote.map(|quote| StringEnd { quote, plain: true });
    }
    long_string(text)
}

#[inline(never)]
fn long_string(text: &[u8]) -> Option<StringEnd> {
    let (mark, plain) = match first_mark(text) {
        Some(mark) => (mark, true),
        None => (first_quote_or_backslash(text, SHORT_STRING)?, false),
    };
    if text.get(mark) == Some(&b'"') {
        return Some(StringEnd { quote: mark, plain });
    }
    marked_string(text, mark).map(|quote| StringEnd {
        quote,
        plain: false,
    })
}

/// Finds the first mark of one lane, in the steps that every processor knows: a choice among wider
/// ones costs more than they save.
#[inline]
fn first_mark_at(text: &[u8], position: usize) -> Option<usize> {
    dispatch!(Level::baseline(), simd => Lane::at(simd, text, position).first_mark())
}

/// Finds the first mark of a string that is not long.
fn first_mark(text: &[u8]) -> Option<usize> {
    let mut position = 0;
    while position < text.len().min(SHORT_STRING) {
        if let Some(mark) = first_mark_at(text, position) {
            return Some(position + mark);
        }
        position += LANE;
    }
    None
}

/// Finds what ends a long string, or could.
fn first_quote_or_backslash(text: &[u8], start: usize) -> Option<usize> {
    Some(start + memchr2(b'"', b'\\', text.get(start..)?)?)
}

/// Goes on from the first backslash or control character of a string. By blocks, because text that
/// was escaped once tends to hold an escape every few bytes, where calling `memchr` again and again
/// is slow.
fn marked_string(text: &[u8], start: usize) -> Option<usize> {
    dispatch!(Level::new(), simd => marked_string_in(simd, text, start))
}

#[inline(always)]
fn marked_string_in<S: Simd>(simd: S, text: &[u8], start: usize) -> Option<usize> {
    let mut rest = text.get(start..)?;
    let mut strings = Strings {
        inside: INSIDE,
        escape: 0,
    };
    while !rest.is_empty() {
        let (block, behind) = Block::split(simd, rest);
        let marks = strings.read(&block);
        if marks.quotes != 0 {
            let offset = marks.quotes.trailing_zeros() as usize;
            return Some(text.len() - rest.len() + offset);
        }
        rest = worth_reading(behind, &strings, &marks);
    }
    None
}

/// Finds the place behind the nested value that opens at `start`.
pub(super) fn container(line: &[u8], start: usize) -> Result<usize, ScanError> {
    dispatch!(Level::new(), simd => container_in(simd, line, start))
}

#[inline(always)]
fn container_in<S: Simd>(simd: S, line: &[u8], start: usize) -> Result<usize, ScanError> {
    let mut rest = line.get(start..).unwrap_or_default();
    let mut strings = Strings {
        inside: OUTSIDE,
        escape: 0,
    };
    let mut depth = 0;
    while !rest.is_empty() {
        let (block, behind) = Block::split(simd, rest);
        let marks = strings.read(&block);
        let outside = !strings.inside_of(marks.quotes);
        let folded = block.folded();
        let brackets = Brackets {
            open: folded.equal(b'{') & outside,
            close: folded.equal(b'}') & outside,
        };
        let position = line.len() - rest.len();
        match brackets.descend(depth) {
            Descent::Inside(new_depth) => depth = new_depth,
            Descent::Ends(offset) => return close(line, start, position + offset),
            Descent::TooDeep(offset) => {
                return Err(ScanError::TooDeep {
                    offset: position + offset,
                });
            }
        }
        rest = worth_reading(behind, &strings, &marks);
    }
    Err(ScanError::Truncated)
}

/// Refuses a value whose outer brackets differ in kind; the two of a kind are two apart in ASCII.
fn close(line: &[u8], start: usize, end: usize) -> Result<usize, ScanError> {
    match (line.get(start), line.get(end)) {
        (Some(open), Some(close)) if open + 2 == *close => Ok(end + 1),
        _ => Err(ScanError::UnexpectedByte { offset: end }),
    }
}

/// Returns what is left to read of the text behind a block: nothing, if an open string never ends.
#[inline(always)]
fn worth_reading<'a>(behind: &'a [u8], strings: &Strings, marks: &Marks) -> &'a [u8] {
    // In this order, since whether a block ends in a string is anyone's guess.
    if marks.is_plain && strings.inside == INSIDE {
        return memchr2(b'"', b'\\', behind).map_or(&[], |next| &behind[next..]);
    }
    behind
}

/// Every byte of a set is all ones: the string goes on into the next block.
const INSIDE: u64 = u64::MAX;
const OUTSIDE: u64 = 0;

/// What one block must know about the blocks before it.
#[derive(Debug)]
struct Strings {
    /// [`INSIDE`] or [`OUTSIDE`].
    inside: u64,
    /// One if the last byte was a backslash that hides the next byte, else zero.
    escape: u64,
}

/// The quotes of one block.
#[derive(Debug)]
struct Marks {
    /// Quotes that begin or end a string.
    quotes: u64,
    /// No quote and no backslash at all.
    is_plain: bool,
}

impl Strings {
    /// Finds the quotes that count and carries a trailing backslash over to the next block.
    #[inline(always)]
    fn read<S: Simd>(&mut self, block: &Block<S>) -> Marks {
        let mut quotes = block.equal(b'"');
        let backslashes = block.equal(b'\\');
        let is_plain = quotes | backslashes == 0;
        if backslashes | self.escape != 0 {
            quotes &= !self.hidden(backslashes);
        }
        Marks { quotes, is_plain }
    }

    /// Returns the bytes hidden by a backslash.
    ///
    /// Of a run of backslashes every second one hides its successor. Adding a run to its own first
    /// bit carries through the run, so one addition treats all runs of the block at once; runs that
    /// start at odd places are added and even ones left alone, which tells the two parities apart.
    #[inline(always)]
    fn hidden(&mut self, backslashes: u64) -> u64 {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let active = backslashes & !self.escape;
        let follows = active << 1 | self.escape;
        let odd_starts = active & !EVEN & !follows;
        let (carried, overflow) = odd_starts.overflowing_add(active);
        self.escape = u64::from(overflow);
        (EVEN ^ (carried << 1)) & follows
    }

    /// Returns the bytes within strings, opening quotes included.
    ///
    /// A byte is in a string if the number of quotes up to it is odd, which six shifts tell of all
    /// bytes at once.
    #[inline(always)]
    fn inside_of(&mut self, quotes: u64) -> u64 {
        let mut parity = quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            parity ^= parity << shift;
        }
        let inside = parity ^ self.inside;
        self.inside = if inside >> 63 == 0 { OUTSIDE } else { INSIDE };
        inside
    }
}

/// The brackets of one block that stand outside of strings.
#[derive(Debug)]
struct Brackets {
    open: u64,
    close: u64,
}

/// How the nesting changes over one block.
#[derive(Debug, PartialEq, Eq)]
enum Descent {
    /// The value goes on, at this depth.
    Inside(usize),
    /// The value ends with the byte at this offset.
    Ends(usize),
    /// The byte at this offset opens a level too many.
    TooDeep(usize),
}

impl Brackets {
    /// Counts where counting is enough to know that neither the end nor the limit is reached.
    #[inline(always)]
    fn descend(&self, depth: usize) -> Descent {
        let opened = self.open.count_ones() as usize;
        let closed = self.close.count_ones() as usize;
        let lowered = self.unmatched().count_ones() as usize;
        if lowered < depth && depth + opened < MAX_NESTING {
            return Descent::Inside(depth + opened - closed);
        }
        self.descend_by_bracket(depth)
    }

    /// Returns the closing brackets but for those of the innermost values of this block, which
    /// close what the bracket before them opened: such a pair cannot end what is around it.
    ///
    /// Added right behind an opening bracket, a bit carries through whatever is no bracket and
    /// comes to rest on the next bracket, which has a zero in its place.
    #[inline(always)]
    fn unmatched(&self) -> u64 {
        let others = !(self.open | self.close);
        let behind_open = others.wrapping_add(self.open << 1);
        self.close & !behind_open
    }

    fn descend_by_bracket(&self, mut depth: usize) -> Descent {
        let mut rest = self.open | self.close;
        while rest != 0 {
            let offset = rest.trailing_zeros() as usize;
            let bracket = rest & rest.wrapping_neg();
            rest ^= bracket;
            if self.open & bracket == 0 {
                depth -= 1;
            } else {
                depth += 1;
            }
            match depth {
                0 => return Descent::Ends(offset),
                // The outermost object, which is not part of the value, is a level too.
                MAX_NESTING => return Descent::TooDeep(offset),
                _ => {}
            }
        }
        Descent::Inside(depth)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Brackets of one block, from none to one at every place.
    fn brackets() -> impl Strategy<Value = Brackets> {
        let sparse = (any::<u64>(), any::<u64>()).prop_map(|(a, b)| a & b);
        let places = prop_oneof![any::<u64>(), sparse, Just(u64::MAX)];
        (places, any::<u64>()).prop_map(|(places, kinds)| Brackets {
            open: places & kinds,
            close: places & !kinds,
        })
    }

    proptest! {
        #[test]
        fn counts_as_one_would_bracket_by_bracket(
            brackets in brackets(),
            depth in prop_oneof![1..8_usize, 1..MAX_NESTING],
        ) {
            prop_assert_eq!(brackets.descend(depth), brackets.descend_by_bracket(depth));
        }

        #[test]
        fn an_innermost_value_ends_nothing_around_it(brackets in brackets()) {
            let mut unmatched = 0;
            let mut is_behind_open = false;
            for bit in (0..64).map(|index| 1_u64 << index) {
                if brackets.close & bit != 0 && !is_behind_open {
                    unmatched |= bit;
                }
                if (brackets.open | brackets.close) & bit != 0 {
                    is_behind_open = brackets.open & bit != 0;
                }
            }
            prop_assert_eq!(brackets.unmatched(), unmatched);
        }
    }
}
