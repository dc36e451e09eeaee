//! A path's text as a tree.

use std::rc::Rc;

use super::numbers::Number;
use super::value::Json;
use crate::error::{Error, Result};

#[derive(Debug)]
pub struct Path {
    pub strict: bool,
    pub expr: Expr,
}

#[derive(Debug)]
pub enum Expr {
    Literal(Json),
    Root,
    Current,
    /// The last index of the array whose subscript this stands in.
    Last,
    Variable(String),
    Steps(Box<Expr>, Vec<Step>),
    Negated(Box<Expr>),
    Positive(Box<Expr>),
    Computed(Operator, Box<Expr>, Box<Expr>),
    Compared(Comparison, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    IsUnknown(Box<Expr>),
    Exists(Box<Expr>),
    StartsWith(Box<Expr>, Box<Expr>),
    LikeRegex {
        of: Box<Expr>,
        pattern: String,
        flags: String,
    },
}

#[derive(Debug)]
pub enum Step {
    Key(String),
    AnyKey,
    /// `.**{from to until}`, levels below; `None` is the last.
    Below(Option<u32>, Option<u32>),
    AnyItem,
    /// `[1, 2 to last]`
    Items(Vec<(Expr, Option<Expr>)>),
    Filter(Expr),
    Method(Method),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    Type,
    Size,
    Double,
    Ceiling,
    Floor,
    Abs,
    KeyValue,
}

#[derive(Debug, Clone, Copy)]
pub enum Operator {
    Plus,
    Minus,
    Times,
    Divided,
    Modulo,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// In quotes.
    Text(String),
    Number(String),
    Variable(String),
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "**", "==", "!=", "<>", "<=", ">=", "&&", "||", "$", "@", ".", "*", "[", "]", "(", ")", "{", "}", "?", ",", "+",
    "-", "/", "%", "<", ">", "!",
];

/// How deep a path may be nested.
const DEPTH_MAX: usize = 200;

/// Errors: 42601, 54001, 0A000.
pub fn parse(text: &str) -> Result<Path> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let strict = parser.accept_word("strict");
    let _ = !strict && parser.accept_word("lax");
    let expr = parser.or()?;
    match parser.at == parser.tokens.len() {
        true => Ok(Path { strict, expr }),
        false => Err(parser.unexpected()),
    }
}

fn syntax(near: &str) -> Error {
    match near {
        "" => Error::syntax("syntax error at end of jsonpath input"),
        near => Error::syntax(format!("syntax error at or near \"{near}\" of jsonpath input")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut out = Vec::new();
    let mut rest = text;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| Error::syntax("unexpected end of comment of jsonpath input"))?;
            rest = &rest[end + 2..];
        } else if first == '"' {
            let (text, after) = quoted(rest)?;
            out.push(Token::Text(text));
            rest = after;
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            let (number, after) = number(rest);
            if after.starts_with(is_word) {
                return Err(Error::syntax(format!(
                    "trailing junk after numeric literal at or near \"{rest}\" of jsonpath input"
                )));
            }
            out.push(Token::Number(number.to_string()));
            rest = after;
        } else if first == '$' && rest[1..].starts_with(|c: char| is_word(c) || c == '"') {
            let (name, after) = match rest[1..].starts_with('"') {
                true => quoted(&rest[1..])?,
                false => {
                    let end = rest[1..].find(|c: char| !is_word(c)).map_or(rest.len(), |end| end + 1);
                    (rest[1..end].to_string(), &rest[end..])
                }
            };
            out.push(Token::Variable(name));
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_string()));
            rest = &rest[end..];
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign)).ok_or_else(|| syntax(&first.to_string()))?;
            out.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        }
    }
    Ok(out)
}

/// A number at the start, and what follows. Behind a point there are digits, or nothing of it is the number's: `1.type()`.
fn number(text: &str) -> (&str, &str) {
    let digits = |at: usize| text[at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| at + end);
    let mut end = digits(0);
    if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        if text[end + 1 + sign..].starts_with(|c: char| c.is_ascii_digit()) {
            end = digits(end + 1 + sign);
        }
    }
    text.split_at(end)
}

/// A text in quotes at the start, and what follows.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = !escaped && *c == '"';
        escaped = !escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else { return Err(Error::syntax("unterminated quoted string of jsonpath input")) };
    let json = &text[..=end];
    let read = serde_json::from_str::<String>(json).map_err(|_| syntax(json))?;
    Ok((read, &text[end + 1..]))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }
    fn unexpected(&self) -> Error {
        match self.peek() {
            None => syntax(""),
            Some(Token::Word(text) | Token::Text(text) | Token::Number(text)) => syntax(text),
            Some(Token::Variable(name)) => syntax(&format!("${name}")),
            Some(Token::Sign(sign)) => syntax(sign),
        }
    }
    fn accept(&mut self, sign: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }
    fn expect(&mut self, sign: &'static str) -> Result<()> {
        if self.accept(sign) { Ok(()) } else { Err(self.unexpected()) }
    }
    fn sees_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }
    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.sees_word(word);
        self.at += usize::from(found);
        found
    }
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::new("54001", "jsonpath is nested too deeply"));
        }
        let inner = inner(self);
        self.depth -= 1;
        inner
    }

    fn or(&mut self) -> Result<Expr> {
        let mut left = self.and()?;
        while self.accept("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }
    fn and(&mut self) -> Result<Expr> {
        let mut left = self.comparison()?;
        while self.accept("&&") {
            left = Expr::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }
    fn comparison(&mut self) -> Result<Expr> {
        use Comparison::*;
        if self.accept("!") {
            return self.deeper(|p| Ok(Expr::Not(Box::new(p.comparison()?))));
        }
        let left = self.sum()?;
        const COMPARISONS: &[(&str, Comparison)] = &[
            ("==", Equal),
            ("!=", Unequal),
            ("<>", Unequal),
            ("<=", LessOrEqual),
            (">=", GreaterOrEqual),
            ("<", Less),
            (">", Greater),
        ];
        for (sign, comparison) in COMPARISONS {
            if self.accept(sign) {
                return Ok(Expr::Compared(*comparison, Box::new(left), Box::new(self.sum()?)));
            }
        }
        if self.accept_word("is") {
            return match self.accept_word("unknown") {
                true => Ok(Expr::IsUnknown(Box::new(left))),
                false => Err(self.unexpected()),
            };
        }
        if self.accept_word("starts") {
            return match self.accept_word("with") {
                true => Ok(Expr::StartsWith(Box::new(left), Box::new(self.sum()?))),
                false => Err(self.unexpected()),
            };
        }
        if self.accept_word("like_regex") {
            let pattern = self.text()?;
            let flags = if self.accept_word("flag") { self.text()? } else { String::new() };
            if let Some(unknown) = flags.chars().find(|flag| !"ismxq".contains(*flag)) {
                let detail = format!("Unrecognized flag character \"{unknown}\" in LIKE_REGEX predicate.");
                return Err(Error::syntax("invalid input syntax for type jsonpath").detail(detail));
            }
            if flags.contains('x') {
                return Err(Error::unsupported("XQuery \"x\" flag (expanded regular expressions)"));
            }
            return Ok(Expr::LikeRegex { of: Box::new(left), pattern, flags });
        }
        Ok(left)
    }
    fn text(&mut self) -> Result<String> {
        match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected()),
        }
    }
    fn sum(&mut self) -> Result<Expr> {
        let mut left = self.product()?;
        loop {
            let operator = match () {
                _ if self.accept("+") => Operator::Plus,
                _ if self.accept("-") => Operator::Minus,
                _ => return Ok(left),
            };
            left = Expr::Computed(operator, Box::new(left), Box::new(self.product()?));
        }
    }
    fn product(&mut self) -> Result<Expr> {
        let mut left = self.signed()?;
        loop {
            let operator = match () {
                _ if self.accept("*") => Operator::Times,
                _ if self.accept("/") => Operator::Divided,
                _ if self.accept("%") => Operator::Modulo,
                _ => return Ok(left),
            };
            left = Expr::Computed(operator, Box::new(left), Box::new(self.signed()?));
        }
    }
    fn signed(&mut self) -> Result<Expr> {
        if self.accept("-") {
            return self.deeper(|p| Ok(Expr::Negated(Box::new(p.signed()?))));
        }
        if self.accept("+") {
            return self.deeper(|p| Ok(Expr::Positive(Box::new(p.signed()?))));
        }
        let primary = self.deeper(Self::primary)?;
        let mut steps = Vec::new();
        while let Some(step) = self.deeper(Self::step)? {
            steps.push(step);
        }
        Ok(if steps.is_empty() { primary } else { Expr::Steps(Box::new(primary), steps) })
    }
    fn primary(&mut self) -> Result<Expr> {
        if self.accept("(") {
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let Some(token) = self.peek().cloned() else { return Err(self.unexpected()) };
        let expr = match token {
            Token::Sign("$") => Expr::Root,
            Token::Sign("@") => Expr::Current,
            Token::Variable(name) => Expr::Variable(name),
            Token::Text(text) => Expr::Literal(Json::Text(text.as_str().into())),
            Token::Number(digits) => Expr::Literal(Json::Number(Rc::from(Number::parse(&digits)?.text()))),
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "true" => Expr::Literal(Json::Boolean(true)),
                "false" => Expr::Literal(Json::Boolean(false)),
                "null" => Expr::Literal(Json::Null),
                "last" => Expr::Last,
                "exists" => {
                    self.at += 1;
                    self.expect("(")?;
                    let inner = self.or()?;
                    self.expect(")")?;
                    return Ok(Expr::Exists(Box::new(inner)));
                }
                _ => return Err(self.unexpected()),
            },
            Token::Sign(_) => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(expr)
    }
    fn step(&mut self) -> Result<Option<Step>> {
        if self.accept("[") {
            if self.accept("*") {
                self.expect("]")?;
                return Ok(Some(Step::AnyItem));
            }
            let mut items = Vec::new();
            loop {
                let from = self.sum()?;
                items.push((from, if self.accept_word("to") { Some(self.sum()?) } else { None }));
                if !self.accept(",") {
                    break;
                }
            }
            self.expect("]")?;
            return Ok(Some(Step::Items(items)));
        }
        if self.accept("?") {
            self.expect("(")?;
            let filter = self.or()?;
            self.expect(")")?;
            return Ok(Some(Step::Filter(filter)));
        }
        if !self.accept(".") {
            return Ok(None);
        }
        if self.accept("*") {
            return Ok(Some(Step::AnyKey));
        }
        if self.accept("**") {
            return self.levels().map(Some);
        }
        let key = match self.peek().cloned() {
            Some(Token::Word(word)) => {
                self.at += 1;
                if self.accept("(") {
                    return self.method(&word).map(Some);
                }
                word
            }
            Some(Token::Text(text)) => {
                self.at += 1;
                text
            }
            _ => return Err(self.unexpected()),
        };
        Ok(Some(Step::Key(key)))
    }
    fn method(&mut self, name: &str) -> Result<Step> {
        let method = match name {
            "type" => Method::Type,
            "size" => Method::Size,
            "double" => Method::Double,
            "ceiling" => Method::Ceiling,
            "floor" => Method::Floor,
            "abs" => Method::Abs,
            "keyvalue" => Method::KeyValue,
            "datetime" => return Err(Error::unsupported("datetime() in a jsonpath")),
            _ => return Err(syntax("(")),
        };
        self.expect(")")?;
        Ok(Step::Method(method))
    }
    /// `{2}`, `{1 to last}` behind `.**`.
    fn levels(&mut self) -> Result<Step> {
        if !self.accept("{") {
            return Ok(Step::Below(Some(0), None));
        }
        let from = self.level()?;
        let until = if self.accept_word("to") { self.level()? } else { from };
        self.expect("}")?;
        Ok(Step::Below(from, until))
    }
    fn level(&mut self) -> Result<Option<u32>> {
        match self.peek().cloned() {
            Some(Token::Number(digits)) => {
                self.at += 1;
                digits.parse().map(Some).map_err(|_| syntax(&digits))
            }
            _ if self.accept_word("last") => Ok(None),
            _ => Err(self.unexpected()),
        }
    }
}
