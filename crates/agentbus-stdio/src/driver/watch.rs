//! Registers descriptors with the runtime.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something that owns its descriptor for as long as it lives and never changes it.
pub(super) trait Owned: AsRawFd {}

impl Owned for OwnedFd {}
impl Owned for Arc<OwnedFd> {}

/// Watches a descriptor for the interest.
///
/// The runtime's own safe function is deprecated, because a type could lie about its descriptor;
/// the successor is unsafe, which this workspace forbids. [`Owned`] admits no such type.
#[expect(deprecated, reason = "sound for the two types that are admitted")]
pub(super) fn watch<T: Owned>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}
