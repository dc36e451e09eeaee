//! COPY, in the spelling of every Postgres: `COPY t FROM STDIN WITH (FORMAT csv, HEADER)`, `COPY t FROM STDIN WITH CSV
//! HEADER`, `COPY BINARY t TO STDOUT`, `COPY (query) TO STDOUT`.

use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sql::copy::{Copy, CopyDirection, CopyFormat, CopySource, ForceQuote, OnError};
use crate::sql::statement::StatementKind;

/// Options as given; what is missing depends on the format.
#[derive(Default)]
struct Given {
    format: Option<String>,
    delimiter: Option<u8>,
    null: Option<String>,
    header: bool,
    quote: Option<u8>,
    escape: Option<u8>,
    latin1: bool,
    force_quote: Option<ForceQuote>,
    on_error: Option<OnError>,
    reject_limit: Option<u64>,
}

impl Cursor<'_> {
    pub fn copy(&mut self) -> Result<StatementKind> {
        self.expect("copy")?;
        let mut given = Given::default();
        if self.accept("binary") {
            given.format = Some("binary".into());
        }
        let source = if *self.token() == Token::LParen {
            CopySource::Statement(Box::new(self.parenthesised(|c| c.row_statement())?))
        } else {
            let name = self.name()?;
            let columns = if *self.token() == Token::LParen { self.identifiers()? } else { Vec::new() };
            CopySource::Relation { name, columns }
        };
        let direction = if self.accept("from") {
            if matches!(source, CopySource::Statement(_)) {
                return Err(Error::syntax("COPY FROM needs a table, not a query"));
            }
            if !self.accept("stdin") {
                return Err(self
                    .error_here(Error::unsupported("COPY FROM a file or program"))
                    .hint("Use COPY … FROM STDIN, or psql's \\copy."));
            }
            CopyDirection::FromStdin
        } else {
            self.expect("to")?;
            if !self.accept("stdout") {
                return Err(self
                    .error_here(Error::unsupported("COPY TO a file or program"))
                    .hint("Use COPY … TO STDOUT, or psql's \\copy."));
            }
            CopyDirection::ToStdout
        };
        let _ = self.accept("using");
        let _ = self.accept("with");
        if *self.token() == Token::LParen {
            self.parenthesised(|c| c.comma_separated(|c| c.copy_option(&mut given)))?;
        } else {
            while self.copy_option_old(&mut given)? {}
        }
        if self.sees("where") {
            return Err(self.error_here(Error::unsupported("COPY … WHERE")));
        }
        let latin1 = given.latin1;
        let force_quote = given.force_quote.take();
        let on_error = given.on_error(direction)?;
        let format = given.format()?;
        if on_error != OnError::Stop && format == CopyFormat::Binary {
            return Err(Error::syntax("only ON_ERROR STOP is allowed in BINARY mode"));
        }
        if force_quote.is_some() && !matches!(format, CopyFormat::Csv { .. }) {
            return Err(Error::unsupported("COPY FORCE_QUOTE outside of CSV mode"));
        }
        if force_quote.is_some() && direction == CopyDirection::FromStdin {
            return Err(Error::unsupported("COPY FORCE_QUOTE of COPY FROM"));
        }
        let force_quote = force_quote.unwrap_or(ForceQuote::Columns(Vec::new()));
        Ok(StatementKind::Copy(Copy { source, direction, format, latin1, force_quote, on_error }))
    }

    fn copy_option(&mut self, given: &mut Given) -> Result<()> {
        let option = self.word()?;
        match option.as_str() {
            "format" => given.format = Some(self.value()?.to_lowercase()),
            "delimiter" => given.delimiter = Some(single_byte("delimiter", &self.string()?)?),
            "null" => given.null = Some(self.string()?),
            "quote" => given.quote = Some(single_byte("quote", &self.string()?)?),
            "escape" => given.escape = Some(single_byte("escape", &self.string()?)?),
            "header" => {
                given.header = match self.token() {
                    Token::Comma | Token::RParen => true,
                    _ => match self.value()?.to_lowercase().as_str() {
                        "true" | "on" | "1" => true,
                        "false" | "off" | "0" => false,
                        other => return Err(Error::unsupported(format!("COPY option HEADER {other}"))),
                    },
                };
            }
            "freeze" => {
                if !matches!(self.token(), Token::Comma | Token::RParen) {
                    self.value()?;
                }
            }
            "encoding" => given.latin1 = is_latin1(&self.string()?)?,
            "force_quote" => {
                given.force_quote = Some(match self.accept_token(&Token::Mul) {
                    true => ForceQuote::All,
                    false => ForceQuote::Columns(self.identifiers()?),
                });
            }
            "on_error" => {
                given.on_error = Some(match self.value()?.to_lowercase().as_str() {
                    "stop" => OnError::Stop,
                    "ignore" => OnError::Ignore { limit: None },
                    "set_aside" => OnError::SetAside { limit: None },
                    other => return Err(Error::invalid_value(format!("COPY ON_ERROR \"{other}\" not recognized"))),
                });
            }
            "reject_limit" => {
                let text = self.value()?;
                let limit = text.parse().ok().filter(|limit| *limit > 0);
                let bad = || Error::invalid_value(format!("REJECT_LIMIT ({text}) must be greater than zero"));
                given.reject_limit = Some(limit.ok_or_else(bad)?);
            }
            "log_verbosity" => match self.value()?.to_lowercase().as_str() {
                "default" | "verbose" | "silent" => {}
                other => return Err(Error::invalid_value(format!("COPY LOG_VERBOSITY \"{other}\" not recognized"))),
            },
            "force_not_null" | "force_null" | "default" => {
                return Err(Error::unsupported(format!("COPY option {}", option.to_uppercase())));
            }
            _ => return Err(Error::syntax(format!("option \"{option}\" not recognized"))),
        }
        Ok(())
    }

    /// One option in the spelling of before 9.0; false when none comes.
    fn copy_option_old(&mut self, given: &mut Given) -> Result<bool> {
        let options = [
            "binary",
            "csv",
            "header",
            "delimiters",
            "delimiter",
            "null",
            "quote",
            "escape",
            "encoding",
            "freeze",
            "force",
        ];
        let Some(option) = self.accept_one(&options) else { return Ok(false) };
        if !matches!(option, "binary" | "csv" | "header" | "freeze" | "force") {
            let _ = self.accept("as");
        }
        match option {
            "binary" | "csv" => given.format = Some(option.into()),
            "header" => given.header = true,
            "delimiter" | "delimiters" => given.delimiter = Some(single_byte("delimiter", &self.string()?)?),
            "null" => given.null = Some(self.string()?),
            "quote" => given.quote = Some(single_byte("quote", &self.string()?)?),
            "escape" => given.escape = Some(single_byte("escape", &self.string()?)?),
            "encoding" => given.latin1 = is_latin1(&self.string()?)?,
            "freeze" => {}
            _ if self.accept("quote") => {
                given.force_quote = Some(match self.accept_token(&Token::Mul) {
                    true => ForceQuote::All,
                    false => ForceQuote::Columns(self.comma_separated(|c| c.identifier())?),
                });
            }
            _ => return Err(Error::unsupported("COPY option FORCE")),
        }
        Ok(true)
    }
}

fn is_latin1(name: &str) -> Result<bool> {
    match name.to_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" => Ok(false),
        "latin1" | "iso88591" => Ok(true),
        _ => Err(Error::unsupported(format!("COPY in encoding \"{name}\""))),
    }
}

fn single_byte(option: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [b'\n' | b'\r'] => Err(Error::invalid_value(format!("COPY {option} cannot be newline or carriage return"))),
        [byte] => Ok(*byte),
        _ => Err(Error::unsupported(format!("COPY {option} other than a single one-byte character"))),
    }
}

impl Given {
    fn on_error(&self, direction: CopyDirection) -> Result<OnError> {
        if direction == CopyDirection::ToStdout && (self.on_error.is_some() || self.reject_limit.is_some()) {
            return Err(Error::invalid_value("COPY ON_ERROR cannot be used with COPY TO"));
        }
        let limit = self.reject_limit;
        match self.on_error.unwrap_or_default() {
            OnError::Stop if limit.is_some() => {
                Err(Error::invalid_value("COPY REJECT_LIMIT requires ON_ERROR to be set to IGNORE or SET_ASIDE"))
            }
            OnError::Stop => Ok(OnError::Stop),
            OnError::Ignore { .. } => Ok(OnError::Ignore { limit }),
            OnError::SetAside { .. } => Ok(OnError::SetAside { limit }),
        }
    }

    fn format(self) -> Result<CopyFormat> {
        let format = self.format.as_deref().unwrap_or("text");
        let only_csv = |given: bool, option: &str| match given && format != "csv" {
            true => Err(Error::unsupported(format!("COPY {option} outside of CSV mode"))),
            false => Ok(()),
        };
        only_csv(self.quote.is_some(), "QUOTE")?;
        only_csv(self.escape.is_some(), "ESCAPE")?;
        match format {
            "text" => {
                let delimiter = self.delimiter.unwrap_or(b'\t');
                if delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit() || b"\\.".contains(&delimiter) {
                    return Err(Error::invalid_value(format!("COPY delimiter cannot be \"{}\"", delimiter as char)));
                }
                Ok(CopyFormat::Text { delimiter, null: self.null.unwrap_or_else(|| "\\N".into()), header: self.header })
            }
            "csv" => {
                let (delimiter, quote) = (self.delimiter.unwrap_or(b','), self.quote.unwrap_or(b'"'));
                if delimiter == quote {
                    return Err(Error::invalid_value("COPY delimiter and quote must be different"));
                }
                let (null, escape) = (self.null.unwrap_or_default(), self.escape.unwrap_or(quote));
                Ok(CopyFormat::Csv { delimiter, null, header: self.header, quote, escape })
            }
            "binary" if self.delimiter.is_some() || self.null.is_some() || self.header => {
                Err(Error::syntax("cannot specify DELIMITER, NULL or HEADER in BINARY mode"))
            }
            "binary" => Ok(CopyFormat::Binary),
            other => Err(Error::invalid_value(format!("COPY format \"{other}\" not recognized"))),
        }
    }
}
