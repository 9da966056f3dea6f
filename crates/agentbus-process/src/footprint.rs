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
        // mapping stands beside the program's code, was made by the loader with it, and lives as long
        // as the program, so nothing else can be at its place.
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

/// The mappings of a program that may not be written to and have no page of their own, in memory or
/// swapped out.
///
/// The loader maps the parts of a program one after the other, its code among them. What else is
/// mapped of the file, such as by who looks for names in it, stands alone and may go at any time.
fn unchanged(maps: &str, program: &str) -> Vec<Mapping> {
    let all = mappings(maps);
    let is_of_program = |mapping: &Mapped<'_>| mapping.path == program;
    let runs = all.chunk_by(|one, next| is_of_program(one) == is_of_program(next));
    let loaded = runs.filter(|run| {
        run.iter()
            .any(|mapping| is_of_program(mapping) && mapping.access == "r-xp")
    });
    let unchanged = loaded.flatten().filter(|mapping| {
        matches!(mapping.access, "r--p" | "r-xp")
            && mapping.own == Some(0)
            // Addresses that the loader has fixed are lost with these, and are not resident.
            && mapping.swapped == Some(0)
            && mapping.resident > 0
    });
    let found = unchanged.map(|mapping| Mapping {
        range: mapping.range.clone(),
        resident: mapping.resident,
    });
    found.collect()
}

/// A mapping as the system lists it; sizes in bytes.
struct Mapped<'a> {
    range: Range<usize>,
    access: &'a str,
    path: &'a str,
    resident: usize,
    own: Option<usize>,
    swapped: Option<usize>,
}

fn mappings(maps: &str) -> Vec<Mapped<'_>> {
    let mut all: Vec<Mapped<'_>> = Vec::new();
    for line in maps.lines() {
        if let Some(mapped) = begun(line) {
            all.push(mapped);
        } else if let (Some(mapped), Some((name, bytes))) = (all.last_mut(), figure(line)) {
            match name {
                "Rss" => mapped.resident = bytes,
                "Anonymous" => mapped.own = Some(bytes),
                "Swap" => mapped.swapped = Some(bytes),
                _ => {}
            }
        }
    }
    all
}

/// Reads `7f00-7f10 r-xp 00001000 fe:00 42    /bin/program`; there may be no path.
fn begun(line: &str) -> Option<Mapped<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(Mapped {
        range: address(start)?..address(end)?,
        access: rest.split(' ').next()?,
        path: rest.find('/').map_or("", |at| &rest[at..]),
        resident: 0,
        own: None,
        swapped: None,
    })
}

/// Reads `Rss:    12 kB` as a number of bytes.
fn figure(line: &str) -> Option<(&str, usize)> {
    let (name, value) = line.split_once(':')?;
    let kib: usize = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((name, kib.saturating_mul(1024)))
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
50000-52000 r--p 00040000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             4 kB
Swap:                  0 kB
52000-54000 r--p 00042000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  8 kB
54000-58000 r-xp 00044000 fe:00 42                         /bin/a b
Rss:                   4 kB
60000-70000 rw-p 00050000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
70000-78000 r-xp 00000000 fe:00 43                         /lib/c
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
80000-90000 r--p 00000000 fe:00 42                         /bin/a b
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
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
