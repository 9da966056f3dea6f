//! Whether a server answers, asked in the words of its own protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Says something and returns the first bytes of the answer.
fn ask(port: u16, words: &[u8]) -> Option<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.write_all(words).ok()?;
    let mut answer = vec![0; 64];
    let length = stream.read(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// A NATS server speaks first.
pub(super) fn nats(port: u16) -> bool {
    ask(port, b"").is_some_and(|answer| answer.starts_with(b"INFO "))
}

pub(super) fn redis(port: u16) -> bool {
    ask(port, b"PING\r\n").is_some_and(|answer| answer.starts_with(b"+PONG"))
}

/// A RabbitMQ server answers the protocol header with the frame of a method on channel 0.
pub(super) fn rabbitmq(port: u16) -> bool {
    ask(port, b"AMQP\x00\x00\x09\x01").is_some_and(|answer| answer.starts_with(&[1, 0, 0]))
}

/// A Kafka broker is asked which requests it knows, under a number that stands in its answer. It
/// answers once it has joined its cluster.
pub(super) fn kafka(port: u16) -> bool {
    const QUESTION: &[u8] = b"\x00\x00\x00\x0a\x00\x12\x00\x00busy\xff\xff";
    ask(port, QUESTION).is_some_and(|answer| answer.get(4..8) == Some(b"busy".as_slice()))
}

/// A PostgreSQL server says to a request for encryption whether it has it. While it starts it
/// refuses sessions, but not this question, so a session is begun as well.
pub(super) fn postgres(port: u16) -> bool {
    const ENCRYPTION: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    const SESSION: &[u8] = b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00";
    let speaks =
        ask(port, &ENCRYPTION).is_some_and(|answer| [b"S".as_slice(), b"N"].contains(&&*answer));
    // `R` asks for or waives a password; `E` is a refusal.
    speaks && ask(port, SESSION).is_some_and(|answer| answer.starts_with(b"R"))
}
