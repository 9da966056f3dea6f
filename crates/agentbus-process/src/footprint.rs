//! What the program's own file takes of memory.
//!
//! The kernel maps the file of a program 50 to 150 KB at a time, around each place that is used,
//! and leaves it mapped until memory is short. So most of what a small server has resident is the
//! code that started it, and that code's neighbours. Unmapped, it stays in the system's cache of
//! files; what is used again costs a fault that reads nothing from the disk.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Unmaps what is resident of this program's own file and was never changed. Returns how many
/// bytes that were.
///
/// # Errors
/// Fails where the system does not say what is mapped.
pub fn unmap_program() -> io::Result<usize> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for mapping in unchanged(&maps, &program.to_string_lossy()) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(mapping.range.start);
        // SAFETY: the range is a mapping of this program's file which may not be written to, and
        // of which the kernel says that no page differs from the file, in memory or swapped out. So
        // whoever uses a page of it again, be it the next instruction, finds the same bytes. Such a
        // mapping is made by the loader and lives as long as the program, so nothing else can be at
        // its place.
        unsafe { madvise(start, mapping.range.len(), Advice::LinuxDontNeed) }?;
        bytes += mapping.resident;
    }
    Ok(bytes)
}

/// A mapping that holds nothing but what is in its file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    range: Range<usize>,
    resident: usize,
}

/// The mappings of a program's file that may not be written to and have no page of their own, in
/// memory or swapped out.
fn unchanged(maps: &str, program: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut rest = maps.lines().peekable();
    while let Some(line) = rest.next() {
        let Some(range) = fixed(line, program) else {
            continue;
        };
        let (mut resident, mut own, mut swapped) = (0, None, None);
        while let Some((name, kib)) = rest.peek().and_then(|line| figure(line)) {
            rest.next();
            match name {
                "Rss" => resident = kib * 1024,
                "Anonymous" => own = Some(kib),
                // Addresses that the loader has fixed are lost with these, and are not resident.
                "Swap" => swapped = Some(kib),
                _ => {}
            }
        }
        if own == Some(0) && swapped == Some(0) && resident > 0 {
            found.push(Mapping { range, resident });
        }
    }
    found
}

/// Reads `7f00-7f10 r-xp 00001000 fe:00 42    /bin/program`, if it cannot be written to.
fn fixed(line: &str, program: &str) -> Option<Range<usize>> {
    let (mapped, path) = line.split_at_checked(line.find('/')?)?;
    let mut fields = mapped.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_fixed = matches!(fields.next()?, "r--p" | "r-xp");
    let address = |text| usize::from_str_radix(text, 16).ok();
    (is_fixed && path == program).then_some(address(start)?..address(end)?)
}

/// Reads `Rss:    12 kB`. Lines without a unit stand among these, and end none of them.
fn figure(line: &str) -> Option<(&str, usize)> {
    let (name, value) = line.split_once(':')?;
    if name.contains(' ') {
        return None;
    }
    let number = value.trim().trim_end_matches(" kB");
    Some((name, number.parse().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
10000-20000 r--p 00000000 fe:00 42                         /bin/a b
Size:                 64 kB
Rss:                   8 kB
Anonymous:             0 kB
Swap:                  0 kB
THPeligible:           0
VmFlags: rd mr mw me sd
20000-50000 r-xp 00010000 fe:00 42                         /bin/a b
Rss:                  16 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me sd
50000-60000 r--p 00040000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             4 kB
Swap:                  0 kB
60000-70000 rw-p 00050000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
70000-78000 r-xp 00000000 fe:00 43                         /lib/c
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
78000-80000 r--p 00048000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  8 kB
80000-90000 r-xp 00000000 fe:00 42                         /bin/a b
Rss:                   4 kB
90000-a0000 rw-p 00000000 00:00 0                          [stack]
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
";

    #[test]
    fn only_what_is_as_in_the_file_is_unmapped() {
        let expected = [
            Mapping {
                range: 0x10000..0x20000,
                resident: 8 * 1024,
            },
            Mapping {
                range: 0x20000..0x50000,
                resident: 16 * 1024,
            },
        ];
        assert_eq!(unchanged(MAPS, "/bin/a b"), expected);
        assert_eq!(unchanged(MAPS, "/bin/a"), []);
        assert_eq!(unchanged("", "/bin/a"), []);
    }
}
