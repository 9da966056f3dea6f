//! Histories of sessions on disk: one file each, one JSON object a line, appended as it happens.
//!
//! The first line says what the session is; each further one is an update that its client was sent,
//! or a prompt that it sent, in ACP's own words, so that a replay is the file read aloud. A turn is
//! synced when it ends. A line that a crash cut off is dropped when the file is read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::limits::{HISTORY_BYTES_MAX, SESSIONS_KEPT_MAX};
use crate::sdk::serving::schema::{SessionId, SessionUpdate};

/// Longest first lines of a file: who lists sessions reads no more of each.
const HEAD_BYTES: u64 = 64 * 1024;

/// What a session is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) id: SessionId,
    pub(super) cwd: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) additional_directories: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
}

/// A line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Session(About),
    Title(String),
    Update(Box<SessionUpdate>),
}

/// A session on disk, as a list shows it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) about: About,
    pub(super) changed: SystemTime,
}

/// The directory of all histories.
#[derive(Debug, Clone)]
pub(super) struct Store {
    directory: PathBuf,
}

/// The open file of one session.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    file: File,
    bytes: u64,
    pub(super) about: About,
    pub(super) updates: Vec<SessionUpdate>,
}

impl Store {
    /// Opens the directory, and makes it for this user alone where there is none.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let directory = directory.join("sessions");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        Ok(Self { directory })
    }

    /// Returns the file of a session; none for an id that no session of ours can have, and that
    /// could name another file.
    fn path(&self, id: &SessionId) -> Option<PathBuf> {
        let id: &str = &id.0;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let ours = !id.is_empty() && id.len() <= 64 && id.bytes().all(plain);
        ours.then(|| self.directory.join(format!("{id}.jsonl")))
    }

    /// Begins a history, and forgets the oldest ones beyond the limit.
    pub(super) fn create(&self, about: About) -> io::Result<History> {
        let path = self.path(&about.id).ok_or(io::ErrorKind::InvalidInput)?;
        let file = append(&path)?;
        let mut history = History {
            path,
            file,
            bytes: 0,
            about: about.clone(),
            updates: Vec::new(),
        };
        history.write(&Line::Session(about))?;
        for kept in self.list()?.into_iter().skip(SESSIONS_KEPT_MAX) {
            self.delete(&kept.about.id)?;
        }
        Ok(history)
    }

    /// Reads a history to go on with it.
    pub(super) fn read(&self, id: &SessionId) -> io::Result<Option<History>> {
        let Some(path) = self.path(id) else {
            return Ok(None);
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut about = None;
        let mut updates = Vec::new();
        for line in whole.lines() {
            match serde_json::from_str(line)? {
                Line::Session(said) => about = Some(said),
                Line::Title(title) => {
                    if let Some(about) = &mut about {
                        about.title = Some(title);
                    }
                }
                Line::Update(update) => updates.push(*update),
            }
        }
        let Some(about) = about else { return Ok(None) };
        let file = append(&path)?;
        // What a crash left of a last line would spoil the next one.
        file.set_len(whole.len() as u64)?;
        Ok(Some(History {
            path,
            file,
            bytes: whole.len() as u64,
            about,
            updates,
        }))
    }

    /// Lists what is kept, the one used last first.
    pub(super) fn list(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let changed = entry.metadata()?.modified()?;
            // A file that somebody deletes meanwhile, or that is none of ours, is not listed.
            if let Some(about) = head(&entry.path()) {
                kept.push(Kept { about, changed });
            }
        }
        let order = |kept: &Kept| (std::cmp::Reverse(kept.changed), kept.about.id.0.clone());
        kept.sort_by_key(order);
        Ok(kept)
    }

    /// Forgets a session; it is no error if there is none.
    pub(super) fn delete(&self, id: &SessionId) -> io::Result<()> {
        match self.path(id).map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl History {
    /// Names the session.
    pub(super) fn name(&mut self, title: String) -> io::Result<()> {
        self.write(&Line::Title(title.clone()))?;
        self.about.title = Some(title);
        Ok(())
    }

    /// Adds an update.
    pub(super) fn add(&mut self, update: SessionUpdate) -> io::Result<()> {
        self.keep(update)?;
        if self.bytes > HISTORY_BYTES_MAX {
            self.forget()?;
        }
        Ok(())
    }

    /// Hands out the file, to be synced where that may block.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes an update, and keeps it in memory once it is written.
    fn keep(&mut self, update: SessionUpdate) -> io::Result<()> {
        let line = Line::Update(Box::new(update));
        self.write(&line)?;
        if let Line::Update(update) = line {
            self.updates.push(*update);
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        // One write, so that another process that reads sees whole lines.
        self.file.write_all(&bytes)?;
        // The system's own time of a write is the last tick of its clock, milliseconds ago, and two
        // sessions would have the same.
        self.file.set_modified(SystemTime::now())?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Drops the older turns: those that do not fit into half of what may be kept.
    fn forget(&mut self) -> io::Result<()> {
        let mut left = HISTORY_BYTES_MAX / 2;
        let mut keep = self.updates.len();
        for (index, update) in self.updates.iter().enumerate().rev() {
            let length = serde_json::to_vec(update)?.len() as u64;
            let Some(rest) = left.checked_sub(length) else {
                break;
            };
            left = rest;
            if matches!(update, SessionUpdate::UserMessageChunk(_)) {
                keep = index;
            }
        }
        self.updates.drain(..keep);
        let temporary = self.path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        self.file = append(&temporary)?;
        self.bytes = 0;
        self.write(&Line::Session(self.about.clone()))?;
        for update in std::mem::take(&mut self.updates) {
            self.keep(update)?;
        }
        self.file.sync_data()?;
        fs::rename(&temporary, &self.path)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// Reads what a file says of its session, from its first lines.
fn head(path: &Path) -> Option<About> {
    let file = File::open(path).ok()?;
    let mut lines = BufReader::new(file.take(HEAD_BYTES)).lines();
    let first = lines.next()?.ok()?;
    let Ok(Line::Session(mut about)) = serde_json::from_str(&first) else {
        return None;
    };
    if let Some(Ok(second)) = lines.next()
        && let Ok(Line::Title(title)) = serde_json::from_str(&second)
    {
        about.title = Some(title);
    }
    Some(about)
}
