//! Programs that an agent runs through the bus.
//!
//! Their directory is inside the root; what they do there is theirs, as it is of every program that
//! the agent starts by itself. They end with the agent.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use agentbus_process::{Exit, ExitOutcome, Process, Program};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::files::Ground;
use crate::limits::{STOP_GRACE, TERMINAL_BYTES, TERMINALS_MAX};
use crate::sdk::driving::{Answer, Refusal, TerminalExit};

/// The terminals of one process of an agent.
#[derive(Debug)]
pub(super) struct Terminals {
    ground: Arc<Ground>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    terminals: HashMap<String, Arc<Terminal>>,
    last: u64,
}

#[derive(Debug)]
struct Terminal {
    output: Arc<Mutex<Output>>,
    exit: watch::Receiver<Option<TerminalExit>>,
    kill: CancellationToken,
    /// Ends the program when the terminal is released.
    _task: AbortOnDropHandle<()>,
}

/// The last that a program wrote.
#[derive(Debug)]
struct Output {
    bytes: Vec<u8>,
    max: usize,
    truncated: bool,
}

impl Terminals {
    pub(super) fn new(ground: Arc<Ground>) -> Self {
        Self {
            ground,
            open: Mutex::default(),
        }
    }

    /// Starts a program and returns the id of its terminal.
    pub(super) async fn create(
        &self,
        argv: Vec<String>,
        env: Vec<(String, String)>,
        cwd: Option<PathBuf>,
        output_bytes: Option<u64>,
    ) -> Result<String, Refusal> {
        if self.open.lock().terminals.len() >= TERMINALS_MAX {
            return Err(Refusal::Failed(format!(
                "{TERMINALS_MAX} terminals are open; release one first"
            )));
        }
        let cwd = match cwd {
            Some(cwd) => self.ground.directory(&cwd)?,
            None => self.ground.root().to_owned(),
        };
        let asked = output_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let output = Arc::new(Mutex::new(Output {
            bytes: Vec::new(),
            max: asked.unwrap_or(TERMINAL_BYTES).min(TERMINAL_BYTES),
            truncated: false,
        }));
        let program = Program::from_argv(argv.into_iter().map(Into::into).collect())
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        let errors = Arc::clone(&output);
        let program = program.current_dir(cwd).on_stderr(move |line| {
            let mut output = errors.lock();
            output.add(line.as_bytes());
            output.add(b"\n");
        });
        let add = |program: Program, (name, value)| program.env(name, value);
        let process = env.into_iter().fold(program, add).spawn().await;
        let process = process.map_err(|error| Refusal::Failed(error.to_string()))?;
        Ok(self.add(process, output))
    }

    fn add(&self, process: Process, output: Arc<Mutex<Output>>) -> String {
        let (publish, exit) = watch::channel(None);
        let kill = CancellationToken::new();
        let task = run(process, Arc::clone(&output), kill.clone(), publish);
        let terminal = Terminal {
            output,
            exit,
            kill,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        };
        let mut open = self.open.lock();
        open.last += 1;
        let id = format!("terminal-{}", open.last);
        open.terminals.insert(id.clone(), Arc::new(terminal));
        id
    }

    pub(super) fn output(&self, id: &str) -> Result<Answer, Refusal> {
        let terminal = self.find(id)?;
        let exit = terminal.exit.borrow().clone();
        let output = terminal.output.lock();
        Ok(Answer::Output {
            text: output.text(),
            truncated: output.truncated,
            exit,
        })
    }

    /// Waits until the program has ended.
    pub(super) async fn exit(&self, id: &str) -> Result<TerminalExit, Refusal> {
        let mut exit = self.find(id)?.exit.clone();
        let exit = exit.wait_for(Option::is_some).await;
        let exit = exit.ok().and_then(|exit| exit.clone());
        exit.ok_or_else(|| Refusal::Missing(format!("the terminal `{id}` was released")))
    }

    /// Ends the program; its output stays.
    pub(super) async fn kill(&self, id: &str) -> Result<(), Refusal> {
        self.find(id)?.kill.cancel();
        self.exit(id).await.map(drop)
    }

    pub(super) fn release(&self, id: &str) -> Result<(), Refusal> {
        let released = self.open.lock().terminals.remove(id);
        released.map(drop).ok_or_else(|| missing(id))
    }

    fn find(&self, id: &str) -> Result<Arc<Terminal>, Refusal> {
        let open = self.open.lock();
        open.terminals.get(id).cloned().ok_or_else(|| missing(id))
    }
}

fn missing(id: &str) -> Refusal {
    Refusal::Missing(format!("there is no terminal `{id}`"))
}

/// Collects the output of a program until it ends or is ended.
async fn run(
    mut process: Process,
    output: Arc<Mutex<Output>>,
    kill: CancellationToken,
    publish: watch::Sender<Option<TerminalExit>>,
) {
    let stdout = process.take_stdout();
    let reading = async {
        let Some(mut stdout) = stdout else { return };
        let mut chunk = vec![0; agentbus_process::limits::READ_BYTES];
        while let Ok(count @ 1..) = stdout.read(&mut chunk).await {
            output.lock().add(&chunk[..count]);
        }
    };
    let ending = async {
        tokio::select! {
            outcome = process.wait() => return outcome,
            () = kill.cancelled() => {}
        }
        process.terminate(STOP_GRACE).await
    };
    let ((), outcome) = tokio::join!(reading, ending);
    publish.send_replace(Some(exit_of(&outcome)));
}

fn exit_of(outcome: &ExitOutcome) -> TerminalExit {
    match outcome.exit {
        Exit::Code(code) => TerminalExit {
            code: u32::try_from(code).ok(),
            signal: None,
        },
        Exit::Signal(number) => TerminalExit {
            code: None,
            signal: Some(signal_name(number)),
        },
        Exit::Unknown => TerminalExit {
            code: None,
            signal: None,
        },
    }
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        6 => "SIGABRT",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

impl Output {
    /// Adds to the end; the beginning goes when there is too much.
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Twice the limit before it is cut, so that a byte is moved once and not with every line.
        if self.bytes.len() > 2 * self.max {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let over = self.bytes.len().saturating_sub(self.max);
        self.truncated |= over > 0;
        self.bytes.drain(..over);
    }

    /// The text within the limit, from the beginning of a character.
    fn text(&self) -> String {
        let over = self.bytes.len().saturating_sub(self.max);
        let kept = &self.bytes[over..];
        let begins = kept
            .iter()
            .position(|byte| byte & 0xC0 != 0x80)
            .unwrap_or(kept.len());
        String::from_utf8_lossy(&kept[begins..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminals() -> (tempfile::TempDir, Terminals) {
        let dir = tempfile::tempdir().unwrap();
        let ground = Arc::new(Ground::open(dir.path()).unwrap());
        (dir, Terminals::new(ground))
    }

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_program_is_run_read_and_released() {
        let (dir, terminals) = terminals();
        let script = argv(&["sh", "-c", "pwd; echo $GREETING >&2; exit 3"]);
        let env = vec![("GREETING".to_owned(), "hello".to_owned())];
        let id = terminals.create(script, env, None, None).await.unwrap();
        let exit = terminals.exit(&id).await.unwrap();
        assert_eq!((exit.code, exit.signal), (Some(3), None));
        let Answer::Output {
            text,
            truncated,
            exit,
        } = terminals.output(&id).unwrap()
        else {
            panic!("another answer");
        };
        let root = dir.path().canonicalize().unwrap();
        assert!(
            text.contains(root.to_str().unwrap()) && text.contains("hello\n"),
            "{text}"
        );
        assert!(!truncated && exit.is_some());
        terminals.release(&id).unwrap();
        assert!(matches!(terminals.output(&id), Err(Refusal::Missing(_))));
        assert!(matches!(terminals.release(&id), Err(Refusal::Missing(_))));
    }

    #[tokio::test]
    async fn a_killed_program_keeps_its_output_and_says_so() {
        let (_dir, terminals) = terminals();
        let id = terminals
            .create(argv(&["sleep", "60"]), vec![], None, None)
            .await
            .unwrap();
        terminals.kill(&id).await.unwrap();
        let exit = terminals.exit(&id).await.unwrap();
        assert_eq!((exit.code, exit.signal.as_deref()), (None, Some("SIGTERM")));
        assert!(terminals.output(&id).is_ok());
    }

    #[tokio::test]
    async fn directories_outside_and_too_many_terminals_are_refused() {
        let (_dir, terminals) = terminals();
        let outside = terminals
            .create(argv(&["true"]), vec![], Some("/".into()), None)
            .await;
        assert!(matches!(outside, Err(Refusal::Invalid(_))));
        for _ in 0..TERMINALS_MAX {
            terminals
                .create(argv(&["true"]), vec![], None, None)
                .await
                .unwrap();
        }
        let more = terminals.create(argv(&["true"]), vec![], None, None).await;
        assert!(matches!(more, Err(Refusal::Failed(_))));
    }

    #[test]
    fn output_is_cut_at_its_beginning_and_between_characters() {
        let mut output = Output {
            bytes: Vec::new(),
            max: 5,
            truncated: false,
        };
        output.add("äää".as_bytes());
        assert_eq!(output.text(), "ää");
        output.add(b"0123456789");
        assert_eq!((output.text().as_str(), output.truncated), ("56789", true));
    }
}
