//! Makes a program die when this process dies, whatever kills it.
//!
//! Two mechanisms of the Linux kernel, because neither is enough alone:
//!
//! - **Parent-death signal.** The direct child gets SIGKILL when the thread that forked it
//!   ends. It reaches no grandchild.
//! - **Leash.** A pipe per program: we hold the only write end, the program's group inherits
//!   the read end, set up to send SIGKILL to the *group* (`F_SETOWN`, `F_SETSIG`, `O_ASYNC`)
//!   when something happens on it. Nothing is ever written, so the only thing that can happen
//!   is that the write end closes, and the kernel closes it when we die. It works while any
//!   process still has the read end open, and it addresses the group by identity: a group
//!   number used again by strangers is never hit.
//!
//! It does not reach a process that left the group. The surprising invariant: **dropping a
//! [`Leash`] kills the group.**
//!
//! It needs `unsafe`: the code below runs between fork and exec, where only async-signal-safe calls
//! are allowed, and no compiler checks that.
#![allow(unsafe_code)]

use std::io;
use std::process::Command;

/// Our end of the leash; dropping it kills the process group.
#[derive(Debug)]
pub(crate) struct Leash {
    #[cfg(target_os = "linux")]
    _write_end: std::os::fd::OwnedFd,
}

/// Ties the program that `command` will start, in its own group, to the life of this process.
///
/// Call it for one spawn only, on the thread that forks: the process number recorded here is
/// what the child compares its parent with.
#[cfg(target_os = "linux")]
pub(crate) fn tie(command: &mut Command) -> io::Result<Leash> {
    use std::os::unix::process::CommandExt;

    use rustix::io::{Errno, fcntl_dupfd_cloexec};
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let read_end = fcntl_dupfd_cloexec(&read_end, crate::limits::LEASH_DESCRIPTOR)
        // The descriptor limit may lie below that number; any number does, then.
        .unwrap_or(read_end);
    let parent = getpid();
    let before_exec = move || {
        // Best effort: without it the parent-death signal still covers the direct child.
        let _ = leash::arm(&read_end);
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died after the fork and before the line above; then nobody is
        // left to send the signal.
        if getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child, where other threads may have held any lock
    // at the moment of the fork. It takes none and allocates nothing: it makes the system calls
    // fcntl, prctl and getppid, all async-signal-safe, on a descriptor that the closure owns,
    // and builds errors from bare numbers.
    unsafe { command.pre_exec(before_exec) };
    Ok(Leash {
        _write_end: write_end,
    })
}

/// Elsewhere there is no such signal: the group dies with its `Process`, not with ours.
#[cfg(not(target_os = "linux"))]
pub(crate) fn tie(_command: &mut Command) -> io::Result<Leash> {
    Ok(Leash {})
}

// The three processor families whose numbers for these commands are the kernel's generic ones.
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
mod leash {
    use std::ffi::c_int;
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::process::{Signal, getpid};

    // From the kernel's asm-generic/fcntl.h; rustix has no safe function for either.
    const F_SETOWN: c_int = 8;
    const F_SETSIG: c_int = 10;

    unsafe extern "C" {
        fn fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
    }

    /// Makes the end of `read_end`'s pipe a SIGKILL for the caller's own process group.
    ///
    /// Runs in the forked child, which leads its group by then: std sets the group first.
    pub(super) fn arm(read_end: &OwnedFd) -> io::Result<()> {
        set(read_end, F_SETOWN, -getpid().as_raw_nonzero().get())?;
        set(read_end, F_SETSIG, Signal::KILL.as_raw())?;
        // Last, so that the pipe never signals another way than the one asked for.
        fcntl_setfl(read_end, fcntl_getfl(read_end)? | OFlags::ASYNC)?;
        fcntl_setfd(read_end, FdFlags::empty())?;
        Ok(())
    }

    fn set(descriptor: &OwnedFd, command: c_int, value: c_int) -> io::Result<()> {
        // SAFETY: fcntl with these two commands reads one int and no memory of ours, the
        // declaration above is C's own, and the descriptor is open because we borrow it.
        match unsafe { fcntl(descriptor.as_raw_fd(), command, value) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(all(
    target_os = "linux",
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))
))]
mod leash {
    pub(super) fn arm(_read_end: &std::os::fd::OwnedFd) -> std::io::Result<()> {
        Ok(())
    }
}
