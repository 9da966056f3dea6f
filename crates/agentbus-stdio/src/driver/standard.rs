//! The client at our own standard input and output.
//!
//! Pipes and sockets are used as they are, without blocking; their mode is put back at the end,
//! because it is shared with whoever else has them open. Terminals and files cannot be waited
//! for, or must not be changed under their other users: a thread copies from or to a pipe.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};

/// Standard input and output, fit to be waited for.
#[derive(Debug)]
pub(crate) struct Standard {
    pub(crate) reader: Arc<OwnedFd>,
    pub(crate) writer: Arc<OwnedFd>,
    before: Vec<(OwnedFd, OFlags)>,
    copier: Option<JoinHandle<()>>,
}

impl Standard {
    /// Takes standard input and output.
    pub(crate) fn take() -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let mut before = Vec::new();
        let reader = match can_wait(stdin.as_fd()) {
            true => without_blocking(stdin.as_fd(), &mut before)?,
            false => copied_from_stdin()?,
        };
        let (writer, copier) = match can_wait(stdout.as_fd()) {
            true => (without_blocking(stdout.as_fd(), &mut before)?, None),
            false => copied_to_stdout()?,
        };
        Ok(Self {
            reader: Arc::new(reader),
            writer: Arc::new(writer),
            before,
            copier,
        })
    }

    /// Puts the modes back and waits until everything has been copied.
    pub(crate) fn give_back(self) {
        for (descriptor, flags) in &self.before {
            let _ = fcntl_setfl(descriptor, *flags);
        }
        drop((self.reader, self.writer));
        if let Some(copier) = self.copier {
            let _ = copier.join();
        }
    }
}

fn can_wait(descriptor: BorrowedFd<'_>) -> bool {
    fstat(descriptor).is_ok_and(|status| {
        let kind = FileType::from_raw_mode(status.st_mode);
        matches!(kind, FileType::Fifo | FileType::Socket)
    })
}

fn without_blocking(
    descriptor: BorrowedFd<'_>,
    before: &mut Vec<(OwnedFd, OFlags)>,
) -> io::Result<OwnedFd> {
    let flags = fcntl_getfl(descriptor)?;
    fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
    before.push((descriptor.try_clone_to_owned()?, flags));
    descriptor.try_clone_to_owned()
}

fn copied_from_stdin() -> io::Result<OwnedFd> {
    let (reader, writer) = io::pipe()?;
    let mut writer = writer;
    // Not joined: a read from a terminal cannot be interrupted, and ends with the process.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || copy(&mut io::stdin().lock(), &mut writer))?;
    nonblocking(reader.into())
}

fn copied_to_stdout() -> io::Result<(OwnedFd, Option<JoinHandle<()>>)> {
    let (mut reader, writer) = io::pipe()?;
    let copier = std::thread::Builder::new()
        .name("stdout".to_owned())
        .spawn(move || copy(&mut reader, &mut io::stdout().lock()))?;
    Ok((nonblocking(writer.into())?, Some(copier)))
}

fn nonblocking(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    let flags = fcntl_getfl(&descriptor)?;
    fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
    Ok(descriptor)
}

/// Copies until either side ends, and lets nothing wait in a buffer.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) if to.write_all(&buffer[..count]).is_err() || to.flush().is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
