use agentbus_protocol::{Envelope, EventType};

use super::amb::Extra;
use super::*;
use crate::Message;
use crate::remote::stamp;

/// What a replier elsewhere sends to an inbox.
fn reply(inbox: &Inbox, replier: &str) -> Read {
    let envelope = Envelope::new(stamp(), EventType::from("reply"));
    let extra = Extra {
        notice: None,
        replier: Some(replier),
    };
    let message = Message::new(inbox.subject().clone(), envelope);
    amb::decode(&amb::encode(&message, &extra).into()).unwrap()
}

#[tokio::test]
async fn a_reply_finds_its_call() {
    let inboxes = Arc::new(Inboxes::new("test", "me"));
    let (mut one, two) = (inboxes.open(()).unwrap(), inboxes.open(()).unwrap());
    assert_eq!(Inboxes::client_of(one.subject().as_str()), "me");
    assert!(inboxes.take(reply(&one, "you")).is_none());
    assert!(matches!(one.receive().await, Some(Received::Live(_))));
    assert_eq!(inboxes.len(), 2);
    drop(two);
    assert_eq!(inboxes.len(), 1);
}

#[test]
fn a_replier_is_told_once_that_nobody_reads() {
    let (caller, agent) = (
        Arc::new(Inboxes::new("test", "caller")),
        Inboxes::new("test", "agent"),
    );
    let inbox = caller.open(()).unwrap();
    let (subject, late) = (inbox.subject().clone(), reply(&inbox, "agent"));
    assert!(!agent.is_gone(subject.as_str()) && !caller.is_gone(subject.as_str()));
    drop(inbox);
    assert!(caller.is_gone(subject.as_str()));
    let (told, notice) = caller.take(late).unwrap();
    assert_eq!(told, "agent");
    assert!(agent.take(amb::decode(&notice.into()).unwrap()).is_none());
    assert!(agent.is_gone(subject.as_str()));
}

#[test]
fn our_own_inboxes_need_no_notice() {
    let inboxes = Arc::new(Inboxes::new("test", "me"));
    let inbox = inboxes.open(()).unwrap();
    assert_eq!(inboxes.replier(inbox.subject().as_str()), None);
    assert_eq!(inboxes.replier("_INBOX.you.token"), Some("me"));
}
