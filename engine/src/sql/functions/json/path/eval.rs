//! Walks a path over a document. In lax mode, the ordinary one, arrays are taken apart and made where a step wants the
//! other, and what is not there is nothing; in strict mode each is an error. Within a condition an error is unknown.

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;

use super::numbers::Number;
use super::parse::{Comparison, Expr, Method, Operator, Path, Step};
use super::value::Json;
use crate::error::{Error, Result};
use crate::sql::bounds;
use crate::sql::functions::declared::patterns::path_pattern;

pub struct Walk<'p> {
    path: &'p Path,
    root: Json,
    variables: Json,
    /// Behind `.**`, where what is not there is nothing in strict mode too.
    forgiving: Cell<bool>,
}

/// What `@` and `last` are.
#[derive(Clone)]
struct At {
    current: Json,
    last: Option<i64>,
}

/// Errors of the document rather than of the path, which `silent` leaves out.
pub fn may_be_silent(error: &Error) -> bool {
    error.code.starts_with("22")
}

impl<'p> Walk<'p> {
    pub fn new(path: &'p Path, root: Json, variables: Json) -> Self {
        Walk { path, root, variables, forgiving: Cell::new(false) }
    }

    pub fn run(&self) -> Result<Vec<Json>> {
        let at = At { current: self.root.clone(), last: None };
        self.items(&self.path.expr, &at)
    }

    fn is_lax(&self) -> bool {
        !self.path.strict
    }

    fn forgives(&self) -> bool {
        self.is_lax() || self.forgiving.get()
    }

    fn items(&self, expr: &Expr, at: &At) -> Result<Vec<Json>> {
        bounds::check()?;
        Ok(match expr {
            Expr::Literal(value) => vec![value.clone()],
            Expr::Root => vec![self.root.clone()],
            Expr::Current => vec![at.current.clone()],
            Expr::Last => match at.last {
                Some(last) => vec![number(Number::of(last))],
                None => return Err(Error::syntax("LAST is allowed only in array subscripts")),
            },
            Expr::Variable(name) => match self.variables.field(name) {
                Some(value) => vec![value.clone()],
                None => {
                    return Err(Error::undefined_object(format!("could not find jsonpath variable \"{name}\"")));
                }
            },
            Expr::Steps(of, steps) => {
                let mut items = self.items(of, at)?;
                let before = self.forgiving.get();
                for step in steps {
                    let walked = self.step(step, items, at);
                    if walked.is_err() {
                        self.forgiving.set(before);
                    }
                    items = walked?;
                    self.forgiving.set(self.forgiving.get() || matches!(step, Step::Below(..)));
                }
                self.forgiving.set(before);
                items
            }
            Expr::Negated(of) => self.signed(of, at, "-")?,
            Expr::Positive(of) => self.signed(of, at, "+")?,
            Expr::Computed(operator, left, right) => {
                let sign = sign_of(*operator);
                let (left, right) = (self.operand(left, at, "left", sign)?, self.operand(right, at, "right", sign)?);
                vec![number(match operator {
                    Operator::Plus => left.plus(right)?,
                    Operator::Minus => left.plus(right.negated())?,
                    Operator::Times => left.times(right)?,
                    Operator::Divided => left.divided_by(right)?,
                    Operator::Modulo => left.modulo(right)?,
                })]
            }
            condition => vec![self.holds(condition, at)?.map_or(Json::Null, Json::Boolean)],
        })
    }

    /// Items of arrays in the place of those, in lax mode.
    fn unwrapped(&self, items: Vec<Json>) -> Vec<Json> {
        if !self.is_lax() {
            return items;
        }
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Json::Array(inner) => out.extend(inner.iter().cloned()),
                other => out.push(other),
            }
        }
        out
    }

    fn signed(&self, of: &Expr, at: &At, sign: &str) -> Result<Vec<Json>> {
        let items = self.unwrapped(self.items(of, at)?);
        let one = |item: Json| match item {
            Json::Number(digits) if sign == "-" => Ok(number(Number::parse(&digits)?.negated())),
            Json::Number(digits) => Ok(Json::Number(digits)),
            _ => Err(Error::new("2203B", format!("operand of unary jsonpath operator {sign} is not a numeric value"))),
        };
        items.into_iter().map(one).collect()
    }

    fn operand(&self, of: &Expr, at: &At, side: &str, sign: &str) -> Result<Number> {
        match self.unwrapped(self.items(of, at)?).as_slice() {
            [Json::Number(digits)] => Number::parse(digits),
            _ => {
                let message = format!("{side} operand of jsonpath operator {sign} is not a single numeric value");
                Err(Error::new("22038", message))
            }
        }
    }

    fn step(&self, step: &Step, items: Vec<Json>, at: &At) -> Result<Vec<Json>> {
        let mut out = Vec::new();
        match step {
            Step::Key(key) => {
                for item in self.unwrapped(items) {
                    match (&item, item.field(key)) {
                        (_, Some(value)) => out.push(value.clone()),
                        _ if self.forgives() => {}
                        (Json::Object(_), None) => {
                            return Err(Error::new("2203A", format!("JSON object does not contain key \"{key}\"")));
                        }
                        _ => {
                            let message = "jsonpath member accessor can only be applied to an object";
                            return Err(Error::new("2203A", message));
                        }
                    }
                }
            }
            Step::AnyKey => {
                for item in self.unwrapped(items) {
                    match item {
                        Json::Object(fields) => out.extend(fields.iter().map(|(_, value)| value.clone())),
                        _ if self.forgives() => {}
                        _ => {
                            let message = "jsonpath wildcard member accessor can only be applied to an object";
                            return Err(Error::new("2203C", message));
                        }
                    }
                }
            }
            Step::AnyItem => {
                for item in items {
                    match item {
                        Json::Array(inner) => out.extend(inner.iter().cloned()),
                        other if self.is_lax() => out.push(other),
                        _ if self.forgives() => {}
                        _ => {
                            let message = "jsonpath wildcard array accessor can only be applied to an array";
                            return Err(Error::new("22039", message));
                        }
                    }
                }
            }
            Step::Items(places) => {
                for item in items {
                    self.places(places, item, at, &mut out)?;
                }
            }
            Step::Below(from, until) => {
                for item in items {
                    below(&item, 0, *from, *until, &mut out);
                }
            }
            Step::Filter(condition) => {
                for item in self.unwrapped(items) {
                    if self.holds(condition, &At { current: item.clone(), last: at.last })? == Some(true) {
                        out.push(item);
                    }
                }
            }
            Step::Method(method) => self.method(*method, items, &mut out)?,
        }
        Ok(out)
    }

    fn places(&self, places: &[(Expr, Option<Expr>)], item: Json, at: &At, out: &mut Vec<Json>) -> Result<()> {
        let items = match item {
            Json::Array(items) => items,
            other if self.is_lax() => Rc::new(vec![other]),
            _ if self.forgives() => return Ok(()),
            _ => return Err(Error::new("22039", "jsonpath array accessor can only be applied to an array")),
        };
        let at = At { current: at.current.clone(), last: Some(items.len() as i64 - 1) };
        let index = |expr: &Expr| -> Result<i64> {
            match self.items(expr, &at)?.as_slice() {
                [Json::Number(digits)] => Number::parse(digits)?
                    .whole()
                    .filter(|whole| i32::try_from(*whole).is_ok())
                    .ok_or_else(|| Error::new("22033", "jsonpath array subscript is out of integer range")),
                _ => Err(Error::new("22033", "jsonpath array subscript is not a single numeric value")),
            }
        };
        for (from, until) in places {
            let from = index(from)?;
            let until = until.as_ref().map_or(Ok(from), index)?;
            if !self.forgives() && (from < 0 || from > until || until >= items.len() as i64) {
                return Err(Error::new("22033", "jsonpath array subscript is out of bounds"));
            }
            let places = from.max(0)..=until.min(items.len() as i64 - 1);
            out.extend(places.map(|place| items[place as usize].clone()));
        }
        Ok(())
    }

    fn method(&self, method: Method, items: Vec<Json>, out: &mut Vec<Json>) -> Result<()> {
        let items = match method {
            Method::Type | Method::Size => items,
            _ => self.unwrapped(items),
        };
        for (id, item) in items.into_iter().enumerate() {
            match (method, item) {
                (Method::Type, item) => out.push(Json::Text(item.type_name().into())),
                (Method::Size, Json::Array(items)) => out.push(number(Number::of(items.len() as i64))),
                (Method::Size, _) if self.is_lax() => out.push(number(Number::of(1))),
                (Method::Size, _) if self.forgives() => {}
                (Method::Size, _) => {
                    let message = "jsonpath item method .size() can only be applied to an array";
                    return Err(Error::new("22039", message));
                }
                // A number keeps its digits.
                (Method::Double, Json::Number(digits)) if digits.parse::<f64>().is_ok_and(f64::is_finite) => {
                    out.push(Json::Number(digits));
                }
                (Method::Double, Json::Number(digits) | Json::Text(digits)) => {
                    let double = digits.trim().parse::<f64>().ok().filter(|double| double.is_finite());
                    let Some(double) = double else {
                        let message = "numeric argument of jsonpath item method .double() is out of range for type double precision";
                        return Err(Error::new("22036", message));
                    };
                    out.push(number(Number::parse(&format!("{double}"))?));
                }
                (Method::Double, _) => {
                    let message = "jsonpath item method .double() can only be applied to a string or numeric value";
                    return Err(Error::new("22036", message));
                }
                (Method::Ceiling, Json::Number(digits)) => out.push(number(Number::parse(&digits)?.ceiling()?)),
                (Method::Floor, Json::Number(digits)) => out.push(number(Number::parse(&digits)?.floor()?)),
                (Method::Abs, Json::Number(digits)) => out.push(number(Number::parse(&digits)?.absolute())),
                (Method::KeyValue, Json::Object(fields)) => out.extend(fields.iter().map(|(key, value)| {
                    // An object of its own for each, told apart by where it comes from.
                    Json::Object(Rc::new(vec![
                        ("id".into(), number(Number::of(id as i64))),
                        ("key".into(), Json::Text(key.clone())),
                        ("value".into(), value.clone()),
                    ]))
                })),
                (Method::KeyValue, _) => {
                    let message = "jsonpath item method .keyvalue() can only be applied to an object";
                    return Err(Error::new("2203C", message));
                }
                (method, _) => {
                    let name = format!("{method:?}").to_lowercase();
                    let message = format!("jsonpath item method .{name}() can only be applied to a numeric value");
                    return Err(Error::new("22036", message));
                }
            }
        }
        Ok(())
    }

    /// A condition: `None` is unknown.
    fn holds(&self, condition: &Expr, at: &At) -> Result<Option<bool>> {
        Ok(match condition {
            Expr::And(left, right) => match self.holds(left, at)? {
                Some(false) => Some(false),
                left => match self.holds(right, at)? {
                    Some(true) => left,
                    right => right,
                },
            },
            Expr::Or(left, right) => match self.holds(left, at)? {
                Some(true) => Some(true),
                left => match self.holds(right, at)? {
                    Some(false) => left,
                    right => right,
                },
            },
            Expr::Not(of) => self.holds(of, at)?.map(|holds| !holds),
            Expr::IsUnknown(of) => Some(self.holds(of, at)?.is_none()),
            Expr::Exists(of) => known(self.items(of, at))?.map(|items| !items.is_empty()),
            Expr::Compared(comparison, left, right) => {
                let right = known(self.items(right, at))?.map(|items| self.unwrapped(items));
                self.any(left, right, at, |left, right| compared(*comparison, left, right))?
            }
            // What it starts with is one value.
            Expr::StartsWith(left, right) => {
                let right = known(self.items(right, at))?;
                self.any(left, right, at, |whole, start| match (whole, start) {
                    (Json::Text(whole), Json::Text(start)) => Some(whole.starts_with(start.as_ref())),
                    _ => None,
                })?
            }
            Expr::LikeRegex { of, pattern, flags } => {
                let pattern = path_pattern(pattern, flags)?;
                self.any(of, Some(vec![Json::Null]), at, |text, _| match text {
                    Json::Text(text) => Some(pattern.is_match(text)),
                    _ => None,
                })?
            }
            other => match self.items(other, at)?.as_slice() {
                [Json::Boolean(value)] => Some(*value),
                _ => None,
            },
        })
    }

    /// Whether a condition holds for any pair. In strict mode one that is unknown makes all of it so.
    fn any(
        &self,
        left: &Expr,
        right: Option<Vec<Json>>,
        at: &At,
        holds: impl Fn(&Json, &Json) -> Option<bool>,
    ) -> Result<Option<bool>> {
        let left = known(self.items(left, at))?.map(|items| self.unwrapped(items));
        let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
        let (mut found, mut unknown) = (false, false);
        for left in &left {
            for right in &right {
                match holds(left, right) {
                    Some(true) if self.is_lax() => return Ok(Some(true)),
                    Some(true) => found = true,
                    Some(false) => {}
                    None if self.is_lax() => unknown = true,
                    None => return Ok(None),
                }
            }
        }
        Ok(if found {
            Some(true)
        } else if unknown {
            None
        } else {
            Some(false)
        })
    }
}

/// Items, or `None` where the document does not have them.
fn known(items: Result<Vec<Json>>) -> Result<Option<Vec<Json>>> {
    match items {
        Ok(items) => Ok(Some(items)),
        Err(error) if may_be_silent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn number(number: Number) -> Json {
    Json::Number(number.text().as_str().into())
}

fn sign_of(operator: Operator) -> &'static str {
    match operator {
        Operator::Plus => "+",
        Operator::Minus => "-",
        Operator::Times => "*",
        Operator::Divided => "/",
        Operator::Modulo => "%",
    }
}

/// Adds an item and what is below it, at levels `from` to `until`; a level of `None` is that of what has nothing below.
fn below(item: &Json, level: u32, from: Option<u32>, until: Option<u32>, out: &mut Vec<Json>) {
    let is_leaf = !matches!(item, Json::Array(_) | Json::Object(_));
    let wanted = match from {
        Some(from) => level >= from && until.is_none_or(|until| level <= until),
        None => is_leaf,
    };
    if wanted {
        out.push(item.clone());
    }
    if from.is_some() && until.is_some_and(|until| level >= until) {
        return;
    }
    match item {
        Json::Array(items) => items.iter().for_each(|item| below(item, level + 1, from, until, out)),
        Json::Object(fields) => fields.iter().for_each(|(_, item)| below(item, level + 1, from, until, out)),
        _ => {}
    }
}

fn compared(comparison: Comparison, left: &Json, right: &Json) -> Option<bool> {
    let order = match (left, right) {
        (Json::Null, Json::Null) => Ordering::Equal,
        (Json::Null, _) | (_, Json::Null) => return Some(comparison == Comparison::Unequal),
        (Json::Boolean(left), Json::Boolean(right)) => left.cmp(right),
        (Json::Number(left), Json::Number(right)) => super::super::order::numbers(left, right),
        (Json::Text(left), Json::Text(right)) => left.encode_utf16().cmp(right.encode_utf16()),
        _ => return None,
    };
    Some(match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}
