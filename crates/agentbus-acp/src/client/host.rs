//! What an agent is answered when it asks: permissions, files, terminals.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentbus_decisions::Form;
use parking_lot::Mutex;
use serde_json::Value;

use super::files::Ground;
use super::routes::{Routes, Turn};
use super::terminals::Terminals;
use super::visits::Visits;
use crate::company::{Company, Guest, Said};
use crate::config::{AgentConfig, Policy, ToolKind};
use crate::decide::{self, Asker, Choice, Decider, Question};
use crate::limits::TERMINALS_LENT;
use crate::log::Key;
use crate::sdk::driving::{Answer, Ask, Asked, Fault, Host, Refusal};
use crate::sdk::elicitation::{Elicit, Want};

/// Answers the requests of one process of an agent.
#[derive(Debug)]
pub(super) struct AgentHost {
    asker: Asker,
    policy: Policy,
    allow_kinds: Vec<ToolKind>,
    patience: Duration,
    /// What a question gets that is asked while its session is being opened.
    opening: Duration,
    decider: Arc<dyn Decider>,
    company: Company,
    /// Terminals that editors have, by their ids, and which editor.
    lent: Mutex<HashMap<String, u64>>,
    visits: Visits,
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
        (decider, company): (&Arc<dyn Decider>, &Company),
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
            opening: config.limits.opening(),
            decider: Arc::clone(decider),
            company: company.clone(),
            lent: Mutex::default(),
            visits: Visits::default(),
            grounds,
            routes,
        }
    }

    /// Answers with the option that is chosen, or that there is none.
    async fn permission(&self, session: &str, mut question: Question, params: &Value) -> Answer {
        // Outside of a turn, and after its cancel, nothing is allowed any more.
        let Some((key, turn)) = self.turn(session) else {
            return Answer::Chosen(None);
        };
        if let Some(decided) = self.by_policy(&question) {
            return Answer::Chosen(decided);
        }
        question.session.clone_from(&key.session);
        let asked = question.clone();
        let elsewhere = self.company.choose(&key, params, &asked);
        match self.ask(&turn, question, elsewhere).await {
            Some((_, Some(written))) => Answer::Passed(written),
            answered => Answer::Chosen(answered.map(|(answer, _)| answer.option)),
        }
    }

    /// Answers with what a person says, or that nobody did. What is asked for are facts, which no
    /// policy can invent: only `deny` needs no person.
    async fn elicit(&self, elicit: Elicit, mut params: Value) -> Result<Answer, Refusal> {
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
            let declined = decide::Answer::option(Question::DECLINE);
            return Ok(Answer::Elicited(Some(declined)));
        }
        let Some(session) = elicit.session else {
            // A session is being opened, which is waited for so long and no longer.
            question.patience = question.patience.min(self.opening);
            return Ok(Answer::Elicited(self.decider.decide(question).await));
        };
        let Some((key, turn)) = self.turn(&session) else {
            return Ok(Answer::Elicited(None));
        };
        question.session.clone_from(&key.session);
        if let decide::Ask::Url { elicitation, .. } = &question.ask {
            params["elicitationId"] = self.visits.begin(elicitation, Key::clone(&key)).into();
        }
        let asked = question.clone();
        let elsewhere = self.company.elicit(&key, &params, &asked);
        Ok(match self.ask(&turn, question, elsewhere).await {
            Some((_, Some(written))) => Answer::Passed(written),
            answered => Answer::Elicited(answered.map(|(answer, _)| answer)),
        })
    }

    /// What the session is called on the bus and its turn, unless that was told to stop.
    fn turn(&self, session: &str) -> Option<(Arc<Key>, Turn)> {
        let (key, turn) = self.routes.find(session)?;
        let turn = turn.filter(|turn| !turn.cancelled.is_cancelled())?;
        Some((key, turn))
    }

    /// Asks the board, and the editors beside it; the first answer counts. With it comes what an
    /// editor wrote, if it was one.
    async fn ask(
        &self,
        turn: &Turn,
        question: Question,
        elsewhere: impl Future<Output = Said> + Send,
    ) -> Option<(decide::Answer, Option<Value>)> {
        let _asking = Asking::new(&turn.asking);
        let (known, patience) = (question.option_ids(), question.patience);
        let said = Mutex::new(None);
        let elsewhere = Box::pin(async {
            match elsewhere.await {
                Said::Answered(answer, written) => {
                    *said.lock() = Some(written);
                    Some(answer)
                }
                Said::Cancelled => None,
            }
        });
        let answer = tokio::select! {
            biased;
            () = turn.cancelled.cancelled() => None,
            () = tokio::time::sleep(patience) => None,
            answer = self.decider.decide_or(question, elsewhere) => {
                answer.filter(|answer| known.contains(&answer.option))
            }
        };
        Some((answer?, said.into_inner()))
    }

    /// Passes what is asked on to the editor in control, if it serves that; `None` if nobody does.
    async fn lend(&self, asked: &Asked) -> Option<Result<Answer, Refusal>> {
        let (key, _) = self.routes.find(&asked.session)?;
        let guest = match &asked.ask {
            Ask::Read { .. } => self.company.host(&key, |serves| serves.read)?,
            Ask::Write { .. } => self.company.host(&key, |serves| serves.write)?,
            Ask::CreateTerminal { .. } => {
                let guest = self.company.host(&key, |serves| serves.terminal)?;
                return Some(self.lend_terminal(&guest, asked).await);
            }
            Ask::TerminalOutput(id)
            | Ask::TerminalExit(id)
            | Ask::KillTerminal(id)
            | Ask::ReleaseTerminal(id) => {
                let number = *self.lent.lock().get(id)?;
                if matches!(asked.ask, Ask::ReleaseTerminal(_)) {
                    self.lent.lock().remove(id);
                }
                let Some(guest) = self.company.guest(&key, number) else {
                    let gone = format!("the editor that had the terminal `{id}` is gone");
                    return Some(Err(Refusal::Missing(gone)));
                };
                guest
            }
            Ask::Permission { .. } | Ask::Elicit(_) | Ask::Unknown(_) => return None,
        };
        Some(passed(&guest, asked).await)
    }

    async fn lend_terminal(&self, guest: &Guest, asked: &Asked) -> Result<Answer, Refusal> {
        if self.lent.lock().len() >= TERMINALS_LENT {
            return Err(Refusal::Failed(format!(
                "{TERMINALS_LENT} terminals of editors are open; release one first"
            )));
        }
        let answer = passed(guest, asked).await?;
        if let Answer::Passed(told) = &answer
            && let Some(id) = told["terminalId"].as_str()
        {
            self.lent.lock().insert(id.to_owned(), guest.number());
        }
        Ok(answer)
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
    async fn answer(&self, asked: Asked) -> Result<Answer, Refusal> {
        if let Some(answer) = self.lend(&asked).await {
            return answer;
        }
        match asked.ask {
            Ask::Permission {
                title,
                kind,
                detail,
                options,
            } => {
                let question = self.question(title, kind, detail, options);
                let answer = self.permission(&asked.session, question, &asked.params);
                Ok(answer.await)
            }
            Ask::Elicit(elicit) => self.elicit(elicit, asked.params).await,
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
        if let Some((key, name)) = self.visits.end(elicitation) {
            self.company.completed(&key, &name);
        }
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

/// Passes a question on to an editor, and its answer back.
async fn passed(guest: &Guest, asked: &Asked) -> Result<Answer, Refusal> {
    let answer = guest.ask(&asked.method, asked.params.clone()).await;
    answer.map(Answer::Passed).map_err(|error| {
        let fault = Fault::from(error);
        match fault.hung_up {
            true => Refusal::Failed("the editor left before it answered".to_owned()),
            false => Refusal::Passed(fault),
        }
    })
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
