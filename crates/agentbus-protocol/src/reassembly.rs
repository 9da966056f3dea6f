//! Puts the frames of one stream back into order.
//!
//! Frames are numbered from 0. They may arrive in any order and more than once; this machine
//! yields each exactly once and in order, and ends after the frame that is marked final. It holds
//! early frames back within two limits, because a carrier that lost a frame must not make its
//! reader hoard what follows.
//!
//! Only the final mark ends a stream: what a frame's event type says is not looked at.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{PENDING_FRAMES_MAX, SEQUENCE_GAP_MAX};

/// How far out of order a stream may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most frames that wait for a missing one; 0 stands for the default.
    pub pending_frames_max: usize,
    /// Distance from the next expected frame at which one is too far ahead; 0 stands for the
    /// default.
    pub sequence_gap_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_frames_max: PENDING_FRAMES_MAX,
            sequence_gap_max: SEQUENCE_GAP_MAX,
        }
    }
}

/// Tells why a stream cannot be put in order. Both end it, with the code `BACKPRESSURE_DROP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReassemblyError {
    /// A frame is too far ahead of the next expected one.
    #[error("frame {seq} came while frame {expected} was due, and the limit is {limit} ahead")]
    GapTooLarge {
        /// The number that came.
        seq: u64,
        /// The number that was due.
        expected: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many frames wait for a missing one.
    #[error(
        "frame {expected} is missing while {limit} later ones wait, so frame {seq} has no room"
    )]
    PendingFull {
        /// The number that came.
        seq: u64,
        /// The number that was due.
        expected: u64,
        /// The limit.
        limit: usize,
    },
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It can be read, and perhaps others that waited for it.
    Ready,
    /// It waits for an earlier one.
    Buffered,
    /// It came before and was dropped.
    Duplicate,
    /// The stream has had its final frame; this one was dropped.
    AfterFinal,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Reassembly<T> {
    limits: Limits,
    expected: u64,
    /// Frames in order, not yet read. In the ordinary case it holds one and never allocates anew.
    ready: VecDeque<T>,
    pending: BTreeMap<u64, (T, bool)>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// ## Running => Closing: the final frame is in `ready`.
    Running,
    /// Nothing more is accepted; finished once `ready` is empty.
    Closing,
}

impl<T> Reassembly<T> {
    /// Begins a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let default = Limits::default();
        let limits = Limits {
            pending_frames_max: non_zero(limits.pending_frames_max, default.pending_frames_max),
            sequence_gap_max: non_zero(limits.sequence_gap_max, default.sequence_gap_max),
        };
        Self {
            limits,
            expected: 0,
            ready: VecDeque::new(),
            pending: BTreeMap::new(),
            phase: Phase::Running,
        }
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// Fails when the frame is too far ahead or finds no room. The stream is broken then; frames
    /// that are ready can still be read.
    pub fn accept(
        &mut self,
        seq: u64,
        is_final: bool,
        frame: T,
    ) -> Result<Accepted, ReassemblyError> {
        if self.phase == Phase::Closing {
            return Ok(Accepted::AfterFinal);
        }
        if seq < self.expected || self.pending.contains_key(&seq) {
            return Ok(Accepted::Duplicate);
        }
        if seq == self.expected {
            self.advance(frame, is_final);
            return Ok(Accepted::Ready);
        }
        self.hold_back(seq, is_final, frame)
    }

    fn hold_back(
        &mut self,
        seq: u64,
        is_final: bool,
        frame: T,
    ) -> Result<Accepted, ReassemblyError> {
        let expected = self.expected;
        let Limits {
            pending_frames_max,
            sequence_gap_max,
        } = self.limits;
        if seq - expected >= sequence_gap_max {
            return Err(ReassemblyError::GapTooLarge {
                seq,
                expected,
                limit: sequence_gap_max,
            });
        }
        if self.pending.len() >= pending_frames_max {
            return Err(ReassemblyError::PendingFull {
                seq,
                expected,
                limit: pending_frames_max,
            });
        }
        self.pending.insert(seq, (frame, is_final));
        Ok(Accepted::Buffered)
    }

    /// Moves on by one frame and by all that waited for it.
    fn advance(&mut self, frame: T, is_final: bool) {
        let mut next = Some((frame, is_final));
        while let Some((frame, is_final)) = next {
            self.ready.push_back(frame);
            if is_final {
                self.phase = Phase::Closing;
                self.pending.clear();
                return;
            }
            // A stream of 2^64 frames does not exist; saturating keeps the machine total.
            self.expected = self.expected.saturating_add(1);
            next = self.pending.remove(&self.expected);
        }
    }

    /// The next frame in order, if it is here.
    pub fn pop_ready(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// Whether the final frame has been read.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Closing && self.ready.is_empty()
    }

    /// The number of the frame that is due.
    #[must_use]
    pub const fn expected(&self) -> u64 {
        self.expected
    }
}

fn non_zero<N: PartialEq + Default>(value: N, default: N) -> N {
    if value == N::default() {
        default
    } else {
        value
    }
}

#[cfg(test)]
mod tests;
