//! Runs a case and says what was wrong.
//!
//! After a `check` three answers must be one multiset, for each view: the maintained rows, the batch answer
//! that VERIFY computes, and the view's query run by itself. Across a crash every relation keeps its rows.
//! Every error that a statement may not give is a failure too; refusals of views (0A000, and 54001: plain views that were
//! copied until the whole was too large) are counted.
//!
//! With a PostgreSQL scratch database the same steps run there as well, and after each check all relations
//! must hold the same.

use std::collections::BTreeMap;

use super::generate::FINAL;
use super::{Case, Step};
use crate::answer::{Answer, Letter, SqlError, words};
use crate::millrace::{self, Database};
use crate::postgres;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is: shrinking looks for another case with the same.
    pub kind: String,
    pub message: String,
}

#[derive(Debug, Default)]
pub struct Report {
    pub statements: usize,
    pub checks: usize,
    pub views_made: usize,
    pub views_refused: usize,
    /// Views made that show final rows only.
    pub final_views: usize,
    /// Why views were refused.
    pub refusals: Vec<String>,
    pub failure: Option<Failure>,
}

struct Runner<'a> {
    database: Database,
    session: Option<millrace_engine::session::Session>,
    second: Option<&'a mut postgres::Connection>,
    /// Parts of the case may be missing: a statement that misses something is skipped.
    lenient: bool,
    /// Views that exist, in order of creation, with their queries.
    views: Vec<(String, String)>,
    bases: Vec<String>,
    /// Views that were refused, and what would have been built on them.
    refused: Vec<String>,
    /// Within BEGIN … COMMIT nothing is checked.
    in_transaction: bool,
    report: Report,
}

/// Runs the case. `lenient`: the case was cut down, so that statements may miss what they name.
pub async fn run(case: &Case, second: Option<&mut postgres::Connection>, lenient: bool) -> Report {
    // PostgreSQL knows no late rows.
    let is_timed = |step: &Step| matches!(step, Step::Sql(sql) if sql.contains("WATERMARK"));
    let second = second.filter(|_| !case.steps.iter().any(is_timed));
    let database = match Database::create(case.workers) {
        Ok(database) => database,
        Err(e) => {
            let failure = Some(Failure { kind: format!("open {}", e.code), message: e.to_string() });
            return Report { failure, ..Report::default() };
        }
    };
    let mut runner = Runner {
        database,
        session: None,
        second,
        lenient,
        views: vec![],
        bases: vec![],
        refused: vec![],
        in_transaction: false,
        report: Report::default(),
    };
    for (i, step) in case.steps.iter().enumerate() {
        let result = match step {
            Step::Sql(sql) => runner.sql(sql).await,
            Step::Crash(workers) => runner.reopen(*workers, true).await,
            Step::Restart(workers) => runner.reopen(*workers, false).await,
            Step::Check if runner.in_transaction => Ok(()),
            Step::Check => runner.check().await,
        };
        if let Err(mut failure) = result {
            failure.message = format!("step {} of {}: {step}\n{}", i + 1, case.steps.len(), failure.message);
            runner.report.failure = Some(failure);
            break;
        }
    }
    runner.report
}

impl Runner<'_> {
    async fn query(&mut self, sql: &str) -> Result<Answer, SqlError> {
        let database = &self.database;
        let session = self.session.get_or_insert_with(|| database.session());
        millrace::run(session, sql).await
    }

    async fn sql(&mut self, sql: &str) -> Result<(), Failure> {
        self.report.statements += 1;
        let w = words(sql, 6);
        let word = |i: usize| w.get(i).map_or("", String::as_str);
        let view = match (word(0), word(1)) {
            ("CREATE", "MATERIALIZED") => Some(word(3).to_ascii_lowercase()),
            ("CREATE", "OR") => Some(word(5).to_ascii_lowercase()),
            ("CREATE", "VIEW") => Some(word(2).to_ascii_lowercase()),
            _ => None,
        };
        let result = self.query(sql).await;
        let skip_second = match &result {
            Ok(_) => false,
            Err(e) => self.judge(sql, view.as_deref(), e)?,
        };
        if result.is_ok() {
            match (word(0), word(1)) {
                ("CREATE", "MATERIALIZED") => {
                    self.report.views_made += 1;
                    self.report.final_views += usize::from(sql.ends_with(FINAL));
                    let query = sql.split_once(" AS ").expect("a view has a query").1;
                    self.views.push((word(3).to_ascii_lowercase(), query.to_string()));
                }
                ("CREATE", "OR") => {
                    let query = sql.split_once(" AS ").expect("a view has a query").1;
                    let replaced = self.views.iter_mut().find(|(name, _)| *name == word(5).to_ascii_lowercase());
                    replaced.expect("it was there").1 = query.to_string();
                }
                ("CREATE", "STREAM" | "TABLE") => self.bases.push(word(2).to_ascii_lowercase()),
                ("DROP", "MATERIALIZED") => self.views.retain(|(name, _)| *name != word(3).to_ascii_lowercase()),
                ("BEGIN", _) => self.in_transaction = true,
                ("COMMIT", _) => self.in_transaction = false,
                ("ROLLBACK", second) if second != "TO" => self.in_transaction = false,
                _ => {}
            }
        } else if word(0) == "COMMIT" {
            self.in_transaction = false;
        }
        if let (Some(second), false) = (self.second.as_deref_mut(), skip_second) {
            let other = second.run(sql).await;
            let (ours, theirs) = (outcome(&result), outcome(&other));
            if ours != theirs && !both_errors(&result, &other) {
                return Err(Failure {
                    kind: format!("postgres {}", theirs.0),
                    message: format!("Millrace answered {ours:?}, PostgreSQL {theirs:?}: {:?}", other.err()),
                });
            }
            // SELECT, and what RETURNING gives: the types are only known of ours.
            if let (Ok(ours), Ok(theirs)) = (&result, other) {
                let theirs = Answer { columns: ours.columns.clone(), ..theirs };
                if let Some(difference) = difference(&comparable(ours), &comparable(&theirs)) {
                    let message = format!("answers differ (− only here, + only in PostgreSQL)\n{difference}");
                    return Err(Failure { kind: "postgres answer".into(), message });
                }
            }
        }
        Ok(())
    }

    /// Whether an error is one that the statement may give; true when PostgreSQL is not to be asked.
    fn judge(&mut self, sql: &str, view: Option<&str>, e: &SqlError) -> Result<bool, Failure> {
        let code = e.code.as_str();
        if let Some(view) = view {
            let on_refused = code == "42P01" && self.refused.iter().any(|r| e.message.contains(&format!("\"{r}\"")));
            let is_refusal = matches!(code, "0A000" | "54001");
            if is_refusal || on_refused {
                // Few queries end.
                self.report.views_refused += usize::from(!sql.ends_with(FINAL));
                self.report.refusals.extend((is_refusal && !sql.ends_with(FINAL)).then(|| e.message.clone()));
                // One that was to be replaced is still there.
                if !self.views.iter().any(|(name, _)| name == view) {
                    self.refused.push(view.to_string());
                }
                return Ok(true);
            }
        }
        if code == "42P01" && self.refused.iter().any(|r| e.message.contains(&format!("\"{r}\""))) {
            return Ok(true);
        }
        let allowed = match words(sql, 1)[0].as_str() {
            "INSERT" | "UPDATE" => &["23505", "23502", "21000", "25P02"][..],
            "SELECT" | "DELETE" | "TRUNCATE" | "SAVEPOINT" | "ROLLBACK" | "RELEASE" => &["25P02", "3B001"][..],
            _ => &[][..],
        };
        // What is gone from a case that was cut down; never what only a bug can give.
        let missing = ["42P01", "25P02", "3B001", "25P01", "2BP01", "42P07", "42704"];
        if allowed.contains(&code) || self.lenient && missing.contains(&code) {
            return Ok(false);
        }
        Err(Failure { kind: format!("error {code}"), message: e.to_string() })
    }

    async fn rows(&mut self, sql: &str) -> Result<Answer, Failure> {
        let mut answer = self
            .query(sql)
            .await
            .map_err(|e| Failure { kind: format!("read {}", e.code), message: format!("{sql}\n{e}") })?;
        answer.rows.sort_unstable();
        Ok(answer)
    }

    async fn check(&mut self) -> Result<(), Failure> {
        self.report.checks += 1;
        self.database.verify().await.map_err(|message| Failure { kind: "verify".into(), message })?;
        for (name, query) in self.views.clone() {
            // What of its query is final only VERIFY can tell.
            if query.ends_with(FINAL) {
                continue;
            }
            let kept = self.rows(&format!("SELECT * FROM {name}")).await?;
            let batch = self.rows(&query).await?;
            if let Some(difference) = difference(&kept.rows, &batch.rows) {
                let message =
                    format!("view {name} and its query differ (− only in the view, + only in the query)\n{difference}");
                return Err(Failure { kind: "ad hoc".into(), message });
            }
        }
        if self.second.is_some() {
            for name in self.relation_names() {
                let ours = self.rows(&format!("SELECT * FROM {name}")).await?;
                let theirs = self
                    .second
                    .as_deref_mut()
                    .expect("seen above")
                    .run(&format!("SELECT * FROM {name}"))
                    .await
                    .map_err(|e| Failure { kind: "postgres read".into(), message: format!("{name}: {e}") })?;
                if let Some(difference) = difference(&comparable(&ours), &comparable(&theirs)) {
                    let message = format!("{name} differs from PostgreSQL (− only here, + only there)\n{difference}");
                    return Err(Failure { kind: "postgres rows".into(), message });
                }
            }
        }
        Ok(())
    }

    fn relation_names(&self) -> Vec<String> {
        self.bases.iter().cloned().chain(self.views.iter().map(|(name, _)| name.clone())).collect()
    }

    async fn contents(&mut self) -> Result<BTreeMap<String, Vec<Vec<String>>>, Failure> {
        let mut contents = BTreeMap::new();
        for name in self.relation_names() {
            let rows = self.rows(&format!("SELECT * FROM {name}")).await?.rows;
            contents.insert(name, rows);
        }
        Ok(contents)
    }

    async fn reopen(&mut self, workers: usize, crash: bool) -> Result<(), Failure> {
        // An open transaction ends with its session; what others see is what must survive.
        self.session = None;
        if self.in_transaction {
            self.in_transaction = false;
            if let Some(second) = self.second.as_deref_mut() {
                let rolled_back = second.run("ROLLBACK").await;
                rolled_back.map_err(|e| Failure { kind: "postgres rollback".into(), message: e.to_string() })?;
            }
        }
        let before = self.contents().await?;
        self.session = None;
        let reopened = match crash {
            true => self.database.crash_and_reopen(workers).await,
            false => self.database.stop_and_reopen(workers).await,
        };
        reopened.map_err(|e| Failure { kind: format!("reopen {}", e.code), message: e.to_string() })?;
        let after = self.contents().await?;
        for (name, rows) in &before {
            if let Some(difference) = difference(rows, &after[name]) {
                let message = format!("{name} changed by being reopened (− before, + after)\n{difference}");
                return Err(Failure { kind: "reopen rows".into(), message });
            }
        }
        self.check().await
    }
}

fn outcome(result: &Result<Answer, SqlError>) -> (String, u64) {
    match result {
        Ok(answer) => ("ok".into(), answer.count),
        Err(e) => (e.code.clone(), 0),
    }
}

/// Of several violated constraints either may be told first.
fn both_errors(a: &Result<Answer, SqlError>, b: &Result<Answer, SqlError>) -> bool {
    a.is_err() && b.is_err()
}

/// The rows that only one side has, a few of them; `None` when the sides are equal. Both are sorted.
pub fn difference(left: &[Vec<String>], right: &[Vec<String>]) -> Option<String> {
    let (mut l, mut r) = (left.iter().peekable(), right.iter().peekable());
    let mut lines = Vec::new();
    loop {
        let (sign, row) = match (l.peek(), r.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {
                l.next();
                r.next();
                continue;
            }
            (Some(a), Some(b)) if a < b => ("−", l.next()),
            (Some(_), None) => ("−", l.next()),
            _ => ("+", r.next()),
        };
        lines.push(format!("{sign} {}", row.expect("peeked").join(" | ")));
    }
    if lines.is_empty() {
        return None;
    }
    let more = lines.len().saturating_sub(20);
    lines.truncate(20);
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    Some(lines.join("\n"))
}

/// Numbers in one spelling: PostgreSQL keeps other scales, and adds doubles in another order.
fn comparable(answer: &Answer) -> Vec<Vec<String>> {
    let columns = answer.columns.clone().unwrap_or_default();
    let mut rows: Vec<Vec<String>> = answer
        .rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&columns);
            cells
                .map(|(cell, letter)| match (letter, cell.parse::<f64>()) {
                    (Letter::Real, Ok(number)) => format!("{:.9e}", number + 0.0),
                    _ => cell.clone(),
                })
                .collect()
        })
        .collect();
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multisets() {
        let row = |s: &str| vec![s.to_string()];
        assert_eq!(difference(&[row("a"), row("b")], &[row("a"), row("b")]), None);
        let found = difference(&[row("a"), row("a"), row("b")], &[row("a"), row("c")]);
        assert_eq!(found.unwrap(), "− a\n− b\n+ c");
    }
}
