//! The subject at which a stream wants to hear what became of a delivery, and what it says.

/// What the stream says of a delivery, in the subject of its acknowledgement:
/// `$JS.ACK.{stream}.{consumer}.{attempt}.{stream number}.{consumer number}.{time}.{pending}`.
/// Newer servers put a domain and an account behind `ACK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) attempt: u32,
    /// The message's number in the stream.
    pub(super) sequence: u64,
    /// The delivery's number among those of the consumer.
    pub(super) number: u64,
}

/// Reads such a subject.
pub(super) fn read(subject: &str) -> Option<Told> {
    let tokens: Vec<_> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
    let numbers = match tokens.len() {
        7 => &tokens[2..],
        9.. => &tokens[4..],
        _ => return None,
    };
    let number = |at: usize| numbers[at].parse::<u64>().ok();
    Some(Told {
        attempt: u32::try_from(number(0)?).unwrap_or(u32::MAX).max(1),
        sequence: number(1)?,
        number: number(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Told, read};

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        let told = Told {
            attempt: 2,
            sequence: 17,
            number: 40,
        };
        for subject in [
            "$JS.ACK.S.c.2.17.40.1700000000000000000.3",
            "$JS.ACK.hub.ACCOUNT.S.c.2.17.40.1700000000000000000.3",
            "$JS.ACK._.ACCOUNT.S.c.2.17.40.1700000000000000000.3.random",
        ] {
            assert_eq!(read(subject), Some(told), "{subject}");
        }
        for subject in [
            "",
            "_INBOX.x",
            "$JS.ACK.S.c.2.17",
            "$JS.ACK.S.c.x.17.40.1.3",
        ] {
            assert_eq!(read(subject), None, "{subject}");
        }
    }
}
