//! Errors, grouped by what the caller can do about them, each with its SQLSTATE.
//!
//! An [`Error`] is what a user sees: a five-character SQLSTATE (Postgres, Appendix A), a message that
//! names the thing, and where one helps a hint, a detail and the position (in characters, from 1) in
//! the statement. A broken invariant is never an `Error`: it panics.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// SQLSTATE, five characters, e.g. `42P01`.
    pub code: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Character offset into the statement's text, from 1.
    pub position: Option<usize>,
    /// What of the database it is about, for programs that look at it.
    pub about: Option<Box<About>>,
    /// The same as the planner knows it, until the statement is at hand: line and column, from 1, of the text that
    /// was parsed. See [`crate::sql::statement::Statement::locate`].
    pub(crate) place: Option<(u64, u64)>,
}

/// What an error is about, as far as it is of a relation: drivers show it field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    pub schema: String,
    pub table: String,
    pub column: Option<String>,
    pub constraint: Option<String>,
}

impl Error {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), detail: None, hint: None, position: None, about: None, place: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
    /// It is about this table.
    pub fn of_table(mut self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        let about = self.about.get_or_insert_default();
        (about.schema, about.table) = (schema.into(), table.into());
        self
    }
    /// And in it about this column.
    pub fn of_column(mut self, column: impl Into<String>) -> Self {
        self.about.get_or_insert_default().column = Some(column.into());
        self
    }
    /// And about this constraint.
    pub fn of_constraint(mut self, constraint: impl Into<String>) -> Self {
        self.about.get_or_insert_default().constraint = Some(constraint.into());
        self
    }
    pub fn position(mut self, position: Option<usize>) -> Self {
        self.position = position;
        self
    }
    /// Without a place: what it points into is not the user's statement.
    pub(crate) fn nowhere(mut self) -> Self {
        self.position = None;
        self.place = None;
        self
    }

    /// The construct is valid SQL that Millrace cannot do: 0A000.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new("0A000", format!("{what} is not supported"))
    }
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new("42601", message)
    }
    pub fn undefined_relation(name: impl fmt::Display) -> Self {
        Self::new("42P01", format!("relation \"{name}\" does not exist"))
    }
    pub fn undefined_column(name: impl fmt::Display) -> Self {
        Self::new("42703", format!("column \"{name}\" does not exist"))
    }
    pub fn undefined_object(message: impl Into<String>) -> Self {
        Self::new("42704", message)
    }
    pub fn invalid_value(message: impl Into<String>) -> Self {
        Self::new("22023", message)
    }
    pub fn not_in_state(message: impl Into<String>) -> Self {
        Self::new("55000", message)
    }
    pub fn canceled(message: impl Into<String>) -> Self {
        Self::new("57014", message)
    }
    /// The disk, the operating system or the store said no: 58030.
    pub fn io(message: impl fmt::Display) -> Self {
        Self::new("58030", message.to_string())
    }
    /// The data directory is damaged or foreign: XX001.
    pub fn corrupt(message: impl fmt::Display) -> Self {
        Self::new("XX001", message.to_string())
    }
    /// Our bug, reported rather than hidden: XX000.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new("XX000", message.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}
impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::io(e)
    }
}
