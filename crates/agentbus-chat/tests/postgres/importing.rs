//! Taking over the database of an AgentChatBus into a shared one.

use agentbus_chat::store::MessageQuery;
use agentbus_chat::{Credentials, Draft, MessageId};

use crate::nodes::{node, schema};
use crate::old::write_old;

const MESSAGES: i64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_database_is_imported_once_and_seen_by_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("bus.db");
    write_old(&old, MESSAGES);
    let url = schema().await;
    let (here, there) = (node(&url).await, node(&url).await);
    let all = usize::try_from(MESSAGES).unwrap();
    let first = here.import(&old, &mut |_, _| ()).await.unwrap();
    let counts = (first.threads, first.messages, first.agents, first.known);
    assert_eq!(counts, (1, all, 1, 0));
    // Also by another node than the first time.
    let again = there.import(&old, &mut |_, _| ()).await.unwrap();
    let counts = (again.threads, again.messages, again.agents, again.known);
    assert_eq!(counts, (0, 0, 0, all));

    let query = MessageQuery {
        limit: 3,
        ..MessageQuery::default()
    };
    let (page, reactions) = there.messages("t1".into(), query, false).await.unwrap();
    let seqs: Vec<_> = page.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [2, 4, 6]);
    assert_eq!(reactions[0].reaction, "agree");
    let (_, edits) = there.history(MessageId::new("m1")).await.unwrap();
    assert_eq!(edits[0].old_content, "before");
    let agent = Credentials {
        agent_id: "a1".into(),
        token: "secret".into(),
    };
    there.resume(agent).await.unwrap();
    let draft = Draft::new("t1".into(), "human", "new");
    let posted = there.post(draft).await.unwrap();
    assert!(posted.message.seq > 2 * MESSAGES, "no number comes twice");
    assert_eq!(there.check_search().await.unwrap(), None);
    here.close().await;
    there.close().await;
}
