//! Reading an envelope never panics, and what was read is the same after writing it.

use agentbus_protocol::{Envelope, Timestamp};

pub(crate) fn check(bytes: &[u8]) {
    let Ok(read) = Envelope::decode(&bytes.to_vec().into(), Timestamp::UNIX_EPOCH) else {
        return;
    };
    let again = Envelope::decode(&read.encode().into(), Timestamp::UNIX_EPOCH);
    assert_eq!(again.as_ref(), Ok(&read));
}
