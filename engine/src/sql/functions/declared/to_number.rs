//! `to_number(text, format)`: a number read by a template, as Postgres reads it (`NUM_processor` in formatting.c): patterns
//! of digits take digits where there are some, signs stand in front of or behind them, and what else is in the template
//! passes over as many characters.
//!
//! ```text
//!   to_number('12,454.8-', '99G999D9S')   -12454.8
//! ```
//!
//! Not there: V, whose result has a scale of its own; EEEE and RN, as in Postgres.

use datafusion::error::Result;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::sql::types::{NUMERIC_PRECISION_MAX, NUMERIC_SCALE_DEFAULT};

pub fn all() -> Vec<Declared> {
    vec![function("to_number", &[of(&[Text, Text], PlainNumeric, to_number)])]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Digit,
    Point,
    Comma,
    Currency,
    Ordinal,
    Minus,
    Plus,
    Sign,
    /// S, PR and what else takes nothing by itself.
    Nothing,
    Text,
}

/// The words of a template, those that begin like another one after it.
const WORDS: &[(&str, Item)] = &[
    ("FM", Item::Nothing),
    ("MI", Item::Minus),
    ("PL", Item::Plus),
    ("PR", Item::Nothing),
    ("SG", Item::Sign),
    ("SP", Item::Nothing),
    ("TH", Item::Ordinal),
    ("S", Item::Nothing),
    ("B", Item::Nothing),
    ("C", Item::Nothing),
    ("D", Item::Point),
    ("G", Item::Comma),
    ("L", Item::Currency),
    (".", Item::Point),
    (",", Item::Comma),
    ("0", Item::Digit),
    ("9", Item::Digit),
];

#[derive(Default)]
struct Template {
    items: Vec<Item>,
    /// Digits after the point.
    decimals: usize,
    /// S before the first digit, or behind one.
    sign_before: bool,
    sign_behind: bool,
    brackets: bool,
    /// MI, PL or SG.
    loose_sign: bool,
    /// FM: commas stand for nothing.
    compact: bool,
}

fn template(format: &str) -> Result<Template> {
    let mut template = Template::default();
    let (mut rest, mut quoted, mut point, mut digits) = (format, false, false, false);
    while let Some(c) = rest.chars().next() {
        let upper = |n: usize| rest.get(..n).map(str::to_ascii_uppercase).unwrap_or_default();
        if c == '"' || (quoted && c != '\\') {
            quoted ^= c == '"';
            if c != '"' {
                template.items.push(Item::Text);
            }
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if c == '\\' {
            rest = &rest[1..];
            rest = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
            template.items.push(Item::Text);
            continue;
        }
        match (upper(4).as_str(), upper(2).as_str(), upper(1).as_str()) {
            ("EEEE", ..) => return fail("0A000", "\"EEEE\" not supported for input"),
            (_, "RN", _) => return fail("0A000", "\"RN\" not supported for input"),
            (_, _, "V") => return fail("0A000", "\"V\" is not supported for input"),
            _ => {}
        }
        let Some((word, item)) = WORDS.iter().find(|(word, _)| upper(word.len()) == *word) else {
            template.items.push(Item::Text);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        match (*word, item) {
            ("S", _) if digits => template.sign_behind = true,
            ("S", _) => template.sign_before = true,
            ("PR", _) => template.brackets = true,
            ("FM", _) => template.compact = true,
            (_, Item::Minus | Item::Plus | Item::Sign) => template.loose_sign = true,
            (_, Item::Point) if point => return fail("42601", "multiple decimal points"),
            (_, Item::Point) => point = true,
            (_, Item::Digit) => {
                digits = true;
                template.decimals += usize::from(point);
            }
            _ => {}
        }
        template.items.push(*item);
        rest = &rest[word.len()..];
    }
    Ok(template)
}

struct Reader<'a> {
    template: &'a Template,
    text: Vec<char>,
    at: usize,
    sign: Option<char>,
    digits: String,
    before: usize,
    after: usize,
    point: bool,
}

impl Reader<'_> {
    fn next(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    /// A place for a digit or the point.
    fn number(&mut self, item: Item) {
        if self.next() == Some(' ') {
            self.at += 1;
        }
        let signed = self.template.sign_before || self.template.sign_behind;
        if self.sign.is_none() && item == Item::Digit && self.before + self.after == 0 {
            match self.next() {
                Some(sign @ ('-' | '+')) => self.take_sign(sign),
                Some('<') if self.template.brackets && !self.template.sign_before => self.take_sign('-'),
                _ => {}
            }
        }
        let mut read = false;
        match self.next() {
            None => return,
            Some(digit) if digit.is_ascii_digit() => {
                if self.point && self.after == self.template.decimals {
                    return;
                }
                self.digits.push(digit);
                *(if self.point { &mut self.after } else { &mut self.before }) += 1;
                read = true;
            }
            Some('.') if !self.point => {
                self.digits.push('.');
                self.point = true;
                read = true;
            }
            Some(_) => {}
        }
        if self.sign.is_some() || self.before + self.after == 0 {
            return;
        }
        let following = self.text.get(self.at + 1).copied();
        match (self.next(), following) {
            // The sign that S asks for stands right behind the last digit.
            (_, Some(sign @ ('-' | '+'))) if signed && read => {
                self.at += 1;
                self.sign = Some(sign);
            }
            (Some(sign @ ('-' | '+')), _) if !signed && !read && self.template.loose_sign => self.sign = Some(sign),
            _ => {}
        }
    }

    fn take_sign(&mut self, sign: char) {
        self.sign = Some(sign);
        self.at += 1;
    }

    /// Passes over characters that are no part of a number.
    fn pass(&mut self, most: usize) {
        for _ in 0..most {
            match self.next() {
                Some(c) if !"0123456789.,+-".contains(c) => self.at += 1,
                _ => return,
            }
        }
    }

    fn run(&mut self) {
        for item in &self.template.items {
            if self.at >= self.text.len() {
                return;
            }
            match item {
                Item::Digit | Item::Point => {
                    self.number(*item);
                    self.at += 1;
                }
                Item::Comma if self.template.compact => {}
                Item::Comma => self.at += usize::from(self.next() == Some(',')),
                Item::Currency => self.pass(1),
                Item::Ordinal => self.pass(2),
                Item::Minus | Item::Plus | Item::Sign => match self.next() {
                    Some(sign @ '-') if *item != Item::Plus => self.take_sign(sign),
                    Some(sign @ '+') if *item != Item::Minus => self.take_sign(sign),
                    _ => self.pass(1),
                },
                Item::Text => self.at += 1,
                Item::Nothing => {}
            }
        }
    }
}

fn to_number<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    if r.text(1).is_empty() {
        return Ok(Value::Null);
    }
    let template = template(r.text(1))?;
    let (sign, digits) = read(r.text(0), &template);
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return fail("22P02", format!("invalid input syntax for type numeric: \"{}\"", sign.unwrap_or(' ')));
    }
    let scale = NUMERIC_SCALE_DEFAULT as usize;
    if fraction.len() > scale {
        return fail("0A000", format!("a number with more than {scale} digits after the point"));
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() + scale > NUMERIC_PRECISION_MAX.into() {
        return fail("22003", "numeric field overflow");
    }
    let number: i128 = format!("0{whole}{fraction:0<scale$}").parse().expect("digits, as many as fit");
    Ok(Value::Numeric(if sign == Some('-') { -number } else { number }))
}

fn read(text: &str, template: &Template) -> (Option<char>, String) {
    let mut reader = Reader {
        template,
        text: text.chars().collect(),
        at: 0,
        sign: None,
        digits: String::new(),
        before: 0,
        after: 0,
        point: false,
    };
    reader.run();
    (reader.sign, reader.digits)
}
