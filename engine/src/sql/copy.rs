//! COPY as it was parsed.

use super::statement::{Name, Statement};

#[derive(Debug, Clone)]
pub struct Copy {
    pub source: CopySource,
    pub direction: CopyDirection,
    pub format: CopyFormat,
    /// ENCODING LATIN1 rather than UTF-8.
    pub latin1: bool,
    pub force_quote: ForceQuote,
    pub on_error: OnError,
}

/// What COPY FROM does with a row that it cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Nothing is written.
    #[default]
    Stop,
    /// A row with a value that its column cannot have is left out; of more than `limit` nothing is written.
    Ignore { limit: Option<u64> },
    /// The row is kept as it came, with what is wrong with it, until REPLAY can read it.
    SetAside { limit: Option<u64> },
}

impl OnError {
    pub fn limit(self) -> Option<u64> {
        match self {
            OnError::Stop => None,
            OnError::Ignore { limit } | OnError::SetAside { limit } => limit,
        }
    }
}

/// The columns whose values stand in quotes in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForceQuote {
    Columns(Vec<String>),
    All,
}

#[derive(Debug, Clone)]
pub enum CopySource {
    Relation {
        name: Name,
        columns: Vec<String>,
    },
    /// COPY (query | SUBSCRIBE …) TO.
    Statement(Box<Statement>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    FromStdin,
    ToStdout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFormat {
    Text { delimiter: u8, null: String, header: bool },
    Csv { delimiter: u8, null: String, header: bool, quote: u8, escape: u8 },
    Binary,
}
