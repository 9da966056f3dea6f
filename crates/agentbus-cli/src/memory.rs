//! The allocator of the program, and how its memory goes back to the system.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

// Messages are many small allocations made on one thread and freed on another, which is what this
// allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time between two blocks that are asked for in vain. Memory that has been free for a second may
/// go back.
const PAUSE: Duration = Duration::from_secs(2);

/// A block too large for the allocator to have one at hand: 1 MiB.
const LARGE_BYTES: usize = 1024 * 1024;

/// Stack of the thread that asks: 64 KiB.
const STACK_BYTES: usize = 64 * 1024;

/// Has memory that is no longer needed go back to the system, for as long as the program runs.
///
/// First what only the start has used of the program's own file. It is two thirds of what an idle
/// process bus has resident.
///
/// The allocator keeps what was freed for a while and gives it back after that, but only when it
/// next has to find or take back a large block. A program that idles after a burst of large
/// messages never asks for one, and would keep the memory of the burst for good. So a thread asks.
/// It is none of the runtime's, which costs less per message while no timer runs in it.
pub(crate) fn tend() {
    let asking = thread::Builder::new()
        .name("memory".to_owned())
        .stack_size(STACK_BYTES);
    // Without the thread nothing is lost but the memory.
    let _ = asking.spawn(|| {
        thread::sleep(PAUSE);
        forget_start();
        loop {
            thread::sleep(PAUSE);
            // Never written to, so it takes no memory itself.
            drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
        }
    });
}

fn forget_start() {
    #[cfg(target_os = "linux")]
    match agentbus_process::unmap_program() {
        Ok(bytes) => tracing::debug!(bytes, "what the start has used of the program is unmapped"),
        Err(error) => {
            tracing::debug!(%error, "what the start has used of the program stays mapped");
        }
    }
}
