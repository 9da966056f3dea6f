//! The log in a file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus_transport::Transport;
use agentbus_transport_sqlite::{Options, SqliteTransport};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::messages::{all, message, publish, settle};
use crate::report::{Report, median, percentile};

/// How long one side of a comparison runs before the other has its turn: short, because a disk that
/// others use is another disk a second later.
const TURN: Duration = Duration::from_millis(300);

/// Turns of each side; odd, for the median.
const TURNS: usize = 15;

/// Replays of each side.
const REPLAYS: usize = 5;

/// Messages of the figures that are not limited by the disk's syncs.
const MESSAGES: u64 = 30_000;

struct Log {
    transport: Arc<SqliteTransport>,
    dir: TempDir,
}

impl Log {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path().join("bus.db"));
        let transport = Arc::new(SqliteTransport::open(options).await.unwrap());
        Self { transport, dir }
    }

    /// A log with messages in it, published side by side.
    async fn filled() -> Self {
        let log = Self::open().await;
        let filling: Vec<_> = (0..64)
            .map(|_| {
                let transport = Arc::clone(&log.transport);
                tokio::spawn(async move {
                    for n in 0..MESSAGES.div_ceil(64) {
                        publish(&*transport, n).await;
                    }
                })
            })
            .collect();
        for filler in filling {
            filler.await.unwrap();
        }
        log
    }
}

/// The raw side: rows as large as ours, in one table, synced with each commit.
struct Raw {
    connection: Connection,
    row: Vec<u8>,
    _dir: TempDir,
}

impl Raw {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("raw.db")).unwrap();
        set_up(&connection);
        Self {
            connection,
            row: message(0).envelope.encode(),
            _dir: dir,
        }
    }

    fn append(&self, rows: usize) {
        let run = |sql: &str| self.connection.prepare_cached(sql).unwrap();
        run("BEGIN IMMEDIATE").execute(()).unwrap();
        for _ in 0..rows {
            run("INSERT INTO log (at, subject, envelope) VALUES (?1, ?2, ?3)")
                .execute(params![0, "acp.v1.events.bench", self.row])
                .unwrap();
        }
        run("COMMIT").execute(()).unwrap();
    }

    /// Rows a second when each commit takes so many.
    fn rate(&self, rows: usize) -> f64 {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < TURN {
            self.append(rows);
            count += rows;
        }
        count as f64 / begun.elapsed().as_secs_f64()
    }
}

fn set_up(connection: &Connection) {
    connection
        .pragma_update(None, "journal_mode", "wal")
        .unwrap();
    connection
        .pragma_update(None, "synchronous", "full")
        .unwrap();
    let table =
        "CREATE TABLE log (seq INTEGER PRIMARY KEY, at INTEGER, subject TEXT, envelope BLOB)";
    connection.execute_batch(table).unwrap();
}

/// Messages a second of so many publishers, each with one in flight.
async fn rate(log: &Log, publishers: u64) -> f64 {
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let begun = Instant::now();
    let running: Vec<_> = (0..publishers)
        .map(|_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            let transport = Arc::clone(&log.transport);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let n = count.fetch_add(1, Ordering::Relaxed);
                    publish(&*transport, n).await;
                }
            })
        })
        .collect();
    tokio::time::sleep(TURN).await;
    stop.store(true, Ordering::Relaxed);
    for publisher in running {
        publisher.await.unwrap();
    }
    count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Both sides in turn: ours, raw.
async fn in_turn(publishers: u64) -> (f64, f64) {
    let (log, raw) = (Log::open().await, Raw::open());
    let rows = usize::try_from(publishers).unwrap();
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        raws.push(tokio::task::block_in_place(|| raw.rate(rows)));
        ours.push(rate(&log, publishers).await);
    }
    (median(ours), median(raws))
}

pub(crate) async fn single(report: &mut Report) {
    let (ours, raw) = in_turn(1).await;
    report.rate(
        "sqlite: durable publish, 1 publisher (baseline: rusqlite, append and sync)",
        ours,
        raw,
        "≥ 0.9 × baseline",
    );
    let log = Log::open().await;
    let raw = Raw::open();
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let begun = Instant::now();
        publish(&*log.transport, n).await;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        tokio::task::block_in_place(|| raw.append(1));
        raws.push(begun.elapsed());
    }
    let (ours, raw) = (percentile(&mut ours, 50), percentile(&mut raws, 50));
    report.latency(
        "sqlite: durable publish, p50, in turn with the baseline",
        ours,
        raw,
        "≤ 1.1 × baseline",
    );
}

pub(crate) async fn group(report: &mut Report) {
    for publishers in [100, 1000] {
        let (ours, raw) = in_turn(publishers).await;
        let goal = if publishers == 100 { "≥ 30 k/s" } else { "" };
        let what = format!(
            "sqlite: durable publish, {publishers} publishers (baseline: commits of {publishers})"
        );
        report.rate(&what, ours, raw, goal);
    }
}

pub(crate) async fn deliver(report: &mut Report) {
    let log = Log::filled().await;
    let durable = log.transport.subscribe(all(Some("d"))).await.unwrap();
    let begun = Instant::now();
    let handed = settle(durable, MESSAGES, 0).await;
    let rate = handed as f64 / begun.elapsed().as_secs_f64();
    let what = "sqlite: backlog of a durable subscription, received and acknowledged";
    report.plain(what, format!("{:.0} k/s", rate / 1e3), "");
}

pub(crate) async fn redeliver(report: &mut Report) {
    let log = Log::filled().await;
    let durable = log.transport.subscribe(all(Some("d"))).await.unwrap();
    let begun = Instant::now();
    let handed = settle(durable, MESSAGES, 1).await;
    let rate = handed as f64 / begun.elapsed().as_secs_f64();
    let what = "sqlite: the same, each given back once: attempts";
    report.plain(what, format!("{:.0} k/s", rate / 1e3), "");
}

/// Reads the log's own rows with nothing but rusqlite.
fn read_raw(path: &Path) -> f64 {
    let connection = Connection::open(path).unwrap();
    let begun = Instant::now();
    let mut query = connection
        .prepare("SELECT seq, subject, envelope FROM messages ORDER BY seq")
        .unwrap();
    let rows = query
        .query_map((), |row| {
            let (_, subject): (u64, String) = (row.get(0)?, row.get(1)?);
            let envelope: Vec<u8> = row.get(2)?;
            Ok(subject.len() + envelope.len())
        })
        .unwrap();
    let bytes: usize = rows.map(Result::unwrap).sum();
    assert!(bytes > 0);
    MESSAGES as f64 / begun.elapsed().as_secs_f64()
}

pub(crate) async fn replay(report: &mut Report) {
    let log = Log::filled().await;
    let path = log.dir.path().join("bus.db");
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..REPLAYS {
        raws.push(tokio::task::block_in_place(|| read_raw(&path)));
        let reader = log.transport.subscribe(all(None)).await.unwrap();
        let begun = Instant::now();
        settle(reader, MESSAGES, 0).await;
        ours.push(MESSAGES as f64 / begun.elapsed().as_secs_f64());
    }
    report.rate(
        "sqlite: replay from the beginning (baseline: rusqlite, the same rows)",
        median(ours),
        median(raws),
        "",
    );
}
