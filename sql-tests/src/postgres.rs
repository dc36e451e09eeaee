//! PostgreSQL as the second opinion: runs the same SQL, with what is Millrace's own rewritten.
//!
//! ```text
//!   CREATE STREAM s (… , WATERMARK FOR ts AS …)   →  CREATE TABLE s (…)
//!   CREATE MATERIALIZED VIEW v AS …               →  CREATE VIEW v AS …       (a view is always up to date)
//!   TUMBLE(s, ts, INTERVAL '1 minute') AS w       →  (SELECT *, date_bin(…) AS window_start, … FROM s) AS w
//!   SESSION(s PARTITION BY k, ts, gap)            →  gaps and islands with lag, sum, min and max
//! ```
//!
//! Each test works in a database of its own, made and dropped here. The rewriting is by pattern and knows
//! just the forms that the tests use.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::answer::{Answer, Letter, SqlError, copy_data, words};
use crate::millrace::copied_out;

/// A server that a developer named, e.g. `host=127.0.0.1 port=5432 user=postgres`.
#[derive(Debug, Clone)]
pub struct Server(pub String);

/// A scratch database, dropped by [`Scratch::drop_database`].
pub struct Scratch {
    server: Server,
    name: String,
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(e: tokio_postgres::Error) -> Self {
        match e.as_db_error() {
            Some(db) => SqlError { code: db.code().code().into(), message: db.message().into() },
            None => SqlError { code: "08000".into(), message: e.to_string() },
        }
    }
}

impl Server {
    async fn connect(&self, database: &str) -> Result<Client, SqlError> {
        let (client, connection) = tokio_postgres::connect(&format!("{} dbname={database}", self.0), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
    pub async fn scratch(&self) -> Result<Scratch, SqlError> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("millrace_test_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres").await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        Ok(Scratch { server: self.clone(), name })
    }
}

impl Scratch {
    pub async fn connect(&self) -> Result<Connection, SqlError> {
        let client = self.server.connect(&self.name).await?;
        client.batch_execute("SET TIME ZONE 'UTC'; SET client_min_messages = error").await?;
        Ok(Connection { client, scratch: Scratch { server: self.server.clone(), name: self.name.clone() } })
    }
    pub async fn drop_database(&self) -> Result<(), SqlError> {
        let admin = self.server.connect("postgres").await?;
        Ok(admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?)
    }
}

pub struct Connection {
    client: Client,
    scratch: Scratch,
}

impl Connection {
    pub async fn run(&mut self, sql: &str) -> Result<Answer, SqlError> {
        let sql = rewrite(sql);
        if let Some((statement, data)) = copy_data(&sql) {
            let result = self.copy_in(statement, data).await;
            if result.is_err() {
                // The client library is out of step with the server after a COPY that the server refused.
                *self = self.scratch.connect().await?;
            }
            return Ok(Answer { count: result?, ..Answer::default() });
        }
        if words(&sql, 1) == ["COPY"] {
            let mut chunks = Box::pin(self.client.copy_out(&sql).await?);
            let mut bytes = Vec::new();
            while let Some(chunk) = chunks.next().await {
                bytes.extend_from_slice(&chunk?);
            }
            return Ok(copied_out(&bytes));
        }
        let mut answer = Answer::default();
        for message in self.client.simple_query(&sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    answer = Answer { columns: Some(vec![Letter::Any; columns.len()]), ..Answer::default() };
                }
                SimpleQueryMessage::Row(row) => {
                    answer.rows.push((0..row.len()).map(|i| Answer::cell(row.get(i).map(str::to_string))).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => answer.count = count,
                _ => {}
            }
        }
        // The simple protocol's rows come without their types here; ask for them where that has no effect.
        if answer.columns.is_some() && ["SELECT", "VALUES", "WITH", "TABLE"].contains(&words(&sql, 1)[0].as_str()) {
            if let Ok(prepared) = self.client.prepare(&sql).await {
                answer.columns = Some(prepared.columns().iter().map(|c| Letter::of_oid(c.type_().oid())).collect());
            }
        }
        Ok(answer)
    }

    async fn copy_in(&self, statement: &str, data: String) -> Result<u64, SqlError> {
        let mut sink = Box::pin(self.client.copy_in(statement).await?);
        sink.send(Bytes::from(data)).await?;
        Ok(sink.as_mut().finish().await?)
    }
}

/// Millrace's words in PostgreSQL's.
pub fn rewrite(sql: &str) -> String {
    let mut sql = replace_words(sql, "CREATE STREAM", "CREATE TABLE");
    sql = replace_words(&sql, "DROP STREAM", "DROP TABLE");
    sql = replace_words(&sql, "CREATE MATERIALIZED VIEW IF NOT EXISTS", "CREATE OR REPLACE VIEW");
    sql = replace_words(&sql, "MATERIALIZED VIEW", "VIEW");
    if let Some(start) = find_word(&sql, "WATERMARK FOR", 0) {
        // `, WATERMARK FOR ts AS ts - INTERVAL '5 seconds'` up to the bracket that ends the columns
        let comma = sql[..start].rfind(',').expect("a watermark follows a column");
        let end = start + sql[start..].find(')').expect("a column list is closed");
        sql.replace_range(comma..end, "");
    }
    while let Some(start) = find_word(&sql, "TUMBLE(", 0) {
        let (arguments, end, alias) = table_function(&sql, start + "TUMBLE(".len());
        let [relation, column, size] = arguments.as_slice() else { break };
        let bin = format!("date_bin({size}, {column}, TIMESTAMP '1970-01-01')");
        let query = format!(
            "(SELECT *, {bin} AS window_start, {bin} + {size} AS window_end FROM {relation} WHERE {column} IS NOT NULL) AS {alias}"
        );
        sql.replace_range(start..end, &query);
    }
    while let Some(start) = find_word(&sql, "SESSION(", 0) {
        let (arguments, end, alias) =
            table_function(&sql.replace("DESCRIPTOR(ts)", "ts            "), start + "SESSION(".len());
        let [relation, column, gap] = arguments.as_slice() else { break };
        let (relation, by) =
            relation.trim_start_matches("TABLE ").split_once(" PARTITION BY ").unwrap_or((relation, "1"));
        let starts =
            format!("coalesce({column} - lag({column}) OVER (PARTITION BY {by} ORDER BY {column}) >= {gap}, true)");
        let numbered = format!("SELECT *, sum(starts::int) OVER (PARTITION BY {by} ORDER BY {column}) AS session");
        let query = format!(
            "(SELECT *, min({column}) OVER s AS window_start, max({column}) OVER s + {gap} AS window_end FROM \
             ({numbered} FROM (SELECT *, {starts} AS starts FROM {relation} WHERE {column} IS NOT NULL) AS a) AS b \
             WINDOW s AS (PARTITION BY {by}, session)) AS {alias}"
        );
        sql.replace_range(start..end, &query);
    }
    while let Some(start) = find_word(&sql, "HOP(", 0) {
        let (arguments, end, alias) = table_function(&sql, start + "HOP(".len());
        let [relation, column, slide, size] = arguments.as_slice() else { break };
        let bin = format!("date_bin({slide}, {column}, TIMESTAMP '1970-01-01')");
        let query = format!(
            "(SELECT t_.*, w_ AS window_start, w_ + {size} AS window_end FROM {relation} AS t_, \
             LATERAL generate_series({bin} - {size}, {bin}, {slide}) AS w_ WHERE {column} < w_ + {size}) AS {alias}"
        );
        sql.replace_range(start..end, &query);
    }
    sql
}

/// The arguments of a table function whose list starts at `start`; where it and its alias end; the alias.
fn table_function(sql: &str, start: usize) -> (Vec<String>, usize, String) {
    let close = start + sql[start..].find(')').expect("an argument list is closed");
    let arguments = sql[start..close].split(',').map(|a| a.trim().to_string()).collect();
    let rest = &sql[close + 1..];
    match rest.strip_prefix(" AS ") {
        Some(after) => {
            let n = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
            (arguments, close + 1 + " AS ".len() + n, after[..n].to_string())
        }
        None => (arguments, close + 1, "windowed".to_string()),
    }
}

/// Where `word` stands in `sql` as written here in upper case, whatever the case there.
fn find_word(sql: &str, word: &str, from: usize) -> Option<usize> {
    sql[from..].to_ascii_uppercase().find(word).map(|at| from + at)
}

fn replace_words(sql: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    while let Some(start) = find_word(sql, from, at) {
        out.push_str(&sql[at..start]);
        out.push_str(to);
        at = start + from.len();
    }
    out.push_str(&sql[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn own_words() {
        assert_eq!(
            rewrite("CREATE STREAM s (a int, ts timestamp, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')"),
            "CREATE TABLE s (a int, ts timestamp)"
        );
        assert_eq!(rewrite("DROP MATERIALIZED VIEW IF EXISTS m"), "DROP VIEW IF EXISTS m");
        assert_eq!(
            rewrite("SELECT * FROM TUMBLE(s, ts, INTERVAL '1 day') AS w WHERE a = 1"),
            "SELECT * FROM (SELECT *, date_bin(INTERVAL '1 day', ts, TIMESTAMP '1970-01-01') AS window_start, \
             date_bin(INTERVAL '1 day', ts, TIMESTAMP '1970-01-01') + INTERVAL '1 day' AS window_end FROM s \
             WHERE ts IS NOT NULL) AS w WHERE a = 1"
        );
    }
}
