//! A bus with one agent whose wire is recorded.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentbus::{Bus, Error, ErrorPayload, FrameKind, Frames};
use agentbus_acp::decide::Nobody;
use agentbus_acp::{AgentConfig, AgentTargets, Decider, SessionLog};
use serde_json::Value;

use crate::schema;

pub(crate) const RIG: &str = env!("CARGO_BIN_EXE_agentbus-acp-rig");

pub(crate) struct Fixture {
    pub(crate) bus: Bus,
    pub(crate) agents: AgentTargets,
    pub(crate) log: SessionLog,
    pub(crate) dir: tempfile::TempDir,
}

/// What a turn came to.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) started: Value,
    pub(crate) updates: Vec<Value>,
    pub(crate) last: Value,
}

impl Turn {
    pub(crate) fn text(&self) -> &str {
        self.last["text"].as_str().unwrap()
    }

    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.updates
            .iter()
            .filter_map(|update| update["sessionUpdate"].as_str())
            .collect()
    }
}

pub(crate) fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Fixture {
    /// The agent that does what its prompts say, with these flags.
    pub(crate) async fn rig(flags: &[&str]) -> Self {
        Self::rig_with(flags, |_| {}, Arc::new(Nobody)).await
    }

    pub(crate) async fn rig_with(
        flags: &[&str],
        change: impl FnOnce(&mut AgentConfig),
        decider: Arc<dyn Decider>,
    ) -> Self {
        let mut command = argv(&[RIG, "agent"]);
        command.extend(argv(flags));
        Self::start(command, change, decider).await
    }

    pub(crate) async fn start(
        command: Vec<String>,
        change: impl FnOnce(&mut AgentConfig),
        decider: Arc<dyn Decider>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut tapped = argv(&[RIG, "tap"]);
        tapped.push(dir.path().join("wire").to_str().unwrap().to_owned());
        tapped.extend(command);
        let mut config = AgentConfig::new("rig", tapped);
        config.cwd = Some(dir.path().canonicalize().unwrap());
        change(&mut config);
        let bus = Bus::builder("test").connect().await.unwrap();
        let log = SessionLog::open(dir.path().join("sessions.db")).unwrap();
        let agents = AgentTargets::start(&bus, vec![config], decider, Some(log.clone()))
            .await
            .unwrap();
        Self {
            bus,
            agents,
            log,
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub(crate) async fn open(&self, session: &str, prompt: &str) -> Frames {
        let stream = self
            .bus
            .stream("rig", &Value::from(prompt))
            .session(session.to_owned());
        stream.idle_timeout(Duration::from_secs(30)).await.unwrap()
    }

    /// Runs a turn to its end.
    pub(crate) async fn turn(&self, session: &str, prompt: &str) -> Result<Turn, Error> {
        collect(self.open(session, prompt).await).await
    }

    pub(crate) async fn say(&self, session: &str, prompt: &str) -> String {
        self.turn(session, prompt).await.unwrap().text().to_owned()
    }

    pub(crate) fn wire(&self) -> String {
        std::fs::read_to_string(self.path("wire")).unwrap_or_default()
    }

    /// Ends everything and holds the recording against the schema.
    pub(crate) async fn end(self) -> String {
        let wire = self.recorded().await;
        schema::check(&wire);
        wire
    }

    /// The same for an agent that writes what is no message, or was killed while it wrote.
    pub(crate) async fn end_spoilt(self) {
        schema::check_spoilt(&self.recorded().await);
    }

    async fn recorded(self) -> String {
        self.agents.shutdown().await;
        self.bus.shutdown().await;
        self.log.close().await;
        self.wire()
    }
}

pub(crate) async fn collect(mut frames: Frames) -> Result<Turn, Error> {
    let mut turn = Turn {
        started: Value::Null,
        updates: Vec::new(),
        last: Value::Null,
    };
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        let payload = frame
            .payload
            .as_ref()
            .map(|it| it.decode::<Value>().unwrap());
        let payload = payload.unwrap_or_default();
        match frame.event_type.frame_kind() {
            Some(FrameKind::Started) => turn.started = payload,
            // What an agent tells of a new session comes before the first turn or within it.
            Some(FrameKind::Delta) if payload["availableCommands"].is_array() => {}
            Some(FrameKind::Delta) => turn.updates.push(payload),
            Some(FrameKind::Error) => {
                return Err(serde_json::from_value::<ErrorPayload>(payload)
                    .unwrap()
                    .into());
            }
            _ => turn.last = payload,
        }
    }
    Ok(turn)
}
