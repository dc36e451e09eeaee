//! What a statement answered, as text: the common ground of Millrace, PostgreSQL and the test files.
//!
//! NULL is `NULL`, the empty string `(empty)`; all else is Postgres' text form.

use std::fmt;

/// A column's kind, as its letter in a test file: `query IT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    /// `I`: smallint, integer, bigint, oid.
    Integer,
    /// `R`: real, double precision, numeric.
    Real,
    /// `B`: boolean.
    Boolean,
    /// `T`: all else.
    Text,
    /// `?`: whatever comes.
    Any,
}

impl Letter {
    /// By the type's Postgres OID.
    pub fn of_oid(oid: u32) -> Letter {
        match oid {
            20 | 21 | 23 | 26 => Letter::Integer,
            700 | 701 | 1700 => Letter::Real,
            16 => Letter::Boolean,
            _ => Letter::Text,
        }
    }
}

impl sqllogictest::ColumnType for Letter {
    fn from_char(c: char) -> Option<Self> {
        match c {
            'I' => Some(Letter::Integer),
            'R' => Some(Letter::Real),
            'B' => Some(Letter::Boolean),
            'T' => Some(Letter::Text),
            '?' => Some(Letter::Any),
            _ => None,
        }
    }
    fn to_char(&self) -> char {
        match self {
            Letter::Integer => 'I',
            Letter::Real => 'R',
            Letter::Boolean => 'B',
            Letter::Text => 'T',
            Letter::Any => '?',
        }
    }
}

/// As many columns as expected, each of the expected kind, where both are known.
#[allow(clippy::ptr_arg)] // the signature that sqllogictest asks for
pub fn letters_match(actual: &Vec<Letter>, expected: &Vec<Letter>) -> bool {
    let matches = |(a, e): (&Letter, &Letter)| a == e || *a == Letter::Any || *e == Letter::Any;
    actual.len() == expected.len() && actual.iter().zip(expected).all(matches)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// `None` when the statement returns no rows.
    pub columns: Option<Vec<Letter>>,
    pub rows: Vec<Vec<String>>,
    /// Rows changed, by the command's tag.
    pub count: u64,
}

impl Answer {
    pub fn cell(value: Option<String>) -> String {
        match value {
            None => "NULL".into(),
            Some(text) if text.is_empty() => "(empty)".into(),
            Some(text) => text,
        }
    }
    pub fn done(tag: &str) -> Answer {
        Answer { count: tag.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0), ..Answer::default() }
    }
    pub fn into_output(self) -> sqllogictest::DBOutput<Letter> {
        match self.columns {
            Some(types) => sqllogictest::DBOutput::Rows { types, rows: self.rows },
            None => sqllogictest::DBOutput::StatementComplete(self.count),
        }
    }
}

/// An error with its SQLSTATE; shown as `42P01: relation "x" does not exist`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    pub code: String,
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
impl std::error::Error for SqlError {}

/// The first words of a statement, upper case, comments and brackets before them skipped.
pub fn words(sql: &str, n: usize) -> Vec<String> {
    sql.lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .flat_map(str::split_whitespace)
        .take(n)
        .map(|word| word.trim_start_matches('(').trim_end_matches(';').to_ascii_uppercase())
        .collect()
}

/// Whether a statement may change what a materialized view holds, or which there are.
pub fn changes(sql: &str) -> bool {
    const CHANGING: [&str; 11] =
        ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "COPY", "CREATE", "DROP", "ALTER", "COMMIT", "END", "EXECUTE"];
    words(sql, 1).first().is_some_and(|w| CHANGING.contains(&w.as_str()))
}

/// `COPY … FROM STDIN` and its data, which follows in the next lines, up to an optional `\.`.
pub fn copy_data(sql: &str) -> Option<(&str, String)> {
    let (statement, data) = sql.split_once('\n')?;
    let upper = statement.to_ascii_uppercase();
    if !upper.starts_with("COPY ") || !upper.contains(" FROM STDIN") {
        return None;
    }
    Some((statement, data.lines().take_while(|l| *l != "\\.").map(|l| format!("{l}\n")).collect()))
}
