//! A few bytes of a line at a time, and which of them are a given one.
//!
//! A set of positions is a word in which bit `i` stands for byte `i`. Lanes have 128 bits, which
//! every processor of the supported families compares in one step; asking for wider ones while
//! running costs more than most lines take.

use wide::u8x16;

/// Bytes of a lane.
pub(super) const LANE: usize = 16;

/// Bytes of a block: as many as a word has bits.
pub(super) const BLOCK: usize = 4 * LANE;

/// The highest of the characters that a string may only hold escaped.
const LAST_CONTROL: u8 = 0x1f;

/// Sixteen bytes, for what is mostly short.
pub(super) struct Lane(u8x16);

impl Lane {
    /// Takes the bytes at `position`; behind the end of the text come blanks, which mean nothing.
    #[inline]
    pub(super) fn at(text: &[u8], position: usize) -> Self {
        let rest = text.get(position..).unwrap_or_default();
        if let Some(lane) = rest.first_chunk() {
            return Self::new(lane);
        }
        let mut lane = [b' '; LANE];
        lane[..rest.len()].copy_from_slice(rest);
        Self::new(&lane)
    }

    #[inline]
    fn new(bytes: &[u8; LANE]) -> Self {
        Self(u8x16::new(*bytes))
    }

    /// Returns which bytes are `needle`.
    #[inline]
    fn equal(&self, needle: u8) -> u64 {
        u64::from(self.0.simd_eq(u8x16::splat(needle)).to_bitmask())
    }

    /// Returns where the first of these is: a quote, a backslash or a bare control character. What
    /// is before it is plain text of a string.
    #[inline]
    pub(super) fn first_mark(&self) -> Option<usize> {
        let quote = self.0.simd_eq(u8x16::splat(b'"'));
        let backslash = self.0.simd_eq(u8x16::splat(b'\\'));
        let control = self.0.simd_eq(self.0.min(u8x16::splat(LAST_CONTROL)));
        let marks = (quote | backslash | control).to_bitmask();
        (marks != 0).then(|| marks.trailing_zeros() as usize)
    }

    #[inline]
    fn with(&self, bits: u8) -> Self {
        Self(self.0 | u8x16::splat(bits))
    }
}

/// Sixty-four bytes.
pub(super) struct Block([Lane; BLOCK / LANE]);

impl Block {
    /// Takes the bytes at `position`; behind the end of the line come zeros, which mean nothing.
    #[inline]
    pub(super) fn at(line: &[u8], position: usize) -> Self {
        let rest = line.get(position..).unwrap_or_default();
        if let Some(block) = rest.first_chunk() {
            return Self::new(block);
        }
        let mut block = [0; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        Self::new(&block)
    }

    #[inline]
    fn new(bytes: &[u8; BLOCK]) -> Self {
        let (lanes, _) = bytes.as_chunks();
        Self(std::array::from_fn(|index| Lane::new(&lanes[index])))
    }

    /// Returns which bytes are `needle`.
    #[inline]
    pub(super) fn equal(&self, needle: u8) -> u64 {
        let mut set = 0;
        for (index, lane) in self.0.iter().enumerate() {
            set |= lane.equal(needle) << (LANE * index);
        }
        set
    }

    /// The same bytes with bit 5 set, in which `[` and `{` differ, as do `]` and `}`, and no other
    /// byte becomes one of them.
    #[inline]
    pub(super) fn folded(&self) -> Self {
        Self(std::array::from_fn(|index| self.0[index].with(0x20)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            prop_assert_eq!(Lane::at(&line, position).first_mark(), first);
        }

        #[test]
        fn a_set_names_exactly_the_equal_bytes(
            line in prop::collection::vec(byte(), 0..150),
            position in 0_usize..150,
            needle in byte(),
        ) {
            let block = Block::at(&line, position);
            let is_in = |set: u64, index: usize| set >> index & 1 == 1;
            for index in 0..BLOCK {
                let byte = line.get(position + index).copied().unwrap_or_default();
                prop_assert_eq!(is_in(block.equal(needle), index), byte == needle);
                let folded = byte | 0x20 == needle;
                prop_assert_eq!(is_in(block.folded().equal(needle), index), folded);
            }
        }
    }
}
