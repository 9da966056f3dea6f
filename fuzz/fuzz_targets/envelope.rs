//! Reading an envelope never panics, and what was read is the same after writing it.

#![no_main]

use agentbus_protocol::{Envelope, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Envelope::decode(&bytes.to_vec().into(), Timestamp::UNIX_EPOCH) else { return };
    let again = Envelope::decode(&read.encode().into(), Timestamp::UNIX_EPOCH);
    assert_eq!(again.as_ref(), Ok(&read));
});
