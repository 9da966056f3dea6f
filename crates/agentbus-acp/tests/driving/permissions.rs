//! What an agent may do: permissions, files, terminals.

use std::sync::Arc;
use std::time::Duration;

use agentbus::transport::BoxFuture;
use agentbus_acp::config::ToolKind;
use agentbus_acp::decide::{Answer, Ask, Asker, Nobody};
use agentbus_acp::{AgentConfig, Decider, Policy, Question};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::fixture::Fixture;

/// Answers with the same option each time, after a while if told to; `None` never answers.
#[derive(Debug, Default)]
struct Someone {
    answer: Option<&'static str>,
    asked: Mutex<Vec<Question>>,
    heard: Notify,
}

impl Someone {
    fn saying(answer: &'static str) -> Arc<Self> {
        Arc::new(Self {
            answer: Some(answer),
            ..Self::default()
        })
    }
}

impl Decider for Someone {
    fn decide(&self, question: Question) -> BoxFuture<'_, Option<Answer>> {
        self.asked.lock().push(question);
        self.heard.notify_one();
        Box::pin(async {
            match self.answer {
                Some(answer) => Some(Answer::option(answer)),
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test]
async fn a_person_is_asked_and_the_agent_hears_the_answer() {
    let someone = Someone::saying("yes");
    let it = Fixture::rig_with(&[], |_| {}, someone.clone()).await;
    assert_eq!(it.say("s", "ask edit").await, "yes");
    let asked = someone.asked.lock().remove(0);
    assert_eq!(
        (asked.asker, asked.session.as_str()),
        (Asker::agent("rig"), "s")
    );
    let kind = Some("edit".to_owned());
    assert_eq!(
        (asked.title.as_str(), asked.ask),
        ("Delete the world", Ask::Permission { kind })
    );
    let options: Vec<_> = asked
        .options
        .iter()
        .map(|it| (it.id.as_str(), it.kind.as_str()))
        .collect();
    assert_eq!(options, [("yes", "allow_once"), ("no", "reject_once")]);
    assert_eq!(asked.detail["toolCallId"], "t2");
    it.end().await;
}

#[tokio::test]
async fn an_answer_that_is_no_option_cancels() {
    let it = Fixture::rig_with(&[], |_| {}, Someone::saying("maybe")).await;
    assert_eq!(it.say("s", "ask edit").await, "cancelled");
    it.end().await;
}

#[tokio::test]
async fn policies_decide_without_a_person() {
    for (policy, kinds, kind, want) in [
        (Policy::AllowOnce, vec![], "edit", "yes"),
        (Policy::Deny, vec![], "edit", "no"),
        (Policy::Deny, vec![ToolKind::Read], "read", "yes"),
        (Policy::Deny, vec![ToolKind::Read], "edit", "no"),
        (Policy::Ask, vec![ToolKind::Read], "read", "yes"),
        (Policy::Ask, vec![ToolKind::Read], "edit", "cancelled"),
    ] {
        let change = |config: &mut AgentConfig| {
            config.policy = policy;
            config.allow_kinds.clone_from(&kinds);
        };
        let it = Fixture::rig_with(&[], change, Arc::new(Nobody)).await;
        assert_eq!(
            it.say("s", &format!("ask {kind}")).await,
            want,
            "{policy:?} {kinds:?} {kind}"
        );
        it.end().await;
    }
}

#[tokio::test]
async fn a_question_is_out_of_time_after_a_while() {
    let someone = Arc::new(Someone::default());
    let it = Fixture::rig_with(&[], |config| config.limits.decision_s = 1, someone).await;
    assert_eq!(it.say("s", "ask edit").await, "cancelled");
    it.end().await;
}

#[tokio::test]
async fn a_cancelled_turn_answers_its_questions_and_those_that_come_after() {
    let someone = Arc::new(Someone::default());
    let it = Fixture::rig_with(&[], |_| {}, someone.clone()).await;
    // The rig asks once more when it has heard of the cancel.
    let frames = it.open("s", "ask edit; wait; ask edit").await;
    someone.heard.notified().await;
    drop(frames);
    assert_eq!(it.say("s", "say next").await, "next");
    assert_eq!(
        someone.asked.lock().len(),
        1,
        "nobody is asked after a cancel"
    );
    let wire = it.end().await;
    let cancelled = wire
        .lines()
        .filter(|it| it.starts_with("> ") && it.contains("\"outcome\":\"cancelled\""));
    assert_eq!(cancelled.count(), 2, "{wire}");
}

#[tokio::test]
async fn a_storm_of_questions_is_refused_beyond_a_limit() {
    let someone = Arc::new(Someone::default());
    let it = Fixture::rig_with(&[], |config| config.limits.decision_s = 1, someone.clone()).await;
    let said = tokio::time::timeout(Duration::from_secs(20), it.say("s", "storm 80"))
        .await
        .unwrap();
    assert_eq!(said, "16 refused");
    assert_eq!(someone.asked.lock().len(), 64);
    it.end().await;
}

#[tokio::test]
async fn files_and_terminals_are_served_inside_the_root_and_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&secret, root.join("link")).unwrap();
    std::fs::write(root.join("a.txt"), "content").unwrap();
    let up = format!(
        "../{}/secret",
        outside.path().file_name().unwrap().display()
    );
    let change = |config: &mut AgentConfig| config.root = Some(root.clone());
    let it = Fixture::rig_with(&[], change, Arc::new(Nobody)).await;
    let path = |name: &str| root.join(name).display().to_string();
    let said = it.say("s", &format!("read {}", path("a.txt"))).await;
    assert_eq!(said, r#"{"content":"content"}"#);
    it.say("s", &format!("write {}", path("b.txt"))).await;
    assert_eq!(
        std::fs::read_to_string(root.join("b.txt")).unwrap(),
        "written"
    );
    for bad in [secret.display().to_string(), path("link"), path(&up)] {
        let read = it.say("s", &format!("read {bad}")).await;
        assert!(read.contains("error -3260"), "{bad}: {read}");
        let written = it.say("s", &format!("write {bad}")).await;
        assert!(written.contains("error -3260"), "{bad}: {written}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    let ran = it.say("s", "run pwd && exit 4").await;
    assert_eq!(ran, format!("4 \"{}\\n\"", root.display()));
    let wire = it.end().await;
    assert!(wire.lines().next().unwrap().contains("\"terminal\":true"));
}
