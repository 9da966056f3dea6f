//! A client that speaks ACP straight over the WebSocket at `/acp`.

use std::net::TcpStream;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::{self, HandshakeError, Message, WebSocket};

use crate::bus::Bus;
use crate::editor::{Editor, PATIENCE};
use crate::support::frames::{Frames, From};

pub(crate) struct Socket {
    socket: WebSocket<TcpStream>,
    frames: Frames,
    next: u64,
}

/// Opens `/acp` with these headers, or says with which status that is refused.
fn open(bus: &Bus, headers: &[(HeaderName, &str)]) -> Result<Socket, u16> {
    let mut request = format!("ws://{}/acp", bus.address())
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(name, value);
    }
    let stream = TcpStream::connect(bus.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(Socket {
            socket,
            frames: Frames::new(),
            next: 0,
        }),
        Err(HandshakeError::Failure(tungstenite::Error::Http(refused))) => {
            Err(refused.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

/// Opens `/acp` as somebody who may.
pub(crate) fn enter(bus: &Bus) -> Socket {
    let bearer = format!("Bearer {}", bus.token());
    open(bus, &[(header::AUTHORIZATION, &bearer)]).unwrap()
}

impl Socket {
    /// Puts a request where the next flush takes it along.
    fn write(&mut self, method: &str, params: &Value) -> u64 {
        self.next += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        let line = request.to_string();
        self.frames.check(From::Client, &line);
        self.socket.write(Message::text(line)).unwrap();
        self.next
    }

    /// Sends a line without a look at it.
    pub(crate) fn send(&mut self, line: &str) {
        self.socket.send(Message::text(line)).unwrap();
    }

    /// The next line of the bus without a look at it; `None` at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The code of the close frame, at which the connection ends.
    fn closed(&mut self) -> Option<u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(told)) => return told.map(|told| told.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next frame of the bus; `None` at the end.
    fn read(&mut self) -> Option<Value> {
        let line = self.line()?;
        Some(self.frames.check(From::Agent, &line))
    }

    fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.read().expect("the bus hung up");
            if wanted(&frame) {
                return frame;
            }
        }
    }

    fn answer(&mut self, id: u64) -> Value {
        self.socket.flush().unwrap();
        self.find(|frame| frame["id"] == id && frame.get("method").is_none())
    }

    /// A session of a client that has introduced itself.
    fn session(&mut self) -> String {
        // Both at once: the second does not wait for the answer to the first.
        let first = self.write("initialize", &json!({ "protocolVersion": 1 }));
        let second = self.write("session/new", &json!({ "cwd": "/", "mcpServers": [] }));
        assert_eq!(self.answer(first)["result"]["protocolVersion"], 1);
        let opened = self.answer(second);
        opened["result"]["sessionId"].as_str().unwrap().to_owned()
    }

    fn ask_prompt(&mut self, session: &str, texts: &[&str]) -> u64 {
        let blocks = texts
            .iter()
            .map(|text| json!({ "type": "text", "text": text }));
        let prompt: Vec<Value> = blocks.collect();
        self.write(
            "session/prompt",
            &json!({ "sessionId": session, "prompt": prompt }),
        )
    }
}

#[test]
fn nobody_enters_without_the_token_or_from_a_foreign_page() {
    let bus = Bus::start();
    let bearer = format!("Bearer {}", bus.token());
    let token = (header::AUTHORIZATION, bearer.as_str());
    let refused = |headers: &[(HeaderName, &str)]| open(&bus, headers).err();
    assert_eq!(refused(&[]), Some(401));
    assert_eq!(
        refused(&[(header::AUTHORIZATION, "Bearer wrong")]),
        Some(401)
    );
    let foreign = (header::ORIGIN, "https://example.org");
    assert_eq!(refused(&[token.clone(), foreign]), Some(403));
    let elsewhere = (header::HOST, "example.org");
    assert_eq!(refused(&[token.clone(), elsewhere]), Some(403));
    let own = format!("http://{}", bus.address());
    assert_eq!(refused(&[token, (header::ORIGIN, &own)]), None);
}

#[test]
fn a_client_on_the_socket_is_served_as_one_on_a_pipe() {
    let bus = Bus::start();
    let mut socket = enter(&bus);
    let session = socket.session();
    let turn = socket.ask_prompt(&session, &["one", "two"]);
    assert_eq!(socket.answer(turn)["result"]["stopReason"], "end_turn");
    // A frame is one message: two in one are none.
    let two = format!(
        "{}\n{}",
        json!({ "jsonrpc": "2.0", "id": 90, "method": "session/list" }),
        "{}"
    );
    socket.send(&two);
    let error = socket.find(|frame| frame["error"].is_object());
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&Value::Null, &json!(-32700))
    );
    let turn = socket.ask_prompt(&session, &["three"]);
    assert_eq!(socket.answer(turn)["result"]["stopReason"], "end_turn");
    // Bytes that are no text are nothing that could be answered.
    socket.socket.send(Message::binary(vec![0_u8; 4])).unwrap();
    assert_eq!(socket.closed(), Some(1003));
}

#[test]
fn a_client_that_speaks_nonsense_for_too_long_is_told_why_it_is_cut_off() {
    let bus = Bus::start();
    let mut socket = enter(&bus);
    for _ in 0..65 {
        socket.send("nonsense");
    }
    assert_eq!(socket.closed(), Some(1008));
}

#[test]
fn a_frame_over_the_limit_ends_its_connection_and_nothing_else() {
    let bus = Bus::start();
    let mut other = enter(&bus);
    let kept = other.session();
    let mut socket = enter(&bus);
    let session = socket.session();
    let long = "x".repeat(8 * 1024 * 1024 + 1);
    // Fails when the bus hangs up before the end of the frame.
    let _ = socket.socket.send(Message::text(long));
    while socket.read().is_some() {}
    let turn = other.ask_prompt(&kept, &["on"]);
    assert_eq!(other.answer(turn)["result"]["stopReason"], "end_turn");
    let mut back = Editor::ready(&bus, &[], &json!({}));
    assert!(back.load(&session).get("result").is_some());
    back.end();
}

#[test]
fn a_turn_goes_on_when_its_connection_is_closed_in_the_middle() {
    let bus = Bus::start();
    for polite in [true, false] {
        let mut socket = enter(&bus);
        let session = socket.session();
        socket.ask_prompt(&session, &["one", "/wait 2", "two"]);
        socket.socket.flush().unwrap();
        socket.find(|frame| frame["params"]["update"]["content"]["text"] == "one");
        if polite {
            socket.socket.close(None).unwrap();
            while socket.read().is_some() {}
        }
        drop(socket);
        let mut back = Editor::ready(&bus, &[], &json!({}));
        assert!(back.load(&session).get("result").is_some());
        back.hear("two");
        let done = back.prompt(&session, &["on"]);
        assert_eq!(done["result"]["stopReason"], "end_turn", "{done}");
        back.end();
    }
}
