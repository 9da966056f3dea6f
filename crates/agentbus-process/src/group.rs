//! A process group and the child that leads it.
//!
//! It promises that the group is killed before its number can be anybody else's, and that the
//! leader is waited for exactly once. It does not watch for the exit: `process.rs` does.
//!
//! The surprising invariant: **the leader stays a zombie until the group has been killed.**
//! The kernel hands out a process number again once its zombie is collected, and a signal to
//! a group of that number could then hit strangers.

use std::process::Child;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::exit::Exit;
use crate::parent_death::Leash;
use crate::spawner;

#[derive(Debug)]
pub(crate) struct Group {
    pid: Pid,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The leader runs, or is a zombie that keeps the group's number reserved.
    /// Left by `finish` once the leader has exited, or by `abandon` at any time.
    Held { child: Child, leash: Leash },
    /// The group was killed and the leader collected, or handed to the reaper: never signal.
    Released,
}

impl Group {
    pub(crate) fn new(child: Child, leash: Leash) -> Self {
        Self {
            pid: Pid::from_child(&child),
            state: Mutex::new(State::Held { child, leash }),
        }
    }

    /// Returns the process number of the leader, which is the number of the group.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends `signal` to every process of the group, if there still is one of ours.
    pub(crate) fn signal(&self, signal: Signal) {
        if let State::Held { .. } = &*self.state.lock() {
            self.send(signal);
        }
    }

    /// Tells whether the leader has exited, without collecting it.
    pub(crate) fn leader_has_exited(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(self.pid), options) {
                Ok(status) => return status.is_some(),
                Err(Errno::INTR) => {}
                // Somebody else collected it: it surely has exited.
                Err(_) => return true,
            }
        }
    }

    /// Kills what is left of the group and collects the leader, which has exited.
    pub(crate) fn finish(&self) -> Exit {
        let mut state = self.state.lock();
        let State::Held { mut child, leash } = std::mem::replace(&mut *state, State::Released)
        else {
            return Exit::Unknown;
        };
        self.send(Signal::KILL);
        drop(leash);
        child.wait().map_or(Exit::Unknown, Exit::from)
    }

    /// Kills the group at once and leaves the leader to the reaper.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        if let State::Held { child, leash } = std::mem::replace(&mut *state, State::Released) {
            self.send(Signal::KILL);
            drop(leash);
            spawner::reap(child);
        }
    }

    /// Call with the state locked and held: the number is ours no longer than that.
    fn send(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.pid, signal) {
            // The usual reason: the group has exited already.
            tracing::trace!(group = self.id(), ?signal, %error, "the signal reached nobody");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.abandon();
    }
}
