//! A document apart from its text, whose parts are cheap to hand on.

use std::fmt::{Display, Formatter};
use std::rc::Rc;

use super::super::tree::{self, Kind, Node};

#[derive(Debug, Clone)]
pub enum Json {
    Null,
    Boolean(bool),
    /// In jsonb's form.
    Number(Rc<str>),
    Text(Rc<str>),
    Array(Rc<Vec<Json>>),
    /// Each key once, in jsonb's order.
    Object(Rc<Vec<(Rc<str>, Json)>>),
}

impl Json {
    pub fn of(node: &Node) -> Json {
        match &node.kind {
            Kind::Null => Json::Null,
            Kind::Boolean => Json::Boolean(node.raw == "true"),
            Kind::Number => Json::Number(node.raw.into()),
            Kind::Text(text) => Json::Text(text.as_ref().into()),
            Kind::Array(items) => Json::Array(Rc::new(items.iter().map(Json::of).collect())),
            Kind::Object(fields) => Json::Object(Rc::new(
                fields.iter().map(|(key, value)| (key.as_ref().into(), Json::of(value))).collect(),
            )),
        }
    }
    pub fn type_name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Boolean(_) => "boolean",
            Json::Number(_) => "number",
            Json::Text(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }
    pub fn field(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.iter().find(|(name, _)| name.as_ref() == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// As jsonb is written.
impl Display for Json {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Boolean(value) => write!(f, "{value}"),
            Json::Number(digits) => f.write_str(digits),
            Json::Text(text) => f.write_str(&tree::quoted(text)),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (i, (key, value)) in fields.iter().enumerate() {
                    write!(f, "{}{}: {value}", if i > 0 { ", " } else { "" }, tree::quoted(key))?;
                }
                f.write_str("}")
            }
        }
    }
}
