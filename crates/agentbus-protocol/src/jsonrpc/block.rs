//! A few bytes of a line at a time, and which of them are a given one.
//!
//! A set of positions is a word in which bit `i` stands for byte `i`. Bytes are compared in the
//! widest steps of the level of processors that the caller was compiled for, which is why all of
//! this is inlined into it, always.

use fearless_simd::prelude::*;
use fearless_simd::{u8x16, u8x64};

/// Bytes of a lane.
pub(super) const LANE: usize = 16;

/// The highest of the characters that a string may only hold escaped.
const LAST_CONTROL: u8 = 0x1f;

/// Fills up what is shorter than what is taken at a time.
fn padded<const N: usize>(rest: &[u8], filler: u8) -> [u8; N] {
    let mut bytes = [filler; N];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// Sixteen bytes, for what is mostly short.
pub(super) struct Lane<S: Simd>(u8x16<S>);

impl<S: Simd> Lane<S> {
    /// Takes the bytes at `position`; behind the end of the text come blanks, which mean nothing.
    #[inline(always)]
    pub(super) fn at(simd: S, text: &[u8], position: usize) -> Self {
        let rest = text.get(position..).unwrap_or_default();
        let bytes = rest.first_chunk().copied();
        let bytes = bytes.unwrap_or_else(|| padded::<LANE>(rest, b' '));
        Self(bytes.simd_into(simd))
    }

    /// Returns where the first of these is: a quote, a backslash or a bare control character. What
    /// is before it is plain text of a string.
    #[inline(always)]
    pub(super) fn first_mark(&self) -> Option<usize> {
        let quote = self.0.simd_eq(b'"');
        let backslash = self.0.simd_eq(b'\\');
        let control = self.0.simd_le(LAST_CONTROL);
        let marks = (quote | backslash | control).to_bitmask();
        (marks != 0).then(|| marks.trailing_zeros() as usize)
    }
}

/// Sixty-four bytes, as many as a word has bits.
pub(super) struct Block<S: Simd>(u8x64<S>);

impl<S: Simd> Block<S> {
    /// Takes the first bytes and returns the others with them; behind the end of the text come
    /// zeros, which mean nothing.
    #[inline(always)]
    pub(super) fn split(simd: S, text: &[u8]) -> (Self, &[u8]) {
        match text.split_first_chunk() {
            Some((bytes, behind)) => (Self((*bytes).simd_into(simd)), behind),
            None => (Self(padded(text, 0).simd_into(simd)), &[]),
        }
    }

    /// Returns which bytes are `needle`.
    #[inline(always)]
    pub(super) fn equal(&self, needle: u8) -> u64 {
        self.0.simd_eq(needle).to_bitmask()
    }

    /// The same bytes with bit 5 set, in which `[` and `{` differ, as do `]` and `}`, and no other
    /// byte becomes one of them.
    #[inline(always)]
    pub(super) fn folded(&self) -> Self {
        Self(self.0 | 0x20)
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};
    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = 64;

    /// What every processor knows, and what this one does.
    fn levels() -> [Level; 2] {
        [Level::baseline(), Level::new()]
    }

    /// Bytes among which the needles are frequent, with their neighbours by one bit.
    fn byte() -> impl Strategy<Value = u8> {
        let dense = &b"\"\\{}[]\x00\x01\x02\x80\xdb\xfb"[..];
        prop_oneof![any::<u8>(), prop::sample::select(dense)]
    }

    proptest! {
        #[test]
        fn a_mark_is_what_plain_text_has_not(
            line in prop::collection::vec(prop_oneof![4 => Just(b'x'), 1 => byte()], 0..50),
            position in 0_usize..60,
        ) {
            let lane = line.iter().enumerate().skip(position).take(LANE);
            let mut marks = lane.filter(|(_, byte)| matches!(byte, b'"' | b'\\' | ..0x20));
            let first = marks.next().map(|(index, _)| index - position);
            for level in levels() {
                let found = dispatch!(level, simd => Lane::at(simd, &line, position).first_mark());
                prop_assert_eq!(found, first);
            }
        }

        #[test]
        fn a_set_names_exactly_the_equal_bytes(
            line in prop::collection::vec(byte(), 0..150),
            needle in byte(),
        ) {
            let naive = |is_needle: &dyn Fn(u8) -> bool| -> u64 {
                let byte = |index| line.get(index).copied().unwrap_or_default();
                let bit = |index| u64::from(is_needle(byte(index))) << index;
                (0..BLOCK).map(bit).sum()
            };
            let equal = naive(&|byte| byte == needle);
            let folded = naive(&|byte| byte | 0x20 == needle);
            for level in levels() {
                let found = dispatch!(level, simd => {
                    let (block, behind) = Block::split(simd, &line);
                    (block.equal(needle), block.folded().equal(needle), behind)
                });
                prop_assert_eq!(found, (equal, folded, line.get(BLOCK..).unwrap_or_default()));
            }
        }
    }
}
