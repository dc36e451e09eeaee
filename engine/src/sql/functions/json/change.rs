//! What makes one jsonb document from another: `||`, `-`, `#-`, `jsonb_set`, `jsonb_insert` and their like.

use datafusion::error::Result;

use super::document;
use super::tree::{self, Kind, Node, array, object, place, quoted};
use crate::sql::functions::declared::Type::*;
use crate::sql::functions::declared::{Declared, Row, Value, fail, function, of};

pub fn all() -> Vec<Declared> {
    vec![
        function(
            "mr_jsonb_concat",
            &[of(&[Jsonb, Jsonb], Jsonb, |r| {
                let (left, right) = (document(r, 0)?, document(r, 1)?);
                let (left, right) = (tree::parse(&left)?, tree::parse(&right)?);
                let raw = |fields: &[(std::borrow::Cow<str>, Node)]| -> Vec<(String, String)> {
                    fields.iter().map(|(key, value)| (key.to_string(), value.raw.to_string())).collect()
                };
                Ok(match (&left.kind, &right.kind) {
                    (Kind::Object(a), Kind::Object(b)) => object(raw(a).into_iter().chain(raw(b))),
                    _ => array(items(&left).into_iter().chain(items(&right))),
                }
                .into())
            })],
        ),
        function(
            "mr_jsonb_delete",
            &[
                of(&[Jsonb, Bigint], Jsonb, |r| {
                    let text = document(r, 0)?;
                    let node = tree::parse(&text)?;
                    let Kind::Array(items) = &node.kind else {
                        return match node.kind {
                            Kind::Object(_) => fail("22023", "cannot delete from object using integer index"),
                            _ => fail("22023", "cannot delete from scalar"),
                        };
                    };
                    let gone = place(r.integer(1), items.len());
                    Ok(array(
                        items.iter().enumerate().filter(|(i, _)| Some(*i) != gone).map(|(_, item)| item.raw.into()),
                    )
                    .into())
                }),
                of(&[Jsonb, Text], Jsonb, |r| without(r, &[r.text(1).to_string()])),
                of(&[Jsonb, Array("text")], Jsonb, |r| {
                    let keys: Vec<String> = r.texts(1).into_iter().flatten().collect();
                    without(r, &keys)
                }),
            ],
        ),
        function(
            "mr_jsonb_delete_path",
            &[of(&[Jsonb, Array("text")], Jsonb, |r| {
                let text = document(r, 0)?;
                let node = tree::parse(&text)?;
                match &node.kind {
                    // Of nothing there is nothing to take.
                    Kind::Array(items) if items.is_empty() => Ok("[]".to_string().into()),
                    Kind::Array(_) | Kind::Object(_) => Ok(changed(&node, &r.texts(1), 1, &Change::Delete)?.into()),
                    _ => fail("22023", "cannot delete path in scalar"),
                }
            })],
        ),
        function(
            "jsonb_set",
            &[of(&[Jsonb, Array("text"), Jsonb, Boolean], Jsonb, |r| {
                let new = document(r, 2)?;
                let create = r.len() < 4 || r.boolean(3);
                change(r, Change::Set { new: &new, create })
            })
            .least(3)],
        ),
        function(
            "jsonb_set_lax",
            &[of(&[Jsonb, Array("text"), Jsonb, Boolean, Text], Jsonb, set_lax).least(3).nullable()],
        ),
        function(
            "jsonb_insert",
            &[of(&[Jsonb, Array("text"), Jsonb, Boolean], Jsonb, |r| {
                let new = document(r, 2)?;
                let after = r.len() > 3 && r.boolean(3);
                change(r, Change::Insert { new: &new, after })
            })
            .least(3)],
        ),
        function(
            "json_strip_nulls",
            &[of(&[Json], Json, |r| {
                let text = document(r, 0)?;
                Ok(stripped_json(&tree::parse(&text)?).into())
            })],
        ),
        function(
            "jsonb_strip_nulls",
            &[of(&[Jsonb], Jsonb, |r| {
                let text = document(r, 0)?;
                Ok(stripped(&tree::parse(&text)?).into())
            })],
        ),
        function(
            "jsonb_pretty",
            &[of(&[Jsonb], Text, |r| {
                let text = document(r, 0)?;
                let mut out = String::new();
                pretty(&tree::parse(&text)?, 0, &mut out);
                Ok(out.into())
            })],
        ),
    ]
}

/// The items of an array; anything else is an item of its own.
fn items(node: &Node) -> Vec<String> {
    match &node.kind {
        Kind::Array(items) => items.iter().map(|item| item.raw.to_string()).collect(),
        _ => vec![node.raw.to_string()],
    }
}

/// An object without keys, or an array without strings.
fn without<'a>(r: &Row<'a>, keys: &[String]) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    let node = tree::parse(&text)?;
    let gone = |key: &str| keys.iter().any(|k| k == key);
    match &node.kind {
        Kind::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !gone(key));
            Ok(object(kept.map(|(key, value)| (key.to_string(), value.raw.to_string()))).into())
        }
        Kind::Array(items) => {
            let kept = items.iter().filter(|item| !matches!(&item.kind, Kind::Text(text) if gone(text)));
            Ok(array(kept.map(|item| item.raw.to_string())).into())
        }
        _ => fail("22023", "cannot delete from scalar"),
    }
}

enum Change<'a> {
    Delete,
    Set { new: &'a str, create: bool },
    Insert { new: &'a str, after: bool },
}

/// `jsonb_set`, which is told what becomes of a new value that is NULL.
fn set_lax<'a>(r: &Row<'a>) -> Result<Value<'a>> {
    if r.is_null(0) || r.is_null(1) || r.len() > 3 && r.is_null(3) {
        return Ok(Value::Null);
    }
    let treatments = ["raise_exception", "use_json_null", "delete_key", "return_target"];
    let treatment = match (r.len() > 4, r.len() > 4 && !r.is_null(4)) {
        (false, _) => "use_json_null",
        (true, true) if treatments.contains(&r.text(4)) => r.text(4),
        _ => {
            let words = r#""delete_key", "return_target", "use_json_null", or "raise_exception""#;
            return fail("22023", format!("null_value_treatment must be {words}"));
        }
    };
    let create = r.len() < 4 || r.boolean(3);
    if !r.is_null(2) {
        let new = document(r, 2)?;
        return change(r, Change::Set { new: &new, create });
    }
    match treatment {
        "raise_exception" => fail("22004", "JSON value must not be null"),
        "use_json_null" => change(r, Change::Set { new: "null", create }),
        "delete_key" => change(r, Change::Delete),
        _ => Ok(document(r, 0)?.into_owned().into()),
    }
}

fn change<'a>(r: &Row<'a>, change: Change) -> Result<Value<'a>> {
    let text = document(r, 0)?;
    let node = tree::parse(&text)?;
    match node.kind {
        Kind::Array(_) | Kind::Object(_) => Ok(changed(&node, &r.texts(1), 1, &change)?.into()),
        _ => fail("22023", "cannot set path in scalar"),
    }
}

/// The document with what a path leads to changed; `depth` is the place of its first step in the whole path.
fn changed(node: &Node, path: &[Option<String>], depth: usize, change: &Change) -> Result<String> {
    let Some((step, rest)) = path.split_first() else { return Ok(node.raw.to_string()) };
    let Some(step) = step else {
        return fail("22004", format!("path element at position {depth} is null"));
    };
    match &node.kind {
        Kind::Object(fields) => {
            let mut out: Vec<(String, String)> = Vec::new();
            let mut found = false;
            for (key, value) in fields {
                if key != step {
                    out.push((key.to_string(), value.raw.to_string()));
                    continue;
                }
                found = true;
                let new = match (rest.is_empty(), change) {
                    (false, _) => changed(value, rest, depth + 1, change)?,
                    (true, Change::Delete) => continue,
                    (true, Change::Set { new, .. }) => new.to_string(),
                    (true, Change::Insert { .. }) => return fail("22023", "cannot replace existing key"),
                };
                out.push((key.to_string(), new));
            }
            match change {
                Change::Set { new, create: true } | Change::Insert { new, .. } if !found && rest.is_empty() => {
                    out.push((step.clone(), new.to_string()));
                }
                _ => {}
            }
            Ok(object(out))
        }
        Kind::Array(items) => {
            let Ok(at) = step.trim().parse::<i64>() else {
                return fail("22P02", format!("path element at position {depth} is not an integer: \"{step}\""));
            };
            let mut out: Vec<String> = items.iter().map(|item| item.raw.to_string()).collect();
            match (place(at, items.len()), rest.is_empty(), change) {
                (Some(i), false, _) => out[i] = changed(&items[i], rest, depth + 1, change)?,
                (Some(i), true, Change::Delete) => {
                    out.remove(i);
                }
                (Some(i), true, Change::Set { new, .. }) => out[i] = new.to_string(),
                (Some(i), true, Change::Insert { new, after }) => out.insert(i + usize::from(*after), new.to_string()),
                // Beyond an end it is put there.
                (None, true, Change::Set { new, create: true } | Change::Insert { new, .. }) => {
                    out.insert(if at < 0 { 0 } else { out.len() }, new.to_string());
                }
                (None, ..) => {}
            }
            Ok(array(out))
        }
        _ => Ok(node.raw.to_string()),
    }
}

/// Without the fields that are null, at any depth.
fn stripped(node: &Node) -> String {
    match &node.kind {
        Kind::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !matches!(value.kind, Kind::Null));
            object(kept.map(|(key, value)| (key.to_string(), stripped(value))))
        }
        Kind::Array(items) => array(items.iter().map(stripped)),
        _ => node.raw.to_string(),
    }
}

/// The same of json, whose fields stay in their order.
fn stripped_json(node: &Node) -> String {
    match &node.kind {
        Kind::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !matches!(value.kind, Kind::Null));
            let kept = kept.map(|(key, value)| format!("{}:{}", quoted(key), stripped_json(value)));
            format!("{{{}}}", kept.collect::<Vec<_>>().join(","))
        }
        Kind::Array(items) => format!("[{}]", items.iter().map(stripped_json).collect::<Vec<_>>().join(",")),
        _ => node.raw.to_string(),
    }
}

fn pretty(node: &Node, depth: usize, out: &mut String) {
    let line = |depth: usize| format!("\n{}", "    ".repeat(depth));
    match &node.kind {
        Kind::Object(fields) => {
            out.push('{');
            for (i, (key, value)) in fields.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&line(depth + 1));
                out.push_str(&format!("{}: ", quoted(key)));
                pretty(value, depth + 1, out);
            }
            out.push_str(&line(depth));
            out.push('}');
        }
        Kind::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&line(depth + 1));
                pretty(item, depth + 1, out);
            }
            out.push_str(&line(depth));
            out.push(']');
        }
        _ => out.push_str(node.raw),
    }
}
