//! Search over the index of words, and over the index of characters for scripts without spaces.

use rusqlite::Row;
use rusqlite::types::ToSql;

use super::tx::{Result, RowResult, SqliteTx, limit_or_all, stamp};
use crate::limits;
use crate::model::{Hit, SearchCursor, SearchOrder, SearchPage, SearchQuery};
use crate::store::snippet::{around, has_no_spaces, literally, show};
use crate::store::{SearchRows, StoreError};
use crate::{MessageId, Seq, ThreadId};

/// Words of a query in a script without spaces; more only narrow what is narrow already.
const TERMS_MAX: usize = 8;

const HIT: &str = "SELECT m.id, m.thread_id, t.topic, coalesce(m.author_name, m.author), m.seq, \
                   m.created_at, m.content";

/// Made where the index stands anyway; finding the place again costs as much as the search. In
/// either order the index itself brings the rows, so it is made only for those that are shown.
const SNIPPET: &str = ", snippet(chat_search, 0, char(1), char(2), '…', 20)";

const JOINED: &str = " CROSS JOIN messages AS m ON m.seq = s.rowid \
                      CROSS JOIN threads AS t ON t.id = m.thread_id";

const FILTERS: &str = " AND (:thread IS NULL OR m.thread_id = :thread) \
                       AND (:author IS NULL OR m.author = :author OR m.author_id = :author) \
                       AND (:role IS NULL OR m.role = :role) \
                       AND (:status IS NULL OR t.status = :status) \
                       AND (:after IS NULL OR m.created_at >= :after) \
                       AND (:before IS NULL OR m.created_at < :before) \
                       AND m.human_only <= :human_only AND s.rowid <= :upto";

type Params<'p> = Vec<(&'static str, &'p dyn ToSql)>;

/// The filters of a query as values that statements can refer to.
struct Filters {
    after: Option<String>,
    before: Option<String>,
    human_only: bool,
    limit: i64,
    upto: Seq,
    skip: i64,
}

impl Filters {
    fn of(query: &SearchQuery) -> Self {
        let from = query.from.unwrap_or(SearchCursor::BEGIN);
        Self {
            after: query.after.map(|at| at.to_string()),
            before: query.before.map(|at| at.to_string()),
            human_only: !query.for_agents,
            limit: limit_or_all(query.limit),
            upto: from.upto,
            skip: i64::try_from(from.skip).unwrap_or(i64::MAX),
        }
    }

    fn params<'p>(&'p self, query: &'p SearchQuery, thread: &'p Option<&'p str>) -> Params<'p> {
        vec![
            (":thread", thread as &dyn ToSql),
            (":author", &query.author),
            (":role", &query.role),
            (":status", &query.status),
            (":after", &self.after),
            (":before", &self.before),
            (":human_only", &self.human_only),
            (":limit", &self.limit),
            (":upto", &self.upto),
            (":skip", &self.skip),
        ]
    }
}

impl SearchRows for SqliteTx<'_> {
    fn search(&self, query: &SearchQuery) -> Result<SearchPage> {
        if query.text.chars().any(has_no_spaces) {
            let hits = by_characters(self, query)?;
            return Ok(SearchPage {
                hits,
                ..SearchPage::default()
            });
        }
        match by_words(self, query, &query.text) {
            Err(StoreError::Failed(reason)) => {
                // Only the text of the query can make these statements fail.
                let hits = by_words(self, query, &literally(&query.text))?;
                Ok(SearchPage {
                    hits,
                    query_error: Some(reason),
                    next: None,
                })
            }
            found => Ok(SearchPage {
                hits: found?,
                ..SearchPage::default()
            }),
        }
    }

    fn catch_up(&mut self) -> Result<()> {
        self.index_now()
    }

    fn check_search(&self) -> Result<Option<String>> {
        self.index_now()?;
        let check = |sql| match self.run(sql, []) {
            Ok(_) => Ok(None),
            Err(StoreError::Damaged { reason }) => Ok(Some(reason)),
            Err(error) => Err(error),
        };
        // The 1 asks for a comparison with the messages; the other index holds only some of them.
        let words = "INSERT INTO chat_search (chat_search, rank) VALUES ('integrity-check', 1)";
        let characters = "INSERT INTO chat_search_cjk (chat_search_cjk) VALUES ('integrity-check')";
        Ok(check(words)?.or(check(characters)?))
    }
}

fn by_words(tx: &SqliteTx<'_>, query: &SearchQuery, text: &str) -> Result<Vec<Hit>> {
    let (floor, order) = match query.order {
        SearchOrder::Newest => (0, "s.rowid DESC"),
        SearchOrder::Ranked => (floor_of(tx, text, query)?, "s.rank"),
    };
    let sql = format!(
        "{HIT}{SNIPPET} FROM chat_search AS s{JOINED} WHERE chat_search MATCH :text AND s.rowid >= :floor\
         {FILTERS} ORDER BY {order} LIMIT :limit OFFSET :skip"
    );
    let filters = Filters::of(query);
    let thread = query.thread_id.as_ref().map(ThreadId::as_str);
    let mut params = filters.params(query, &thread);
    params.push((":text", &text));
    params.push((":floor", &floor));
    tx.all(&sql, params.as_slice(), |row| {
        let marked: String = row.get(7)?;
        hit(row, &marked)
    })
}

/// The oldest message that a ranked search weighs.
fn floor_of(tx: &SqliteTx<'_>, text: &str, query: &SearchQuery) -> Result<Seq> {
    let sql = "SELECT rowid FROM chat_search WHERE chat_search MATCH ?1 AND rowid <= ?3 \
               ORDER BY rowid DESC LIMIT 1 OFFSET ?2";
    let upto = query.from.unwrap_or(SearchCursor::BEGIN).upto;
    let most = limit_or_all(limits::RANKED_CANDIDATES_MAX);
    tx.value(sql, (text, most, upto))
}

fn by_characters(tx: &SqliteTx<'_>, query: &SearchQuery) -> Result<Vec<Hit>> {
    let words = query.text.split_whitespace().take(TERMS_MAX);
    let words: Vec<&str> = words.map(|word| word.trim_matches(['"', '*'])).collect();
    let patterns: Vec<String> = words.iter().map(|word| format!("%{word}%")).collect();
    let matches: Vec<String> = (0..patterns.len())
        .map(|at| format!("s.content LIKE {}", TERMS[at]))
        .collect();
    let sql = format!(
        "{HIT} FROM chat_search_cjk AS s{JOINED} WHERE {}{FILTERS} \
         ORDER BY s.rowid DESC LIMIT :limit OFFSET :skip",
        matches.join(" AND ")
    );
    let filters = Filters::of(query);
    let thread = query.thread_id.as_ref().map(ThreadId::as_str);
    let mut params = filters.params(query, &thread);
    params.extend(
        TERMS
            .into_iter()
            .zip(patterns.iter().map(|p| p as &dyn ToSql)),
    );
    tx.all(&sql, params.as_slice(), |row| {
        let content: String = row.get(6)?;
        hit(
            row,
            &around(&content, words.first().copied().unwrap_or_default()),
        )
    })
}

const TERMS: [&str; TERMS_MAX] = [":t0", ":t1", ":t2", ":t3", ":t4", ":t5", ":t6", ":t7"];

fn hit(row: &Row<'_>, marked: &str) -> RowResult<Hit> {
    let mut hit = Hit {
        message_id: MessageId::new(row.get::<_, String>(0)?),
        thread_id: ThreadId::new(row.get::<_, String>(1)?),
        thread_topic: row.get(2)?,
        author: row.get(3)?,
        seq: row.get(4)?,
        created_at: stamp(row, 5)?,
        snippet: String::new(),
        snippet_html: String::new(),
    };
    show(&mut hit, marked);
    Ok(hit)
}
