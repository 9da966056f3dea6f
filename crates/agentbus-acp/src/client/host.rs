//! What an agent is answered when it asks: permissions, files, terminals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentbus_decisions::Form;
use serde_json::Value;

use super::files::Ground;
use super::routes::{Routes, Turn};
use super::terminals::Terminals;
use crate::config::{AgentConfig, Policy, ToolKind};
use crate::decide::{self, Asker, Choice, Decider, Question};
use crate::limits;
use crate::sdk::driving::{Answer, Ask, Host, Refusal};
use crate::sdk::elicitation::{Elicit, Want};

/// Answers the requests of one process of an agent.
#[derive(Debug)]
pub(super) struct AgentHost {
    asker: Asker,
    policy: Policy,
    allow_kinds: Vec<ToolKind>,
    patience: Duration,
    decider: Arc<dyn Decider>,
    /// `None` serves neither files nor terminals.
    grounds: Option<Grounds>,
    routes: Arc<Routes>,
}

#[derive(Debug)]
struct Grounds {
    ground: Arc<Ground>,
    terminals: Terminals,
}

/// Counts a question for as long as it is open.
struct Asking<'a>(&'a AtomicUsize);

impl AgentHost {
    pub(super) fn new(
        config: &AgentConfig,
        decider: &Arc<dyn Decider>,
        ground: &Option<Arc<Ground>>,
        routes: Arc<Routes>,
    ) -> Self {
        let grounds = ground.as_ref().map(|ground| Grounds {
            ground: Arc::clone(ground),
            terminals: Terminals::new(Arc::clone(ground)),
        });
        Self {
            asker: Asker::agent(&config.name),
            policy: config.policy,
            allow_kinds: config.allow_kinds.clone(),
            patience: config.limits.decision(),
            decider: Arc::clone(decider),
            grounds,
            routes,
        }
    }

    /// Returns the option that is chosen; `None` cancels.
    async fn permission(&self, session: &str, mut question: Question) -> Option<String> {
        // Outside of a turn, and after its cancel, nothing is allowed any more.
        let (name, turn) = self.turn(session)?;
        if let Some(decided) = self.by_policy(&question) {
            return decided;
        }
        question.session = name;
        let answer = self.ask(&turn, question).await?;
        Some(answer.option)
    }

    /// Returns what is answered; `None` cancels. What is asked for are facts, which no policy can
    /// invent: only `deny` needs no person.
    async fn elicit(&self, elicit: Elicit) -> Result<Option<decide::Answer>, Refusal> {
        let asker = self.asker.clone();
        let question = match elicit.want {
            Want::Fields(schema) => {
                let form = Form::new(schema);
                let form = form.map_err(|error| Refusal::Invalid(error.to_string()))?;
                Question::form(asker, elicit.message, form)
            }
            Want::Visit { url, name } => Question::url(asker, elicit.message, url, name)
                .map_err(|error| Refusal::Invalid(error.to_string()))?,
        };
        let mut question = Question {
            detail: elicit.detail,
            patience: self.patience,
            ..question
        };
        if self.policy == Policy::Deny {
            return Ok(Some(decide::Answer::option(Question::DECLINE)));
        }
        let Some(session) = elicit.session else {
            // A session is being opened, which is waited for so long and no longer.
            question.patience = question.patience.min(limits::SESSION_OPENING);
            return Ok(self.decider.decide(question).await);
        };
        let Some((name, turn)) = self.turn(&session) else {
            return Ok(None);
        };
        question.session = name;
        Ok(self.ask(&turn, question).await)
    }

    /// The session's name on the bus and its turn, unless that was told to stop.
    fn turn(&self, session: &str) -> Option<(String, Turn)> {
        let (name, turn) = self.routes.find(session)?;
        let turn = turn.filter(|turn| !turn.cancelled.is_cancelled())?;
        Some((name, turn))
    }

    async fn ask(&self, turn: &Turn, question: Question) -> Option<decide::Answer> {
        let _asking = Asking::new(&turn.asking);
        let known = question.option_ids();
        let patience = question.patience;
        tokio::select! {
            biased;
            () = turn.cancelled.cancelled() => None,
            () = tokio::time::sleep(patience) => None,
            answer = self.decider.decide(question) => {
                answer.filter(|answer| known.contains(&answer.option))
            }
        }
    }

    /// What needs no person; the outer `None` says that one has to be asked.
    #[expect(clippy::option_option, reason = "cancelled is a decision too")]
    fn by_policy(&self, question: &Question) -> Option<Option<String>> {
        let offers = |kind: &str| {
            let option = question.options.iter().find(|option| option.kind == kind);
            option.map(|option| option.id.clone())
        };
        let kind = match &question.ask {
            decide::Ask::Permission { kind } => kind.clone().map(Value::String),
            _ => None,
        };
        let kind = kind.and_then(|kind| serde_json::from_value(kind).ok());
        let listed = kind.is_some_and(|kind| self.allow_kinds.contains(&kind));
        // An agent that offers no such option asks for more than a list may give.
        if let Some(option) = offers("allow_once").filter(|_| listed) {
            return Some(Some(option));
        }
        match self.policy {
            Policy::AllowOnce => offers("allow_once").map(Some),
            Policy::Deny => Some(offers("reject_once").or_else(|| offers("reject_always"))),
            Policy::Ask => None,
        }
    }

    fn grounds(&self, method: &str) -> Result<&Grounds, Refusal> {
        let grounds = self.grounds.as_ref();
        grounds.ok_or_else(|| Refusal::Unserved(method.to_owned()))
    }

    fn terminals(&self) -> Result<&Terminals, Refusal> {
        Ok(&self.grounds("terminal/create")?.terminals)
    }
}

impl Host for AgentHost {
    async fn answer(&self, ask: Ask) -> Result<Answer, Refusal> {
        match ask {
            Ask::Permission {
                session,
                title,
                kind,
                detail,
                options,
            } => {
                let question = self.question(title, kind, detail, options);
                Ok(Answer::Chosen(self.permission(&session, question).await))
            }
            Ask::Elicit(elicit) => Ok(Answer::Elicited(self.elicit(elicit).await?)),
            Ask::Read { path, line, limit } => {
                let ground = &self.grounds("fs/read_text_file")?.ground;
                Ok(Answer::Text(ground.read(path, line, limit).await?))
            }
            Ask::Write { path, content } => {
                let ground = &self.grounds("fs/write_text_file")?.ground;
                ground.write(path, content).await?;
                Ok(Answer::Written)
            }
            Ask::CreateTerminal {
                argv,
                env,
                cwd,
                output_bytes,
            } => {
                let id = self
                    .terminals()?
                    .create(argv, env, cwd, output_bytes)
                    .await?;
                Ok(Answer::Terminal(id))
            }
            Ask::TerminalOutput(id) => self.terminals()?.output(&id),
            Ask::TerminalExit(id) => Ok(Answer::Exited(self.terminals()?.exit(&id).await?)),
            Ask::KillTerminal(id) => {
                self.terminals()?.kill(&id).await?;
                Ok(Answer::Killed)
            }
            Ask::ReleaseTerminal(id) => {
                self.terminals()?.release(&id)?;
                Ok(Answer::Released)
            }
            Ask::Unknown(method) => Err(Refusal::Unserved(method)),
        }
    }

    fn completed(&self, elicitation: &str) {
        self.decider.complete(&self.asker, elicitation);
    }
}

impl AgentHost {
    fn question(
        &self,
        title: String,
        kind: Option<String>,
        detail: Value,
        options: Vec<Choice>,
    ) -> Question {
        let ask = decide::Ask::Permission { kind };
        Question {
            detail,
            patience: self.patience,
            ..Question::new(self.asker.clone(), title, ask, options)
        }
    }
}

impl<'a> Asking<'a> {
    fn new(asking: &'a AtomicUsize) -> Self {
        asking.fetch_add(1, Ordering::AcqRel);
        Self(asking)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
