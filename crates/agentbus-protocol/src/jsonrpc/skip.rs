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
//!
//! # The column layout
//!
//! A set of positions in a block is a `u64`, and the surprise is the order of its bits: seen as an
//! 8x8 matrix, block byte `8 * row + column` is bit `8 * column + row`. In this order the
//! compiler builds a set with vector compares and no gathering of bits, which in natural order
//! costs more than everything else together. Counting does not mind the order, a running parity
//! needs the same number of steps, and [`transpose`] gives the natural order where it is needed.

use memchr::memchr2;

use super::MAX_NESTING;
use super::ScanError;

/// Bytes looked at in one step: as many as a word has bits.
const BLOCK: usize = 64;

/// Words of a string looked at before it is handed to `memchr`. Keys, methods and ids are mostly
/// this short, and then the call would cost more than the search.
const SHORT_STRING_WORDS: usize = 5;

/// One in each byte of a word. Multiplying by it copies the low byte everywhere.
const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;

/// The bit of each block byte within its column.
static ROW_BIT: [u8; BLOCK] = row_bits();

const fn row_bits() -> [u8; BLOCK] {
    let mut bits = [0; BLOCK];
    let mut index = 0;
    while index < BLOCK {
        bits[index] = 1 << (index / 8);
        index += 1;
    }
    bits
}

/// Where a string ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// The place behind the closing quote.
    pub(super) after_quote: usize,
    /// Whether a backslash was met.
    pub(super) escaped: bool,
}

/// Finds the end of the string whose content starts at `start`; `None` if it does not end.
#[inline]
pub(super) fn string(line: &[u8], start: usize) -> Option<StringEnd> {
    let position = first_mark(line, start)?;
    if line.get(position) == Some(&b'"') {
        return Some(StringEnd {
            after_quote: position + 1,
            escaped: false,
        });
    }
    let after_quote = escaped_string(line, position)?;
    Some(StringEnd {
        after_quote,
        escaped: true,
    })
}

/// Finds the first quote or backslash.
#[inline]
fn first_mark(line: &[u8], start: usize) -> Option<usize> {
    let content = line.get(start..)?;
    let (words, _) = content.as_chunks();
    let mut offset = 0;
    for word in words.iter().take(SHORT_STRING_WORDS) {
        let word = u64::from_le_bytes(*word);
        let marks = first_equal(word, b'"') | first_equal(word, b'\\');
        if marks != 0 {
            return Some(start + offset + marks.trailing_zeros() as usize / 8);
        }
        offset += size_of::<u64>();
    }
    Some(start + offset + memchr2(b'"', b'\\', content.get(offset..)?)?)
}

/// Returns a word whose lowest bit tells the first byte equal to `needle`; zero if there is none.
/// The bits above the lowest mean nothing: the borrow of a match runs into the bytes above it.
#[inline]
fn first_equal(word: u64, needle: u8) -> u64 {
    let difference = word ^ (u64::from(needle) * EVERY_BYTE);
    difference.wrapping_sub(EVERY_BYTE) & !difference & (0x80 * EVERY_BYTE)
}

/// Goes on from the first backslash of a string. By blocks, because text that was escaped once
/// tends to hold an escape every few bytes, where calling `memchr` again and again is slow.
fn escaped_string(line: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    let mut strings = Strings {
        inside: INSIDE,
        escape: 0,
    };
    while position < line.len() {
        let marks = strings.read(&block_at(line, position));
        if marks.quotes != 0 {
            let offset = transpose(marks.quotes).trailing_zeros() as usize;
            return Some(position + offset + 1);
        }
        position = next_position(line, position, &strings, &marks)?;
    }
    None
}

/// Finds the place behind the nested value that opens at `start`.
pub(super) fn container(line: &[u8], start: usize) -> Result<usize, ScanError> {
    let mut position = start;
    let mut strings = Strings {
        inside: OUTSIDE,
        escape: 0,
    };
    let mut depth = 0;
    while position < line.len() {
        let block = block_at(line, position);
        let marks = strings.read(&block);
        let outside = !strings.inside_of(marks.quotes);
        let brackets = Brackets {
            open: columns(&block, b'{', CASE) & outside,
            close: columns(&block, b'}', CASE) & outside,
        };
        match brackets.descend(depth) {
            Descent::Inside(new_depth) => depth = new_depth,
            Descent::Ends(offset) => return close(line, start, position + offset),
            Descent::TooDeep(offset) => {
                return Err(ScanError::TooDeep {
                    offset: position + offset,
                });
            }
        }
        position = next_position(line, position, &strings, &marks).ok_or(ScanError::Truncated)?;
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

/// Returns the start of the next block worth reading; `None` if an open string never ends.
fn next_position(line: &[u8], position: usize, strings: &Strings, marks: &Marks) -> Option<usize> {
    let next = position + BLOCK;
    if strings.inside == INSIDE && marks.is_plain {
        return Some(next + memchr2(b'"', b'\\', line.get(next..)?)?);
    }
    Some(next)
}

/// Returns the 64 bytes at `position`; behind the end of the line come zeros, which mean nothing.
#[inline]
fn block_at(line: &[u8], position: usize) -> [u8; BLOCK] {
    let rest = line.get(position..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return *block;
    }
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(rest) {
        *to = *from;
    }
    block
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
    /// Quotes that begin or end a string, in column layout.
    quotes: u64,
    /// No quote and no backslash at all.
    is_plain: bool,
}

impl Strings {
    /// Finds the quotes that count and carries a trailing backslash over to the next block.
    #[inline]
    fn read(&mut self, block: &[u8; BLOCK]) -> Marks {
        let mut quotes = columns(block, b'"', EXACT);
        let backslashes = columns(block, b'\\', EXACT);
        let is_plain = quotes | backslashes == 0;
        if backslashes | self.escape != 0 {
            quotes &= !transpose(self.hidden(transpose(backslashes)));
        }
        Marks { quotes, is_plain }
    }

    /// Returns the bytes hidden by a backslash, in and out in natural order.
    ///
    /// Of a run of backslashes every second one hides its successor. Adding a run to its own first
    /// bit carries through the run, so one addition treats all runs of the block at once; runs that
    /// start at odd places are added and even ones left alone, which tells the two parities apart.
    fn hidden(&mut self, backslashes: u64) -> u64 {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let active = backslashes & !self.escape;
        let follows = active << 1 | self.escape;
        let odd_starts = active & !EVEN & !follows;
        let (carried, overflow) = odd_starts.overflowing_add(active);
        self.escape = u64::from(overflow);
        (EVEN ^ (carried << 1)) & follows
    }

    /// Returns the bytes within strings, opening quotes included, both in column layout.
    ///
    /// A byte is in a string if the number of quotes up to it is odd. Three shifts give that parity
    /// within all eight rows at once; the parities of whole rows, then in the top byte, are summed
    /// up the same way and spread over the columns.
    #[inline]
    fn inside_of(&mut self, quotes: u64) -> u64 {
        let mut parity = quotes;
        parity ^= parity << 8;
        parity ^= parity << 16;
        parity ^= parity << 32;
        let mut rows = (parity >> 56) << 1;
        rows ^= rows << 1;
        rows ^= rows << 2;
        rows ^= rows << 4;
        let before_rows = (rows & 0xff).wrapping_mul(EVERY_BYTE) ^ self.inside;
        let inside = parity ^ before_rows;
        self.inside = if inside >> 63 == 0 { OUTSIDE } else { INSIDE };
        inside
    }
}

/// The brackets of one block that stand outside of strings, in column layout.
#[derive(Debug)]
struct Brackets {
    open: u64,
    close: u64,
}

/// How the nesting changes over one block.
#[derive(Debug)]
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
    #[inline]
    fn descend(&self, depth: usize) -> Descent {
        let opened = self.open.count_ones() as usize;
        let closed = self.close.count_ones() as usize;
        if closed < depth && depth + opened < MAX_NESTING {
            return Descent::Inside(depth + opened - closed);
        }
        self.descend_by_bracket(depth)
    }

    fn descend_by_bracket(&self, mut depth: usize) -> Descent {
        let open = transpose(self.open);
        let mut rest = open | transpose(self.close);
        while rest != 0 {
            let offset = rest.trailing_zeros() as usize;
            let bracket = rest & rest.wrapping_neg();
            rest ^= bracket;
            if open & bracket == 0 {
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

/// Compare bytes as they are.
const EXACT: u8 = 0;
/// Compare with this bit set, in which `[` and `{` differ, as do `]` and `}`, and nothing else does.
const CASE: u8 = 0x20;

/// Returns the block bytes that, with `fold` set, are `needle`, in column layout.
///
/// The loops are plain so that the compiler turns them into vector instructions on any target.
#[inline]
fn columns(block: &[u8; BLOCK], needle: u8, fold: u8) -> u64 {
    let mut bits = [0; BLOCK];
    for index in 0..BLOCK {
        bits[index] = if block[index] | fold == needle {
            ROW_BIT[index]
        } else {
            0
        };
    }
    let (halves, _) = bits.as_chunks::<16>();
    let merged = halves
        .iter()
        .fold(0, |sum, half| sum | u128::from_le_bytes(*half));
    (merged | merged >> 64) as u64
}

/// Turns column layout into natural order and back: mirrors the 8x8 matrix at its diagonal, first
/// single bits, then squares of two, then of four.
#[inline]
fn transpose(mut set: u64) -> u64 {
    let ones = (set ^ (set >> 7)) & 0x00aa_00aa_00aa_00aa;
    set ^= ones ^ (ones << 7);
    let twos = (set ^ (set >> 14)) & 0x0000_cccc_0000_cccc;
    set ^= twos ^ (twos << 14);
    let fours = (set ^ (set >> 28)) & 0x0000_0000_f0f0_f0f0;
    set ^ fours ^ (fours << 28)
}
