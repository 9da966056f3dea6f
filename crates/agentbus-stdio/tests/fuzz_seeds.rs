//! What the fuzz target of the framing promises, at its seeds: the target itself needs a sanitizer
//! build and runs by `cargo xtask fuzz`, its body is compiled and run here.

#[path = "../../../fuzz/bodies/framing.rs"]
mod framing;

#[test]
fn streams_torn_in_every_way() {
    let lines = b"{\"a\":1}\n\n{\"b\":\"\xff\"}\r\nlast".to_vec();
    let lengths = b"\0\0\0\x02{}\0\0\0\0\0\0\0\x05[1,2]\0\0\x01".to_vec();
    for (is_lines, stream) in [(true, lines), (false, lengths)] {
        for limit in 0..=12 {
            for first in 0..=8 {
                for second in 0..=8 {
                    let cuts = vec![first, second, 1];
                    framing::check((is_lines, limit, cuts, stream.clone()));
                }
            }
        }
    }
}
