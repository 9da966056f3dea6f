//! Streams cut into messages: at the limits, torn anywhere, and what the fuzz target promises, at its
//! seeds. The target itself needs a sanitizer build and runs by `cargo xtask fuzz`; its body, which
//! also has the decoding that these tests share, is compiled and run here.

use agentbus_stdio::framing::Framing;
use proptest::prelude::*;

use body::decode;

#[path = "../../../fuzz/bodies/framing.rs"]
mod body;

#[test]
fn streams_torn_in_every_way() {
    let lines = b"{\"a\":1}\n\n{\"b\":\"\xff\"}\r\nlast".to_vec();
    let lengths = b"\0\0\0\x02{}\0\0\0\0\0\0\0\x05[1,2]\0\0\x01".to_vec();
    for (is_lines, stream) in [(true, lines), (false, lengths)] {
        for limit in 0..=12 {
            for first in 0..=8 {
                for second in 0..=8 {
                    let cuts = vec![first, second, 1];
                    body::check((is_lines, limit, cuts, stream.clone()));
                }
            }
        }
    }
}

fn lines(limit: usize, chunks: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    decode(Framing::Ndjson, limit, chunks)
}

#[test]
fn the_newline_counts_towards_the_limit() {
    assert_eq!(lines(4, &[b"abc\n"]), [Some(b"abc".to_vec())]);
    assert_eq!(lines(4, &[b"abcd\n"]), [None]);
    assert_eq!(lines(4, &[b"ab", b"cd"]), [None]);
    assert_eq!(lines(0, &[b"\n"]), [None]);
}

#[test]
fn nul_bytes_and_broken_text_pass() {
    let line: &[u8] = b"\0\xff\xfe";
    assert_eq!(lines(64, &[line, b"\n"]), [Some(line.to_vec())]);
}

#[test]
fn a_line_may_end_with_the_stream() {
    let want = [Some(b"a".to_vec()), Some(b"b".to_vec())];
    assert_eq!(lines(64, &[b"a\nb"]), want);
}

#[test]
fn a_length_may_be_torn_and_may_be_refused() {
    let chunks: [&[u8]; 3] = [b"\0\0", b"\0\x02{", b"}\0\0\0\x00"];
    let want = [Some(b"{}".to_vec()), Some(Vec::new())];
    assert_eq!(decode(Framing::Length, 2, &chunks), want);
    assert_eq!(decode(Framing::Length, 2, &[b"\0\0\0\x03"]), [None]);
}

proptest! {
    #[test]
    fn tearing_the_stream_changes_nothing(
        lines_in in prop::collection::vec("[a-z\u{0}\u{e9}]{0,40}", 0..20),
        cuts in prop::collection::vec(0usize..400, 0..20),
    ) {
        let whole: Vec<u8> = lines_in.iter().flat_map(|l| [l.as_bytes(), b"\n"].concat()).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
        let want: Vec<_> = lines_in.iter().map(|l| Some(l.clone().into_bytes())).collect();
        prop_assert_eq!(lines(1024, &chunks), want);
    }
}
