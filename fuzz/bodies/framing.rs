//! Tearing a stream differently changes nothing: the decoder finds the same messages in the same
//! order, whole or with the limit passed at the same one, and never panics.

use agentbus_stdio::framing::{Decoder, Frame, Framing};

pub(crate) fn check(input: (bool, u8, Vec<u8>, Vec<u8>)) {
    let (lines, limit, cuts, bytes) = input;
    let framing = if lines {
        Framing::Ndjson
    } else {
        Framing::Length
    };
    let limit = usize::from(limit);
    let torn = decode(framing, limit, &tear(&bytes, &cuts));
    assert_eq!(torn, decode(framing, limit, &[&bytes]));
    if lines {
        assert_eq!(torn, by_hand(&bytes, limit));
    }
}

/// Cuts the bytes into pieces of these lengths, and what is left.
fn tear<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = bytes.split_at(usize::from(*cut).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// Returns the messages, with `None` for one that is too large, after which nothing is read.
pub(crate) fn decode(framing: Framing, limit: usize, chunks: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let mut decoder = Decoder::new(framing, limit);
    let mut found = Vec::new();
    for chunk in chunks {
        let mut position = 0;
        loop {
            match decoder.next(chunk, &mut position) {
                Frame::Here(range) => found.push(Some(chunk[range].to_vec())),
                Frame::Assembled(message) => found.push(Some(message)),
                Frame::More => break,
                Frame::TooLarge => {
                    found.push(None);
                    return found;
                }
            }
        }
    }
    found.extend(decoder.finish().map(Some));
    found
}

/// The same for lines, in the plainest way.
fn by_hand(bytes: &[u8], limit: usize) -> Vec<Option<Vec<u8>>> {
    let mut found = Vec::new();
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().unwrap_or_default();
    for line in lines {
        if line.len() >= limit {
            found.push(None);
            return found;
        }
        found.push(Some(line.to_vec()));
    }
    match rest.len() {
        0 => {}
        length if length >= limit => found.push(None),
        _ => found.push(Some(rest.to_vec())),
    }
    found
}
