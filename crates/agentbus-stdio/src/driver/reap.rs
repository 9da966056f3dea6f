//! Buries what workers leave behind.
//!
//! As a child subreaper the bus inherits every descendant whose parent ends, also one that left
//! its worker's process group. Such orphans are collected when they end, and killed when the bus
//! does. Only `agentbus stdio` does this: a library must not touch its host's children.
//!
//! The surprising invariant: **a zombie is left alone the first time it is seen.** A process that
//! is being started may have just failed, and its status belongs to who started it.

use std::collections::HashSet;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid,
};

/// Collects orphans.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    seen: HashSet<Pid>,
}

impl Reaper {
    /// Makes this process inherit orphans, where the system can.
    pub(crate) fn begin() -> Self {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::debug!(%error, "orphans of workers are not inherited");
        }
        Self::default()
    }

    /// Collects the orphans that have ended, and returns whether to look again. `ours` are collected
    /// by their owners.
    pub(crate) fn look(&mut self, ours: &HashSet<i32>) -> bool {
        let zombies: HashSet<Pid> = children()
            .filter(|pid| !ours.contains(&pid.as_raw_nonzero().get()) && has_ended(*pid))
            .collect();
        for pid in zombies.intersection(&self.seen) {
            collect(*pid);
        }
        self.seen = zombies;
        !self.seen.is_empty()
    }

    /// Kills and collects every child that is left. Call it when no worker is.
    pub(crate) fn end() {
        // Each round may orphan the next generation; a bound, as one may fork faster than this.
        for _ in 0..64 {
            let left: Vec<Pid> = children().collect();
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = kill_process(pid, Signal::KILL);
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            }
        }
    }
}

fn has_ended(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(pid), look), Ok(Some(_)))
}

fn collect(pid: Pid) {
    let _ = waitid(
        WaitId::Pid(pid),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
}

/// Returns the children of all our threads, none where the system does not tell.
fn children() -> impl Iterator<Item = Pid> {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    tasks.flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let pids = text
            .split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        pids.collect::<Vec<Pid>>()
    })
}
