//! A hand filled, read and emptied, without any broker.

use std::time::Instant;

use agentbus_protocol::{Envelope, EventType, Subject};

use super::*;
use crate::remote::stamp;
use crate::{Completion, TransportError, Verdict};

/// A message of which a broker would know the number.
#[derive(Debug)]
struct Numbered(u64, Arc<Message>, u32);

impl Taken for Numbered {
    fn message(&self) -> &Arc<Message> {
        &self.1
    }

    fn attempt(&self) -> u32 {
        self.2
    }

    fn sequence(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// Hears verdicts and forgets them.
#[derive(Debug)]
struct Deaf;

impl Settle for Deaf {
    fn settle(self: Arc<Self>, _: u128, _: Verdict) -> Completion<Result<(), TransportError>> {
        Completion::ready(Ok(()))
    }
}

fn numbered(number: u64, is_expired: bool, attempt: u32) -> Numbered {
    let subject = Subject::parse("acp.v1.events.case").unwrap();
    let envelope = Envelope::new(stamp(), EventType::from("case"));
    let mut message = Message::new(subject, envelope);
    message.expires_at = is_expired.then(Instant::now);
    Numbered(number, Arc::new(message), attempt)
}

fn poll(hand: &mut Hand<Numbered>, batch: &mut Vec<Received>, max: usize) -> Handed<Numbered> {
    let cx = Context::from_waker(Waker::noop());
    hand.poll(&cx, batch, max, &(Arc::new(Deaf) as _))
}

fn sequences(batch: &[Received]) -> Vec<u64> {
    let of = |received: &Received| match received {
        Received::Live(delivery) | Received::Expired(delivery) => delivery.sequence(),
        Received::NoResponder | Received::Lost => None,
    };
    batch.iter().filter_map(of).collect()
}

#[test]
fn the_first_read_makes_it_wanted() {
    let mut hand = Hand::default();
    assert!(!hand.is_wanted());
    let handed = poll(&mut hand, &mut Vec::new(), 1);
    assert!(handed.count.is_pending() && handed.wants_more && hand.is_wanted());
    assert!(!poll(&mut hand, &mut Vec::new(), 1).wants_more);
}

#[test]
fn what_is_handed_out_is_held_until_it_is_settled() {
    let mut hand = Hand::default();
    (1..=3).for_each(|number| hand.put(numbered(number, false, 1)));
    let mut batch = Vec::new();
    assert_eq!(poll(&mut hand, &mut batch, 2).count, Poll::Ready(2));
    assert_eq!(sequences(&batch), [1, 2]);
    assert_eq!((hand.ready.len(), hand.held.len()), (1, 2));
    let settled = hand.held.remove(&1).unwrap();
    hand.put_front(settled);
    assert_eq!(poll(&mut hand, &mut batch, 9).count, Poll::Ready(2));
    assert_eq!(sequences(&batch), [1, 2, 1, 3]);
    let stats = hand.stats("p", None, 8);
    assert_eq!((stats.delivered, stats.redelivered), (4, 1));
}

#[test]
fn what_expired_is_told_and_not_held() {
    let mut hand = Hand::default();
    hand.put(numbered(1, true, 2));
    let mut batch = Vec::new();
    let handed = poll(&mut hand, &mut batch, 9);
    assert!(matches!(batch[0], Received::Expired(_)));
    assert_eq!(handed.expired[0].0, 1);
    assert!(handed.wants_more && hand.held.is_empty());
    let stats = hand.stats("p", Some("g"), 8);
    assert_eq!((stats.expired, stats.redelivered), (1, 1));
}

#[test]
fn its_end_comes_after_what_is_left() {
    let mut hand = Hand::default();
    hand.put(numbered(1, false, 1));
    hand.end();
    assert!(!hand.is_drained());
    assert!(poll(&mut hand, &mut Vec::new(), 9).is_drained);
    assert_eq!(poll(&mut hand, &mut Vec::new(), 9).count, Poll::Ready(0));
    assert!(!hand.is_wanted());
}
