//! What is printed, for people or for programs.

use std::io::{self, IsTerminal, Write};

use agentbus::Envelope;
use serde_json::json;

use crate::failure::Failure;
use crate::log;

/// Prints in one of two voices.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    /// Text from other agents must not steer the terminal it is shown on.
    terminal: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal(),
        }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints an event: its type and payload, or the whole envelope.
    pub(crate) fn event(&self, envelope: &Envelope) -> Result<(), Failure> {
        if self.json {
            return self.envelope(envelope);
        }
        let payload = envelope
            .payload
            .as_ref()
            .map_or("", |payload| payload.as_str());
        self.line(format!("{} {payload}", envelope.event_type).trim_end())
    }

    /// Prints what an agent said: text as text, everything else as JSON.
    pub(crate) fn payload(&self, envelope: &Envelope) -> Result<(), Failure> {
        if self.json {
            return self.envelope(envelope);
        }
        let Some(payload) = &envelope.payload else {
            return Ok(());
        };
        match payload.decode::<String>() {
            Ok(text) => self.line(&text),
            Err(_) => self.line(payload.as_str()),
        }
    }

    fn envelope(&self, envelope: &Envelope) -> Result<(), Failure> {
        self.line(&String::from_utf8_lossy(&envelope.encode()))
    }

    /// Prints one line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let text = if self.terminal {
            harmless(text)
        } else {
            text.to_owned()
        };
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // Whoever read this has seen enough, for example `head`; that is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::unexpected(format!("cannot write: {error}"))),
        }
    }

    /// Tells a person something on the side, such as that an agent is ready.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            log::tell(&harmless(text));
        }
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        let text = if self.json {
            let code = failure.code.as_ref().map(ToString::to_string);
            let exit = failure.exit as u8;
            json!({ "error": { "code": code, "message": failure.message, "exit": exit } })
                .to_string()
        } else {
            format!("agentbus: {}", harmless(&failure.message))
        };
        log::tell(&text);
        log::flush();
    }
}

/// Drops what could move the cursor, change the title or turn the writing direction.
fn harmless(text: &str) -> String {
    let bidi = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    text.chars()
        .filter(|&c| !bidi(c) && (!c.is_control() || c == '\n' || c == '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        let nasty = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\u{7}\te";
        assert_eq!(harmless(nasty), "a[2Jb31mcd\te");
    }
}
