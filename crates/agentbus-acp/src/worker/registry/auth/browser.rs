//! Shows a page to a person.
//!
//! The address of a login holds its state, and the arguments of a program can be read by everybody
//! on the machine. So the browser opens a file that only its owner reads, which leads on.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentbus_process::Program;

use super::provider::Variable;

/// A program that opens pages, if there is somebody to see them.
pub(super) fn opener(variable: Variable<'_>) -> Option<String> {
    let away = ["CI", "HEADLESS", "SSH_TTY", "SSH_CONNECTION"];
    if away.iter().any(|name| variable(name).is_some()) {
        return None;
    }
    if let Some(browser) = variable("BROWSER") {
        return Some(browser);
    }
    match std::env::consts::OS {
        "macos" => Some("open".to_owned()),
        _ => {
            let screen = variable("DISPLAY").or_else(|| variable("WAYLAND_DISPLAY"));
            screen.map(|_| "xdg-open".to_owned())
        }
    }
}

/// A page that is shown; it goes away with this.
#[derive(Debug)]
pub(super) struct Page(PathBuf);

impl Page {
    /// Opens a page that leads to `url`.
    pub(super) async fn open(browser: &str, url: &str, directory: &Path) -> io::Result<Self> {
        let name = format!(
            "login-{}.html",
            uuid::Uuid::from_bytes(super::key::random()?)
        );
        let file = std::path::absolute(directory.join(name))?;
        let mut options = OpenOptions::new();
        let mut page = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?;
        let shown = url.replace('&', "&amp;").replace('"', "&quot;");
        writeln!(
            page,
            "<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={shown}\"><a href=\"{shown}\">Log in</a>"
        )?;
        let page = Self(file);
        let opened = detached(browser)
            .arg(&page.0)
            .run(bytes::Bytes::new())
            .await;
        let opened = opened.map_err(|error| io::Error::other(error.to_string()))?;
        match opened.outcome.success() {
            true => Ok(page),
            false => Err(io::Error::other(format!(
                "{browser}: {}",
                opened.outcome.exit
            ))),
        }
    }
}

/// Returns a program that outlives us: it may be the browser that the person goes on to use.
fn detached(browser: &str) -> Program {
    match std::env::consts::OS {
        "linux" => Program::new("setsid").arg("--fork").arg(browser),
        _ => Program::new(browser),
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // It holds nothing of worth once the login is over.
        let _ = fs::remove_file(&self.0);
    }
}
