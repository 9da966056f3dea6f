//! Texts that are the same inside and outside of JSON.

/// How many bytes stand before the first quotation mark, backslash or control character: what a
/// JSON string holds as it is (RFC 8259, section 7).
pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        if let Some(at) = first_special(*word) {
            return number * 8 + at;
        }
    }
    // What is filled up with ends the text.
    let mut last = [b'"'; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.len() * 8 + first_special(last).unwrap_or(rest.len())
}

/// Where the first of eight bytes stands that is not plain.
const fn first_special(bytes: [u8; 8]) -> Option<usize> {
    /// Every byte 1.
    const ONES: u64 = u64::MAX / 0xff;
    // The highest bit of a byte is set where the byte is below `than`: there the subtraction
    // borrows. A borrow may set that of a later byte too, so only the first says the truth; and a
    // byte that has the bit already is no ASCII.
    const fn below(word: u64, than: u64) -> u64 {
        word.wrapping_sub(ONES * than) & !word & (ONES * 0x80)
    }
    let word = u64::from_le_bytes(bytes);
    let special = below(word, 0x20)
        | below(word ^ (ONES * b'"' as u64), 1)
        | below(word ^ (ONES * b'\\' as u64), 1);
    if special == 0 {
        return None;
    }
    Some(special.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain_prefix;

    fn naive(bytes: &[u8]) -> usize {
        let is_special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
        bytes.iter().position(is_special).unwrap_or(bytes.len())
    }

    #[test]
    fn every_byte_is_told_wherever_it_stands() {
        for byte in 0..=255 {
            for before in 0..17 {
                let mut bytes = vec![b'x'; before];
                bytes.extend([byte, b'"', byte, 0x7f, 0x80, 0xff, 0x1f, 0x20]);
                assert_eq!(plain_prefix(&bytes), naive(&bytes), "{bytes:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_first_special_byte_is_found(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(plain_prefix(&bytes), naive(&bytes));
        }
    }
}
