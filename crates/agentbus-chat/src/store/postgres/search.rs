//! Search over the words of messages, and over their characters for scripts without spaces.

use postgres::Row;

use super::query::{self, Query};
use super::tx::{Param, PgTx, Result, get, limit_or_all, micros, stamp};
use super::words;
use crate::limits;
use crate::model::{Hit, SearchCursor, SearchOrder, SearchPage, SearchQuery};
use crate::store::SearchRows;
use crate::store::snippet::{around, has_no_spaces, literally, show};
use crate::{MessageId, Seq, ThreadId};

const HIT: &str = "SELECT m.id, m.thread_id, t.topic, coalesce(m.author_name, m.author), m.seq, \
                   m.created_at, m.content";

const FILTERS: &str = " JOIN threads AS t ON t.id = m.thread_id \
                       WHERE ($2::text IS NULL OR m.thread_id = $2) \
                       AND ($3::text IS NULL OR m.author = $3 OR m.author_id = $3) \
                       AND ($4::text IS NULL OR m.role = $4) \
                       AND ($5::text IS NULL OR t.status = $5) \
                       AND ($6::int8 IS NULL OR m.created_at >= $6) \
                       AND ($7::int8 IS NULL OR m.created_at < $7) \
                       AND m.human_only <= $8 AND m.seq <= $10::int8";

/// The shorter of two messages that have a word equally often comes first, as in the other store.
const RANKED_BY: &str = "ts_rank(m.words, $1::text::tsquery, 2) DESC, m.seq DESC";

/// Messages whose words are compared with the index at a time.
const CHECKED: i64 = 1_000;

impl SearchRows for PgTx<'_> {
    fn search(&self, query: &SearchQuery) -> Result<SearchPage> {
        if query.text.chars().any(has_no_spaces) {
            return Ok(SearchPage {
                hits: by_characters(self, query)?,
                ..SearchPage::default()
            });
        }
        let (read, query_error) = match query::read(&query.text) {
            Ok(read) => (Some(read), None),
            Err(problem) => (query::read(&literally(&query.text)).ok(), Some(problem)),
        };
        let hits = match read.filter(|read| !read.text.is_empty()) {
            Some(read) => by_words(self, query, &read)?,
            None => Vec::new(),
        };
        Ok(SearchPage {
            hits,
            query_error,
            next: None,
        })
    }

    fn catch_up(&mut self) -> Result<()> {
        // The index is a column of the message.
        Ok(())
    }

    fn check_search(&self) -> Result<Option<String>> {
        let mut after: Seq = 0;
        loop {
            let sql = "SELECT seq, content FROM messages WHERE seq > $1 ORDER BY seq LIMIT $2";
            let page = self.all(sql, &[&after, &CHECKED], |row| {
                let content: String = get(row, 1)?;
                Ok((get::<Seq>(row, 0)?, words::vector(&content)))
            })?;
            let (seqs, vectors): (Vec<Seq>, Vec<String>) = page.into_iter().unzip();
            let Some(last) = seqs.last() else {
                return Ok(None);
            };
            after = *last;
            let sql = "SELECT m.seq FROM unnest($1::int8[], $2::text[]) AS w (seq, words) \
                       JOIN messages AS m ON m.seq = w.seq WHERE m.words <> w.words::tsvector \
                       ORDER BY m.seq LIMIT 1";
            let wrong = self.one(sql, &[&seqs, &vectors], |row| get::<Seq>(row, 0))?;
            if let Some(seq) = wrong {
                return Ok(Some(format!("message {seq} is indexed under other words")));
            }
        }
    }
}

/// The filters of a query as values that statements can refer to, after the first.
struct Filters<'q> {
    query: &'q SearchQuery,
    thread: Option<&'q str>,
    after: Option<i64>,
    before: Option<i64>,
    human_only: bool,
    limit: Option<i64>,
    upto: Seq,
    skip: i64,
}

impl<'q> Filters<'q> {
    fn of(query: &'q SearchQuery) -> Self {
        let from = query.from.unwrap_or(SearchCursor::BEGIN);
        Self {
            query,
            thread: query.thread_id.as_ref().map(ThreadId::as_str),
            after: micros(query.after),
            before: micros(query.before),
            human_only: !query.for_agents,
            limit: limit_or_all(query.limit),
            upto: from.upto,
            skip: i64::try_from(from.skip).unwrap_or(i64::MAX),
        }
    }

    fn with<'p>(&'p self, first: Param<'p>) -> [Param<'p>; 11] {
        [
            first,
            &self.thread,
            &self.query.author,
            &self.query.role,
            &self.query.status,
            &self.after,
            &self.before,
            &self.human_only,
            &self.limit,
            &self.upto,
            &self.skip,
        ]
    }
}

fn by_words(tx: &PgTx<'_>, query: &SearchQuery, read: &Query) -> Result<Vec<Hit>> {
    let sql = match query.order {
        SearchOrder::Newest => format!(
            "{HIT} FROM messages AS m{FILTERS} AND m.words @@ $1::text::tsquery \
             ORDER BY m.seq DESC LIMIT $9 OFFSET $11::int8"
        ),
        SearchOrder::Ranked => format!(
            "{HIT} FROM (SELECT * FROM messages WHERE words @@ $1::text::tsquery \
             AND seq <= $10::int8 ORDER BY seq DESC LIMIT {}) AS m{FILTERS} ORDER BY {RANKED_BY} \
             LIMIT $9 OFFSET $11::int8",
            limits::RANKED_CANDIDATES_MAX
        ),
    };
    let filters = Filters::of(query);
    tx.all(&sql, &filters.with(&read.text), |row| {
        let content: String = get(row, 6)?;
        hit(row, &words::marked(&content, &read.sought))
    })
}

fn by_characters(tx: &PgTx<'_>, query: &SearchQuery) -> Result<Vec<Hit>> {
    let words = query.text.split_whitespace();
    let words: Vec<&str> = words.map(|word| word.trim_matches(['"', '*'])).collect();
    let patterns: Vec<String> = words.iter().map(|word| pattern(word)).collect();
    let sql = format!(
        "{HIT} FROM messages AS m{FILTERS} AND m.content ILIKE ALL ($1) \
         ORDER BY m.seq DESC LIMIT $9 OFFSET $11::int8"
    );
    let filters = Filters::of(query);
    tx.all(&sql, &filters.with(&patterns), |row| {
        let content: String = get(row, 6)?;
        hit(
            row,
            &around(&content, words.first().copied().unwrap_or_default()),
        )
    })
}

/// Everything that contains a text.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "%"
}

fn hit(row: &Row, marked: &str) -> Result<Hit> {
    let mut hit = Hit {
        message_id: MessageId::new(get::<String>(row, 0)?),
        thread_id: ThreadId::new(get::<String>(row, 1)?),
        thread_topic: get(row, 2)?,
        author: get(row, 3)?,
        seq: get(row, 4)?,
        created_at: stamp(row, 5)?,
        snippet: String::new(),
        snippet_html: String::new(),
    };
    show(&mut hit, marked);
    Ok(hit)
}
