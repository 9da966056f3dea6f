//! Who holds a lock on a file, asked of the system and not by trying to take it: even a lock held
//! for a moment could keep a bus from starting.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The process that has a file locked, where the system says.
pub(super) fn holder(path: &Path) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    find(&fs::read_to_string("/proc/locks").ok()?, &place)
}

/// The same as the end of a sentence.
pub(super) fn in_use(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |process| {
        format!(", in use by process {process}")
    })
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:9986049 0 EOF`; with `->` for one that waits.
fn find(locks: &str, place: &str) -> Option<u32> {
    let held = locks.lines().filter(|line| !line.contains("->"));
    let mut held = held.filter_map(|line| {
        let mut fields = line.split_whitespace().skip(4);
        Some((fields.next()?.parse::<u32>().ok()?, fields.next()?))
    });
    held.find_map(|(process, file)| (file == place).then_some(process))
}

/// The file that lies beside another under its name and this ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_file_is_read_from_the_list() {
        let locks = "1: POSIX  ADVISORY  READ 7 fe:00:12 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 8 fe:00:13 0 EOF\n\
                     2: OFDLCK ADVISORY  WRITE -1 fe:00:13 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 fe:00:13 0 EOF\n";
        assert_eq!(find(locks, "fe:00:13"), Some(9));
        assert_eq!(find(locks, "fe:00:12"), Some(7));
        assert_eq!(find(locks, "fe:00:1"), None);
    }
}
