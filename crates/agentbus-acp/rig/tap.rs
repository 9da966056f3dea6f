//! Runs an agent and writes down what passes: `> ` to the agent, `< ` from it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex};

use agentbus_process::{Exit, Lines, Program};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

pub(crate) fn run(file: &str, argv: Vec<String>) -> ! {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    let file = Arc::new(Mutex::new(file));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let code = runtime.block_on(async {
        let program = Program::from_argv(argv.into_iter().map(Into::into).collect()).unwrap();
        let program = program.on_stderr(|line| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
        let mut process = program.spawn().await.unwrap();
        let (stdin, stdout) = (
            process.take_stdin().unwrap(),
            process.take_stdout().unwrap(),
        );
        let inwards = copy("> ", Arc::clone(&file), tokio::io::stdin(), stdin);
        let task = tokio::spawn(inwards);
        copy("< ", file, stdout, tokio::io::stdout()).await;
        let outcome = process.wait().await;
        task.abort();
        match outcome.exit {
            Exit::Code(code) => code,
            _ => 99,
        }
    });
    // The thread that reads standard input cannot be woken.
    std::process::exit(code);
}

async fn copy(
    mark: &str,
    file: Arc<Mutex<File>>,
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut lines = Lines::new(from, 64 * 1024 * 1024);
    while let Ok(Some(line)) = lines.next().await {
        let text = String::from_utf8_lossy(&line).into_owned();
        writeln!(file.lock().unwrap(), "{mark}{text}").unwrap();
        if to.write_all(&line).await.is_err() || to.write_all(b"\n").await.is_err() {
            return;
        }
        let _ = to.flush().await;
    }
}
