//! The event stream of an answer, from pieces that end anywhere, even within a character.

/// Joins pieces to events.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// A line that has not ended.
    line: Vec<u8>,
    /// The data of an event that has not ended.
    data: String,
}

impl Decoder {
    /// Takes a piece and returns the data of each event that it completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(&line, &mut events);
            }
        }
        events
    }

    /// Returns how much is held back.
    pub(super) fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    fn end_of_line(&mut self, line: &[u8], events: &mut Vec<String>) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
        // Many servers end an event with one line end; what is whole already need not wait.
        let whole = line.is_empty() || self.data == "[DONE]" || is_json(&self.data);
        if whole && !self.data.is_empty() {
            events.push(std::mem::take(&mut self.data));
        }
    }
}

fn is_json(data: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": comment\r\n\r\nevent: x\nid: 7\ndata: {\"a\":\"añ\"}\n\ndata:{\"b\":\ndata: 1}\n\nretry: 5\ndata: [DONE]\n\n";

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let expected = ["{\"a\":\"añ\"}", "{\"b\":\n1}", "[DONE]"];
        for length in 1..STREAM.len() {
            let mut decoder = Decoder::default();
            let pieces = STREAM.as_bytes().chunks(length);
            let events: Vec<_> = pieces.flat_map(|piece| decoder.push(piece)).collect();
            assert_eq!(events, expected, "in pieces of {length}");
            assert_eq!(decoder.held(), 0);
        }
    }
}
