//! A text of many statements, cut at its semicolons by the tokenizer, so that those in strings, comments and dollar
//! quotes stay; and errors with the place where they arose.
//!
//! Here too are the bounds that keep a hostile text from overflowing the stack: sqlparser counts the depth of
//! nesting, but flat chains (`a OR b OR …`, `1 + 1 + …`, `SELECT … UNION SELECT …`) become deep trees without any
//! nesting, so they are counted on the tokens before anything is parsed.

use std::cell::Cell;

use sqlparser::keywords::Keyword;
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};

use super::{frame, spellings, unicode_names};
use crate::error::{Error, Result};
use crate::sql::bounds;
use crate::sql::dialect::DIALECT;
use crate::sql::window::PARTITION;

/// An operator that has one of these may end with a sign.
const OWN_SIGNS: [char; 10] = ['~', '!', '@', '#', '%', '^', '&', '|', '`', '?'];
/// Operators in one flat chain.
const CHAIN_MAX: usize = 1_000;
/// CASEs within CASEs.
const CASES_MAX: usize = 100;
/// SELECTs in one statement: each is a plan within a plan.
const SELECTS_MAX: usize = 500;
/// Joins and set operations in one statement.
const JOINS_MAX: usize = 300;

/// The whole text, to find places in it.
pub struct Source<'a> {
    pub text: &'a str,
    /// Byte offset of each line.
    lines: Vec<usize>,
    /// The place asked for last: byte of its line, characters before it in the line, byte. The next one is mostly behind
    /// it.
    last: Cell<(usize, usize, usize)>,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Source { text, lines, last: Cell::default() }
    }

    /// Byte offset of a place.
    pub fn byte(&self, location: Location) -> usize {
        let Some(&line) = self.lines.get((location.line as usize).wrapping_sub(1)) else { return self.text.len() };
        let column = (location.column as usize).saturating_sub(1);
        let (last_line, last_column, last) = self.last.get();
        let (from, skipped) =
            if last_line == line && last_column <= column && last >= line { (last, last_column) } else { (line, 0) };
        let byte = self.text[from..].char_indices().nth(column - skipped).map_or(self.text.len(), |(i, _)| from + i);
        if byte < self.text.len() {
            self.last.set((line, column, byte));
        }
        byte
    }

    /// Characters before a byte offset, plus one.
    fn position(&self, byte: usize) -> usize {
        self.text[..byte].chars().count() + 1
    }

    /// `syntax error at or near "x"`, or `… at end of input`, at a token.
    pub fn unexpected(&self, token: &TokenWithSpan) -> Error {
        if token.token == Token::EOF || token.span.start.line == 0 {
            return Error::syntax("syntax error at end of input").position(Some(self.position(self.text.len())));
        }
        let (start, end) = (self.byte(token.span.start), self.byte(token.span.end));
        let near = self.text.get(start..end).filter(|t| !t.is_empty()).unwrap_or(&self.text[start..]);
        Error::syntax(format!("syntax error at or near \"{near}\"")).position(Some(self.position(start)))
    }

    /// Places an error at a token.
    pub fn at(&self, error: Error, token: &TokenWithSpan) -> Error {
        let position = self.position(self.byte(token.span.start));
        error.position(Some(position))
    }

    /// The same in our words for what sqlparser found.
    pub fn parser_error(&self, error: ParserError) -> Error {
        let message = match error {
            ParserError::RecursionLimitExceeded => return bounds::check().err().unwrap_or_else(too_deep),
            ParserError::TokenizerError(message) => return Error::syntax(message),
            ParserError::ParserError(message) => message,
        };
        if let Some(location) = location_in(&message) {
            // Tokenised again, because the parser owned the tokens: this path is rare.
            let tokens = Tokenizer::new(&DIALECT, self.text).tokenize_with_location().unwrap_or_default();
            if let Some(token) = tokens.iter().find(|t| t.span.start == location) {
                return self.unexpected(token);
            }
            return Error::syntax(format!("syntax error: {message}"))
                .position(Some(self.position(self.byte(location))));
        }
        if message.contains("found: EOF") {
            return Error::syntax("syntax error at end of input").position(Some(self.position(self.text.len())));
        }
        Error::syntax(format!("syntax error: {message}"))
    }
}

fn too_deep() -> Error {
    Error::new("54001", "stack depth limit exceeded")
        .hint("The statement is nested too deeply, or a chain in it is too long.")
}

/// sqlparser ends its messages with ` at Line: 1, Column: 8`.
fn location_in(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

/// The tokens of each statement, without its semicolon. Only white space and comments make no statement, except that
/// a text without any yields one that is empty.
pub fn split(source: &Source<'_>) -> Result<Vec<Vec<TokenWithSpan>>> {
    let tokens = Tokenizer::new(&DIALECT, source.text).tokenize_with_location().map_err(|error| {
        let byte = source.byte(error.location);
        let near = source.text[byte..].lines().next().unwrap_or_default();
        let message = match error.message.as_str() {
            m if m.starts_with("Unterminated string literal") => "unterminated quoted string",
            m if m.starts_with("Expected close delimiter") => "unterminated quoted identifier",
            m if m.contains("comment") => "unterminated /* comment",
            m if m.contains("dollar") => "unterminated dollar-quoted string",
            _ => "syntax error",
        };
        Error::syntax(format!("{message} at or near \"{near}\"")).position(Some(source.position(byte)))
    })?;
    let statements: Vec<Vec<TokenWithSpan>> = spellings::join_texts(unicode_names::read(without_signs(tokens))?)
        .split(|t| t.token == Token::SemiColon)
        .filter(|tokens| tokens.iter().any(significant))
        .map(<[_]>::to_vec)
        .collect();
    for tokens in &statements {
        check_bounds(tokens)?;
    }
    Ok(if statements.is_empty() { vec![Vec::new()] } else { statements })
}

/// `a>-2`, `1-+2`: an operator's name ends with a sign only if there is something in it that no operator of SQL has.
fn without_signs(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    fn cut(token: &Token) -> Option<(&str, &str)> {
        match token {
            Token::CustomBinaryOperator(name) if name.ends_with(['+', '-']) && !name.contains(OWN_SIGNS) => {
                let rest = name.trim_end_matches(['+', '-']);
                Some(name.split_at(rest.len()))
            }
            _ => None,
        }
    }
    if tokens.iter().all(|t| cut(&t.token).is_none()) {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 1);
    for token in tokens {
        let Some((operator, signs)) = cut(&token.token) else {
            out.push(token);
            continue;
        };
        // Blanks around, so that the tokenizer sees each by itself.
        let parts = signs.chars().fold(format!("{operator} "), |text, sign| text + &sign.to_string() + " ");
        let Ok(parts) = Tokenizer::new(&DIALECT, &parts).tokenize() else {
            out.push(token);
            continue;
        };
        let parts = parts.into_iter().filter(|part| !matches!(part, Token::Whitespace(_)));
        out.extend(parts.map(|part| TokenWithSpan { token: part, span: token.span }));
    }
    out
}

pub fn significant(token: &TokenWithSpan) -> bool {
    !matches!(token.token, Token::Whitespace(_) | Token::EOF)
}

/// Prepares a statement's tokens for sqlparser, which does not know our words.
///
/// After a table, `EMIT …` would be taken for an alias and `WITH (…)` for hints to the optimizer: they are marked as a
/// keyword that can be neither. `TABLE` in `TUMBLE(TABLE t, …)` is noise, and left out; `t PARTITION BY k` in SESSION
/// becomes two arguments; EXCLUDE in a frame goes into its first bound. `TABLE t` as a query becomes `SELECT * FROM t`: sqlparser swallows the word after it.
pub fn prepare(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    let words: Vec<usize> = (0..tokens.len()).filter(|&i| significant(&tokens[i])).collect();
    let word = |n: usize| words.get(n).map_or("", |&i| unquoted(&tokens[i].token));
    let is = |n: usize, text: &str| word(n).eq_ignore_ascii_case(text);
    let token = |n: usize| words.get(n).map(|&i| &tokens[i].token);
    let all: Vec<&Token> = words.iter().map(|&i| &tokens[i].token).collect();
    let mut clauses = Vec::new();
    // Where, how many tokens go, which come.
    let mut edits: Vec<(usize, usize, Vec<Token>)> = Vec::new();
    // Those that come after others at the same place: in a call, as EXCLUDE makes of a bound, a cast needs no parentheses.
    let mut casts: Vec<(usize, usize, Vec<Token>)> = Vec::new();
    let blank = || Token::Whitespace(Whitespace::Space);
    for n in 0..words.len() {
        let clause = is(n + 1, "changes")
            || is(n + 1, "final")
            || (is(n + 1, "on") && is(n + 2, "window") && is(n + 3, "close"));
        if (is(n, "emit") && clause) || (is(n, "with") && token(n + 1) == Some(&Token::LParen)) {
            clauses.push(words[n]);
        }
        // sqlparser knows ASOF JOIN with another grammar, and GLOBAL before any join.
        if is(n, "asof") && ["join", "inner", "left", "right", "full"].iter().any(|word| is(n + 1, word)) {
            edits.push((words[n], 1, vec![Token::make_keyword("GLOBAL")]));
        }
        let respelt = spellings::respelt(&all, n).into_iter();
        edits.extend(respelt.map(|(at, removed, inserted)| (words[at], removed, inserted)));
        if is(n, "exclude") {
            bounds::check()?;
            let excluded = frame::exclusion(&all, n).into_iter();
            edits.extend(excluded.map(|(at, removed, inserted)| (words[at], removed, inserted)));
        }
        if matches!(token(n), Some(Token::SingleQuotedString(_))) {
            let cast = frame::cast_bound(&all, n).into_iter();
            casts.extend(cast.map(|(at, removed, inserted)| (words[at], removed, inserted)));
        }
        // sqlparser knows a plain number of rows.
        if n > 0 && is(n, "fetch") && (is(n + 1, "first") || is(n + 1, "next")) && token(n + 2) == Some(&Token::LParen)
        {
            let end =
                closing(&all, n + 2)?.filter(|end| (is(end + 1, "row") || is(end + 1, "rows")) && is(end + 2, "only"));
            if let Some(end) = end {
                edits.push((words[n], 1, vec![Token::make_keyword("LIMIT")]));
                edits.extend([n + 1, end + 1, end + 2].map(|word| (words[word], 1, vec![])));
            }
        }
        // Read as a call, whose argument is a query only in parentheses of its own.
        let quantified = n > 0 && (is(n, "all") || is(n, "some")) && (is(n - 1, "like") || is(n - 1, "ilike"));
        if quantified
            && token(n + 1) == Some(&Token::LParen)
            && ["select", "values", "with"].iter().any(|w| is(n + 2, w))
        {
            if let Some(end) = closing(&all, n + 1)? {
                edits.push((words[n + 2], 0, vec![Token::LParen]));
                edits.push((words[end], 0, vec![Token::RParen]));
            }
        }
        let opened = n >= 2 && token(n - 1) == Some(&Token::LParen);
        if is(n, "table") && opened && ["tumble", "hop", "cumulate", "session"].iter().any(|f| is(n - 2, f)) {
            edits.push((words[n], 1, vec![]));
        }
        if is(n, "session") && token(n + 1) == Some(&Token::LParen) {
            let arguments: Vec<&Token> = words[n + 2..].iter().map(|&i| &tokens[i].token).collect();
            bounds::check()?;
            if let Some((by, end)) = partition_by(&arguments) {
                let (by, end) = (n + 2 + by, n + 2 + end);
                let partition = Token::make_word(PARTITION, None);
                edits.push((words[by], 1, vec![Token::Comma, blank(), partition, Token::LParen]));
                edits.push((words[by + 1], 1, vec![]));
                edits.push((words[end], 0, vec![Token::RParen]));
            }
        }
        if is(n, "table") && n >= 2 && token(n - 1) == Some(&Token::RArrow) && is(n - 2, "data") {
            edits.push((words[n], 1, vec![]));
        }
        let set_operation = |n: usize| ["union", "except", "intersect"].iter().any(|word| is(n, word));
        let starts_query = match n.checked_sub(1) {
            None => true,
            Some(before) if token(before) == Some(&Token::LParen) => {
                // A parenthesis after a name opens arguments, which are no query.
                let named = before.checked_sub(1).and_then(token);
                !matches!(named, Some(Token::Word(word)) if word.keyword == Keyword::NoKeyword)
            }
            Some(before) if is(before, "as") || is(before, "explain") => {
                matches!(token(n + 1), Some(Token::Word(word)) if word.keyword == Keyword::NoKeyword)
            }
            // After the queries of a WITH.
            Some(before) if token(before) == Some(&Token::RParen) && is(0, "with") => {
                matches!(token(n + 1), Some(Token::Word(word)) if word.keyword == Keyword::NoKeyword)
            }
            Some(before) if is(0, "insert") && n >= 3 => {
                matches!(token(before), Some(Token::Word(_) | Token::RParen))
            }
            Some(before) => {
                set_operation(before)
                    || ((is(before, "all") || is(before, "distinct")) && before > 0 && set_operation(before - 1))
            }
        };
        if is(n, "table") && starts_query && matches!(token(n + 1), Some(Token::Word(_))) {
            let select =
                ["SELECT", "*", "FROM"].map(|word| if word == "*" { Token::Mul } else { Token::make_keyword(word) });
            edits.push((words[n], 1, select.into_iter().flat_map(|token| [token, blank()]).collect()));
        }
    }
    let mut tokens = tokens;
    for i in clauses {
        if let Token::Word(word) = &mut tokens[i].token {
            word.keyword = Keyword::VIEW;
        }
    }
    edits.extend(casts);
    edits.sort_by_key(|(at, ..)| *at);
    edits.dedup_by_key(|(at, ..)| *at);
    for (at, removed, inserted) in edits.into_iter().rev() {
        let span = tokens[at].span;
        tokens.splice(at..at + removed, inserted.into_iter().map(|token| TokenWithSpan { token, span }));
    }
    Ok(tokens)
}

/// Where the parenthesis ends that begins at `open`.
fn closing(tokens: &[&Token], open: usize) -> Result<Option<usize>> {
    bounds::check()?;
    let mut depth = 0;
    Ok((open..tokens.len()).find(|&at| {
        match tokens[at] {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth == 0
    }))
}

/// Where in the arguments of SESSION its `PARTITION BY` stands, and the comma after its columns: two arguments follow.
fn partition_by(arguments: &[&Token]) -> Option<(usize, usize)> {
    let (mut depth, mut commas, mut by) = (0, Vec::new(), None);
    for (n, token) in arguments.iter().enumerate() {
        match token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => break,
            Token::RParen => depth -= 1,
            Token::Comma if depth == 0 => commas.push(n),
            Token::Word(_) if depth == 0 && unquoted(token).eq_ignore_ascii_case("partition") => by = by.or(Some(n)),
            _ => {}
        }
    }
    let by = by.filter(|&by| arguments.get(by + 1).is_some_and(|next| unquoted(next).eq_ignore_ascii_case("by")))?;
    let end = *commas.iter().rev().nth(1).filter(|&&end| end > by)?;
    Some((by, end))
}

/// The text of an unquoted word; nothing for other tokens.
pub fn unquoted(token: &Token) -> &str {
    match token {
        Token::Word(word) if word.quote_style.is_none() => &word.value,
        _ => "",
    }
}

fn check_bounds(tokens: &[TokenWithSpan]) -> Result<()> {
    // Operators since the last comma or clause, per open parenthesis.
    let (mut chain, mut outer) = (0usize, Vec::new());
    let (mut selects, mut joins, mut cases) = (0, 0, 0usize);
    let mut before = "";
    for token in tokens.iter().filter(|t| significant(t)) {
        match &token.token {
            // Nesting without parentheses that sqlparser does not count.
            Token::Word(_)
                if before.eq_ignore_ascii_case("interval") && unquoted(&token.token).eq_ignore_ascii_case(before) =>
            {
                chain += CHAIN_MAX / 20;
            }
            Token::Lt if before.eq_ignore_ascii_case("array") => chain += CHAIN_MAX / 20,
            Token::LParen | Token::LBracket => outer.push(std::mem::take(&mut chain)),
            Token::RParen | Token::RBracket => chain = outer.pop().unwrap_or(chain),
            Token::Comma => chain = 0,
            Token::Word(word) if word.quote_style.is_none() => match word.value.to_ascii_uppercase().as_str() {
                "SELECT" => {
                    selects += 1;
                    chain = 0;
                }
                "FROM" | "WHERE" | "GROUP" | "HAVING" | "ORDER" | "WHEN" | "THEN" | "ELSE" | "ON" | "VALUES"
                | "SET" => {
                    chain = 0;
                }
                // sqlparser counts its levels, and calls what is too deep a mistake.
                "CASE" => cases += 1,
                "END" => cases = cases.saturating_sub(1),
                "JOIN" => {
                    joins += 1;
                    chain = 0;
                }
                "UNION" | "INTERSECT" | "EXCEPT" => joins += 1,
                "AND" | "OR" | "IS" | "NOT" | "LIKE" | "ILIKE" | "SIMILAR" | "IN" | "BETWEEN" | "COLLATE" | "AT" => {
                    chain += 1
                }
                _ => {}
            },
            Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period => {}
            _ => chain += 1,
        }
        before = unquoted(&token.token);
        if chain > CHAIN_MAX || selects > SELECTS_MAX || joins > JOINS_MAX || cases > CASES_MAX {
            return Err(too_deep());
        }
    }
    Ok(())
}
