//! A place in one statement's tokens, with the small words of a grammar: `accept`, `expect`, `name`, `options`.
//!
//! It wraps sqlparser's parser, which reads queries, expressions and types; what surrounds them is read here, by
//! words, because half of the words (STREAM, SINK, WATERMARK, SUBSCRIBE, EMIT) are no keywords to sqlparser.

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::source::{Source, prepare, unquoted};
use crate::error::{Error, Result};
use crate::sql::dialect::{DIALECT, allow_attempts, allow_versions};
use crate::sql::interval::{Fields, Interval};
use crate::sql::statement::{Name, Options};

/// Levels of nesting that sqlparser follows.
pub const DEPTH_MAX: usize = 150;

pub struct Cursor<'a> {
    pub source: &'a Source<'a>,
    pub parser: Parser<'static>,
}

impl<'a> Cursor<'a> {
    pub fn new(source: &'a Source<'a>, tokens: Vec<TokenWithSpan>) -> Result<Self> {
        let tokens = prepare(tokens)?;
        allow_attempts(tokens.len());
        allow_versions(&tokens);
        let parser = Parser::new(&DIALECT).with_recursion_limit(DEPTH_MAX).with_tokens_with_locations(tokens);
        Ok(Cursor { source, parser })
    }

    /// Runs one of sqlparser's own parsers.
    pub fn sqlparser<T>(&mut self, parse: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>) -> Result<T> {
        parse(&mut self.parser).map_err(|e| self.source.parser_error(e))
    }

    pub fn token(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }
    pub fn at_end(&self) -> bool {
        *self.token() == Token::EOF
    }
    /// Byte offset where the next token starts.
    pub fn start(&self) -> usize {
        match self.parser.peek_token_ref() {
            TokenWithSpan { token: Token::EOF, .. } => self.source.text.len(),
            token => self.source.byte(token.span.start),
        }
    }
    /// Line and column where the next token starts.
    pub fn place(&self) -> (u64, u64) {
        let start = self.parser.peek_token_ref().span.start;
        (start.line, start.column)
    }
    /// The source from a byte offset to the end of the last token read.
    pub fn text_since(&self, start: usize) -> &'a str {
        let end = self.source.byte(self.parser.get_current_token().span.end);
        self.source.text.get(start..end).unwrap_or_default().trim()
    }

    /// The error at the next token.
    pub fn unexpected<T>(&self) -> Result<T> {
        Err(self.source.unexpected(self.parser.peek_token_ref()))
    }
    pub fn error_here(&self, error: Error) -> Error {
        self.source.at(error, self.parser.peek_token_ref())
    }

    /// Whether these words come next, e.g. `if not exists`.
    pub fn sees(&self, words: &str) -> bool {
        words
            .split(' ')
            .enumerate()
            .all(|(n, word)| unquoted(&self.parser.peek_nth_token_ref(n).token).eq_ignore_ascii_case(word))
    }
    /// Reads these words if they come next.
    pub fn accept(&mut self, words: &str) -> bool {
        let seen = self.sees(words);
        if seen {
            words.split(' ').for_each(|_| self.parser.advance_token());
        }
        seen
    }
    /// Reads the one of these word sequences that comes next.
    pub fn accept_one(&mut self, choices: &[&'static str]) -> Option<&'static str> {
        choices.iter().copied().find(|words| self.accept(words))
    }
    pub fn expect(&mut self, words: &str) -> Result<()> {
        for word in words.split(' ') {
            if !self.accept(word) {
                return self.unexpected();
            }
        }
        Ok(())
    }
    pub fn accept_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }
    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) { Ok(()) } else { self.unexpected() }
    }
    pub fn comma_separated<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.accept_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }
    pub fn parenthesised<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.expect_token(&Token::LParen)?;
        let inner = inner(self)?;
        self.expect_token(&Token::RParen)?;
        Ok(inner)
    }

    /// A name's part, folded; a reserved word is none unless quoted.
    pub fn identifier(&mut self) -> Result<String> {
        if is_reserved_word(&unquoted(self.token()).to_ascii_lowercase()) {
            return self.unexpected();
        }
        if !matches!(self.token(), Token::Word(_)) {
            return self.unexpected();
        }
        let ident = self.sqlparser(|p| p.parse_identifier())?;
        if ident.value.is_empty() {
            return Err(Error::syntax("zero-length delimited identifier"));
        }
        Ok(fold(&ident))
    }
    pub fn identifiers(&mut self) -> Result<Vec<String>> {
        self.parenthesised(|c| c.comma_separated(Self::identifier))
    }
    pub fn name(&mut self) -> Result<Name> {
        let mut parts = vec![self.identifier()?];
        while self.accept_token(&Token::Period) {
            parts.push(self.identifier()?);
        }
        name_of_parts(parts)
    }
    pub fn if_exists(&mut self) -> bool {
        self.accept("if exists")
    }
    pub fn if_not_exists(&mut self) -> bool {
        self.accept("if not exists")
    }
    /// CASCADE or RESTRICT; the latter is the default.
    pub fn cascade(&mut self) -> bool {
        let cascade = self.accept("cascade");
        let _ = !cascade && self.accept("restrict");
        cascade
    }

    pub fn string(&mut self) -> Result<String> {
        match self.token() {
            Token::DollarQuotedString(quoted) => {
                let text = quoted.value.clone();
                self.parser.advance_token();
                Ok(text)
            }
            Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::UnicodeStringLiteral(_) => {
                self.sqlparser(|p| p.parse_literal_string())
            }
            _ => self.unexpected(),
        }
    }
    pub fn unsigned(&mut self) -> Result<u64> {
        match self.token() {
            Token::Number(digits, _) => match digits.parse() {
                Ok(number) => {
                    self.parser.advance_token();
                    Ok(number)
                }
                Err(_) => self.unexpected(),
            },
            _ => self.unexpected(),
        }
    }
    pub fn expression(&mut self) -> Result<ast::Expr> {
        self.sqlparser(|p| p.parse_expr())
    }
    pub fn query(&mut self) -> Result<Box<ast::Query>> {
        let query = self.sqlparser(|p| p.parse_query())?;
        if query.settings.is_some() || query.format_clause.is_some() {
            return Err(Error::unsupported("SETTINGS or FORMAT in a query"));
        }
        Ok(query)
    }

    /// `WITH (key = value, dotted.key = 'v', "quoted" = 3, flag)`, if it comes next.
    pub fn with_options(&mut self) -> Result<Options> {
        if !(self.sees("with") && self.parser.peek_nth_token_ref(1).token == Token::LParen) {
            return Ok(Options::new());
        }
        self.expect("with")?;
        self.options()
    }
    /// The same, but for what only says how Postgres lays rows out: it has no meaning here, and tools send it.
    pub fn with_options_beside_storage(&mut self) -> Result<Options> {
        let mut options = self.with_options()?;
        options.retain(|name, _| !is_storage_parameter(name));
        Ok(options)
    }
    /// `WITH (…)` of nothing else, if it comes next.
    pub fn storage_parameters(&mut self) -> Result<()> {
        self.only_storage(Self::with_options)
    }
    pub fn only_storage(&mut self, options: impl FnOnce(&mut Self) -> Result<Options>) -> Result<()> {
        match options(self)?.keys().find(|name| !is_storage_parameter(name)) {
            Some(name) => Err(Error::invalid_value(format!("unrecognized parameter \"{name}\""))),
            None => Ok(()),
        }
    }
    /// The parenthesised part of it.
    pub fn options(&mut self) -> Result<Options> {
        self.expect_token(&Token::LParen)?;
        let mut options = Options::new();
        if self.accept_token(&Token::RParen) {
            return Ok(options);
        }
        for (key, value) in self.comma_separated(Self::option)? {
            if options.insert(key.clone(), value).is_some() {
                return Err(Error::syntax(format!("option \"{key}\" is given more than once")));
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }
    fn option(&mut self) -> Result<(String, String)> {
        let key = match self.token().clone() {
            Token::SingleQuotedString(key) => {
                self.parser.advance_token();
                key
            }
            Token::Word(_) => {
                let mut key = self.word()?;
                while self.accept_token(&Token::Period) {
                    key = format!("{key}.{}", self.word()?);
                }
                key
            }
            _ => return self.unexpected(),
        };
        let value = if self.accept_token(&Token::Eq) { self.value()? } else { "true".into() };
        Ok((key, value))
    }
    /// A word that may be reserved, folded.
    pub fn word(&mut self) -> Result<String> {
        match self.token() {
            Token::Word(_) => Ok(fold(&self.sqlparser(|p| p.parse_identifier())?)),
            _ => self.unexpected(),
        }
    }
    /// A literal or a word, as text: `'a'`, `-3`, `1.5`, `true`, `kafka`, `INTERVAL '1 day'`.
    pub fn value(&mut self) -> Result<String> {
        match self.token().clone() {
            Token::Minus | Token::Plus => {
                let sign = if self.accept_token(&Token::Minus) { "-" } else { "" };
                self.accept_token(&Token::Plus);
                match self.token().clone() {
                    Token::Number(digits, _) => {
                        self.parser.advance_token();
                        Ok(format!("{sign}{digits}"))
                    }
                    _ => self.unexpected(),
                }
            }
            Token::Number(digits, _) => {
                self.parser.advance_token();
                // `4MB` is read as a number and a word.
                let unit = match self.parser.peek_token_no_skip().token {
                    Token::Word(_) => self.word()?,
                    _ => String::new(),
                };
                Ok(format!("{digits}{unit}"))
            }
            Token::Word(_)
                if self.sees("interval") && !matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_)) =>
            {
                let expression = self.expression()?;
                match interval_literal(&expression) {
                    Some(interval) => Ok(interval?.to_string()),
                    None => self.unexpected(),
                }
            }
            Token::Word(word) => {
                self.parser.advance_token();
                Ok(word.value)
            }
            _ => self.string(),
        }
    }
}

/// An INTERVAL literal's value; `None` when the expression is none.
pub fn interval_literal(expression: &ast::Expr) -> Option<Result<Interval>> {
    match expression {
        ast::Expr::Nested(inner) => interval_literal(inner),
        ast::Expr::Interval(interval) => {
            let text = match interval.value.as_ref() {
                ast::Expr::Value(value) => match &value.value {
                    ast::Value::Number(digits, _) => digits.clone(),
                    other => other.clone().into_string()?,
                },
                _ => return None,
            };
            let word = |field: &Option<ast::DateTimeField>| {
                field.as_ref().map(|unit| unit.to_string().to_lowercase().trim_end_matches('s').to_string())
            };
            let Some(first) = word(&interval.leading_field) else { return Some(Interval::parse(&text, None)) };
            let last = word(&interval.last_field).unwrap_or_else(|| first.clone());
            let precision = interval.fractional_seconds_precision.or(interval.leading_precision);
            Some(Interval::of_fields(&text, &Fields { first, last, precision }))
        }
        ast::Expr::Cast { expr, data_type: data_type @ ast::DataType::Interval { .. }, .. } => match expr.as_ref() {
            ast::Expr::Value(value) => Some(rounded(&value.value.clone().into_string()?, data_type)),
            _ => None,
        },
        ast::Expr::TypedString(typed) if matches!(typed.data_type, ast::DataType::Interval { .. }) => {
            Some(rounded(&typed.value.value.clone().into_string()?, &typed.data_type))
        }
        _ => None,
    }
}

/// An interval's text as a value of a type that may say how many digits come after the second.
fn rounded(text: &str, data_type: &ast::DataType) -> Result<Interval> {
    let interval = Interval::parse(text, None)?;
    Ok(match data_type {
        ast::DataType::Interval { precision: Some(digits), .. } => interval.rounded(*digits),
        _ => interval,
    })
}

/// Unquoted names fold to lower case.
pub fn fold(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

pub fn fold_name(name: &ast::ObjectName) -> Result<Name> {
    name_of_parts(name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect())
}

/// `t`, `schema.t`, `database.schema.t`.
pub fn name_of_parts(mut parts: Vec<String>) -> Result<Name> {
    let name = parts.pop().expect("a name has a part");
    let schema = parts.pop();
    match (parts.pop(), parts.is_empty()) {
        (None, _) => Ok(Name { schema, name }),
        (Some(database), true) if database == "millrace" => Ok(Name { schema, name }),
        (Some(_), true) => Err(Error::unsupported("reference to another database")),
        (Some(_), false) => Err(Error::syntax(format!("improper qualified name (too many dotted names): {name}"))),
    }
}

/// Whether an unquoted word can name nothing.
pub fn is_reserved(ident: &ast::Ident) -> bool {
    ident.quote_style.is_none() && is_reserved_word(&ident.value.to_ascii_lowercase())
}

/// Whether a word, in lower case, names nothing unless it is quoted.
pub fn is_reserved_word(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Whether a name is the same without quotes.
pub fn is_plain_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
        && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
        && !is_reserved_word(name)
}

/// Postgres' reserved words, which are no names unless quoted.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Postgres' storage parameters of tables and indexes.
fn is_storage_parameter(name: &str) -> bool {
    let names = [
        "fillfactor",
        "toast_tuple_target",
        "parallel_workers",
        "vacuum_truncate",
        "vacuum_index_cleanup",
        "log_autovacuum_min_duration",
        "deduplicate_items",
    ];
    names.contains(&name) || name.starts_with("autovacuum_") || name.starts_with("toast.")
}
