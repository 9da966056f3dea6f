//! Files inside the root that the operator set.
//!
//! A path is resolved first and opened second, and between the two somebody may put a symbolic link
//! in the way. So the second step takes the resolved path from the root's own descriptor and has
//! the kernel refuse every link and every step upwards.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::limits::FILE_BYTES;
use crate::sdk::driving::Refusal;

/// The directory inside of which an agent is served.
#[derive(Debug)]
pub(super) struct Ground {
    root: PathBuf,
    descriptor: OwnedFd,
}

impl Ground {
    /// Opens the root, which must be a directory.
    pub(super) fn open(root: &Path) -> std::io::Result<Self> {
        let root = root.canonicalize()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(&root, flags, Mode::empty())?;
        Ok(Self { root, descriptor })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a text file, or the part of it that was asked for; lines count from 1.
    pub(super) async fn read(
        self: &Arc<Self>,
        path: PathBuf,
        line: Option<u32>,
        limit: Option<u32>,
    ) -> Result<String, Refusal> {
        let ground = Arc::clone(self);
        let text = blocking(move || ground.read_now(&path)).await?;
        if line.is_none() && limit.is_none() {
            return Ok(text);
        }
        let before = line.map_or(0, |line| line.saturating_sub(1) as usize);
        let count = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(text
            .split_inclusive('\n')
            .skip(before)
            .take(count)
            .collect())
    }

    /// Writes a text file, which is made if it is not there.
    pub(super) async fn write(
        self: &Arc<Self>,
        path: PathBuf,
        content: String,
    ) -> Result<(), Refusal> {
        if content.len() as u64 > FILE_BYTES {
            return Err(too_large(&path));
        }
        let ground = Arc::clone(self);
        blocking(move || ground.write_now(&path, &content)).await
    }

    /// Resolves a directory inside the root.
    pub(super) fn directory(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let real = self.resolve(path)?;
        match real.is_dir() {
            true => Ok(real),
            false => Err(Refusal::Invalid(format!(
                "{} is no directory",
                path.display()
            ))),
        }
    }

    fn read_now(&self, path: &Path) -> Result<String, Refusal> {
        let real = self.resolve(path)?;
        // Opening a pipe would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = self.open_inside(path, &real, flags)?;
        let about = file.metadata().map_err(|error| failed(path, &error))?;
        if !about.is_file() {
            return Err(Refusal::Invalid(format!("{} is no file", path.display())));
        }
        let mut bytes = Vec::new();
        // One byte more than may be, so that a file that grows meanwhile is noticed too.
        let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(path, &error))?;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(too_large(path));
        }
        String::from_utf8(bytes)
            .map_err(|_| Refusal::Invalid(format!("{} is not text in UTF-8", path.display())))
    }

    fn write_now(&self, path: &Path, content: &str) -> Result<(), Refusal> {
        let real = match self.resolve(path) {
            Err(Refusal::Missing(_)) => self.resolve_new(path)?,
            resolved => resolved?,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK;
        let mut file = self.open_inside(path, &real, flags)?;
        let about = file.metadata().map_err(|error| failed(path, &error))?;
        if !about.is_file() {
            return Err(Refusal::Invalid(format!("{} is no file", path.display())));
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(content.as_bytes()));
        written.map_err(|error| failed(path, &error))
    }

    /// Follows every link; what is left must be inside the root.
    fn resolve(&self, path: &Path) -> Result<PathBuf, Refusal> {
        if path.is_relative() {
            return Err(Refusal::Invalid(format!(
                "{} is relative; paths are absolute in this protocol",
                path.display()
            )));
        }
        let real = path.canonicalize().map_err(|error| failed(path, &error))?;
        match real.starts_with(&self.root) {
            true => Ok(real),
            false => Err(self.outside(path)),
        }
    }

    /// Resolves a file that is not there yet; its directory is.
    fn resolve_new(&self, path: &Path) -> Result<PathBuf, Refusal> {
        // A link that leads nowhere is there all the same, and is not written through.
        if path.symlink_metadata().is_ok() {
            return Err(self.outside(path));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(self.outside(path));
        };
        Ok(self.resolve(parent)?.join(name))
    }

    fn open_inside(&self, path: &Path, real: &Path, flags: OFlags) -> Result<File, Refusal> {
        let inside = real
            .strip_prefix(&self.root)
            .map_err(|_| self.outside(path))?;
        let inside = match inside.as_os_str().is_empty() {
            true => Path::new("."),
            false => inside,
        };
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mode = if flags.contains(OFlags::CREATE) {
            mode
        } else {
            Mode::empty()
        };
        let opened = open_beneath(&self.descriptor, inside, flags | OFlags::CLOEXEC, mode);
        match opened {
            Ok(descriptor) => Ok(descriptor.into()),
            Err(Errno::LOOP | Errno::XDEV) => Err(self.outside(path)),
            Err(error) => Err(failed(path, &error.into())),
        }
    }

    fn outside(&self, path: &Path) -> Refusal {
        Refusal::Invalid(format!(
            "{} is outside of {}, and nothing outside of it is served",
            path.display(),
            self.root.display()
        ))
    }
}

#[cfg(target_os = "linux")]
fn open_beneath(
    root: &OwnedFd,
    inside: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, inside, flags, mode, resolve)
}

/// Elsewhere only the last step can be kept from following a link.
#[cfg(not(target_os = "linux"))]
fn open_beneath(
    root: &OwnedFd,
    inside: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(root, inside, flags | OFlags::NOFOLLOW, mode)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::Failed(error.to_string()))?
}

fn failed(path: &Path, error: &std::io::Error) -> Refusal {
    let sentence = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::Missing(sentence),
        _ => Refusal::Failed(sentence),
    }
}

fn too_large(path: &Path) -> Refusal {
    Refusal::Invalid(format!(
        "{} has more than {FILE_BYTES} bytes, which is more than is passed on",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Fixture {
        _dir: tempfile::TempDir,
        inside: PathBuf,
        outside: PathBuf,
        ground: Arc<Ground>,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("root"), dir.path().join("secret"));
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        std::fs::write(inside.join("a.txt"), "one\ntwo\nthree").unwrap();
        symlink(&outside, inside.join("leak")).unwrap();
        symlink(dir.path(), inside.join("up")).unwrap();
        symlink(inside.join("a.txt"), inside.join("alias")).unwrap();
        symlink(dir.path().join("new"), inside.join("dangling")).unwrap();
        Fixture {
            ground: Arc::new(Ground::open(&inside).unwrap()),
            _dir: dir,
            inside,
            outside,
        }
    }

    fn is_outside(refusal: &Refusal) -> bool {
        matches!(refusal, Refusal::Invalid(message) if message.contains("outside of"))
    }

    #[tokio::test]
    async fn files_are_read_whole_or_by_lines() {
        let it = fixture();
        let path = it.inside.join("a.txt");
        for (line, limit, want) in [
            (None, None, "one\ntwo\nthree"),
            (Some(2), None, "two\nthree"),
            (Some(2), Some(1), "two\n"),
            (None, Some(1), "one\n"),
            (Some(9), Some(1), ""),
        ] {
            assert_eq!(
                it.ground.read(path.clone(), line, limit).await.unwrap(),
                want
            );
        }
        let alias = it.ground.read(it.inside.join("alias"), None, Some(1)).await;
        assert_eq!(alias.unwrap(), "one\n");
        let missing = it.ground.read(it.inside.join("no"), None, None).await;
        assert!(matches!(missing, Err(Refusal::Missing(_))));
        let directory = it.ground.read(it.inside.join("sub"), None, None).await;
        assert!(matches!(directory, Err(Refusal::Invalid(_))));
    }

    #[tokio::test]
    async fn nothing_outside_is_read_or_written_by_any_way() {
        let it = fixture();
        let ways = [
            it.outside.clone(),
            it.inside.join("leak"),
            it.inside.join("../secret"),
            it.inside.join("up/secret"),
            it.inside.join("sub/../../secret"),
        ];
        for way in ways {
            let read = it.ground.read(way.clone(), None, None).await.unwrap_err();
            assert!(is_outside(&read), "{way:?}: {read:?}");
            let written = it.ground.write(way.clone(), "x".to_owned()).await;
            assert!(is_outside(&written.unwrap_err()), "{way:?}");
        }
        for new in ["dangling", "up/new", "../new"] {
            let written = it.ground.write(it.inside.join(new), "x".to_owned()).await;
            assert!(is_outside(&written.unwrap_err()), "{new}");
        }
        assert_eq!(std::fs::read_to_string(&it.outside).unwrap(), "secret");
        assert!(!it.outside.with_file_name("new").exists());
        let relative = it.ground.read("a.txt".into(), None, None).await;
        assert!(matches!(relative, Err(Refusal::Invalid(_))));
    }

    #[tokio::test]
    async fn files_are_written_inside_and_have_a_limit() {
        let it = fixture();
        let new = it.inside.join("sub/new.txt");
        it.ground
            .write(new.clone(), "longer".to_owned())
            .await
            .unwrap();
        it.ground
            .write(new.clone(), "new".to_owned())
            .await
            .unwrap();
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "new");
        let large = "x".repeat(FILE_BYTES as usize + 1);
        assert!(it.ground.write(new.clone(), large.clone()).await.is_err());
        std::fs::write(&new, large).unwrap();
        assert!(it.ground.read(new, None, None).await.is_err());
    }

    #[test]
    fn a_link_that_is_put_in_the_way_after_the_check_is_not_followed() {
        let it = fixture();
        let path = it.inside.join("leak");
        // As if the check had resolved it when it was a file.
        let opened = it.ground.open_inside(&path, &path, OFlags::RDONLY);
        assert!(is_outside(&opened.unwrap_err()));
        let above = it.inside.join("up/secret");
        assert!(is_outside(
            &it.ground
                .open_inside(&above, &above, OFlags::RDONLY)
                .unwrap_err()
        ));
    }
}
