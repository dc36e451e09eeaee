//! Functions on arrays as the catalogs use them: bounds, subscripts, sets of numbers, `= ANY`.

use datafusion::common::Result;
use millrace_engine::Error;

use super::{Call, Declaration, Returns, called_on_null, failed, strict};
use crate::pg_catalog::value::Value;

/// `x op ANY (array)`, as the rewrite spells it: any_of('=', x, array).
pub const ANY_OF: &str = "any_of";
pub const ALL_OF: &str = "all_of";
/// array[subscript], counting from the array's own lower bound.
pub const SUBSCRIPT: &str = "subscript";
/// An array as Postgres prints it.
pub const ARRAY_TEXT: &str = "array_text";

/// More than this many numbers from generate_series are refused: an array holds them all.
const SERIES_MAX: i64 = 1_000_000;

/// How long an array is in the dimension that the second argument says, if it has that and is not empty.
fn length(c: &Call) -> Option<i64> {
    let mut items = c.list(0)?;
    for _ in 1..usize::try_from(c.int(1)?).ok().filter(|dimension| *dimension > 0)? {
        match items.first()? {
            Value::List(inner) => items = inner,
            _ => return None,
        }
    }
    (!items.is_empty()).then_some(items.len() as i64)
}

pub const FUNCTIONS: &[Declaration] = &[
    strict("array_lower", 2..=2, "int4", |c| Ok(length(c).map(|_| c.lower_bound(0)).into())),
    strict("array_upper", 2..=2, "int4", |c| Ok(length(c).map(|length| length - 1 + c.lower_bound(0)).into())),
    strict("generate_subscripts", 2..=3, "_int4", |c| {
        let lower = c.lower_bound(0);
        let mut subscripts: Vec<i64> = (0..length(c).unwrap_or(0)).map(|i| i + lower).collect();
        if c.arguments.get(2) == Some(&Value::Bool(true)) {
            subscripts.reverse();
        }
        Ok(subscripts.into())
    }),
    strict("series", 2..=3, "_int4", |c| {
        let (Some(from), Some(to)) = (c.int(0), c.int(1)) else {
            return failed(Error::unsupported(
                "generate_series over a type other than integer in a query on the catalogs",
            ));
        };
        let step = c.int(2).unwrap_or(1);
        if step == 0 {
            return failed(Error::invalid_value("step size cannot equal zero"));
        }
        let count = ((to - from) / step + 1).max(0);
        if count > SERIES_MAX || (to - from).signum() * step.signum() < 0 {
            if count > SERIES_MAX {
                return failed(Error::new(
                    "54000",
                    format!("generate_series of {count} values in a query on the catalogs"),
                ));
            }
            return Ok(Value::List(Vec::new()));
        }
        Ok((0..count).map(|i| from + i * step).collect::<Vec<_>>().into())
    }),
    Declaration {
        name: "_pg_expandarray",
        arguments: 1..=1,
        returns: Returns::Expanded,
        strict: true,
        volatile: false,
        body: |c| {
            let rows = c.list(0).unwrap_or_default().iter().enumerate();
            Ok(rows.map(|(i, v)| Value::List(vec![v.clone(), (i as i64 + 1).into()])).collect::<Vec<_>>().into())
        },
    },
    // unnest … WITH ORDINALITY
    Declaration {
        name: "with_ordinality",
        arguments: 1..=1,
        returns: Returns::Expanded,
        strict: true,
        volatile: false,
        body: |c| {
            let rows = c.list(0).unwrap_or_default().iter().enumerate();
            Ok(rows.map(|(i, v)| Value::List(vec![v.clone(), (i as i64 + 1).into()])).collect::<Vec<_>>().into())
        },
    },
    Declaration {
        name: SUBSCRIPT,
        arguments: 2..=2,
        returns: Returns::Element,
        strict: true,
        volatile: false,
        body: |c| {
            // A name is an array of bytes that begins at 0: `typname[0] = '_'`.
            if let Value::Text(name) = &c.arguments[0] {
                let at = c.int(1).and_then(|i| usize::try_from(i).ok());
                return Ok(at.and_then(|at| name.chars().nth(at)).map(String::from).into());
            }
            let index = c.int(1).and_then(|i| usize::try_from(i - c.lower_bound(0)).ok());
            Ok(index.zip(c.list(0)).and_then(|(i, l)| l.get(i)).cloned().unwrap_or(Value::Null))
        },
    },
    // What ARRAY(SELECT …) gives without rows, where array_agg gives NULL.
    Declaration {
        name: "or_empty",
        arguments: 1..=1,
        returns: Returns::Same,
        strict: false,
        volatile: false,
        body: |c| Ok(if c.arguments[0] == Value::Null { Value::List(Vec::new()) } else { c.arguments[0].clone() }),
    },
    // An empty array of its argument's type.
    Declaration {
        name: "empty_of",
        arguments: 1..=1,
        returns: Returns::ListOf,
        strict: false,
        volatile: false,
        body: |_| Ok(Value::List(Vec::new())),
    },
    strict(ARRAY_TEXT, 1..=1, "text", |c| {
        let vector = c.lower_bound(0) == 0;
        Ok(if vector {
            let items = c.list(0).unwrap_or_default().iter().map(|v| v.print().unwrap_or_default());
            Some(items.collect::<Vec<_>>().join(" "))
        } else {
            c.arguments[0].print()
        }
        .into())
    }),
    called_on_null(ANY_OF, 3..=3, "bool", |c| compare_all(c, true)),
    called_on_null(ALL_OF, 3..=3, "bool", |c| compare_all(c, false)),
];

/// Three-valued, as SQL has it: ANY is true if one comparison is, else NULL if one is unknown, else
/// false; ALL the other way round.
fn compare_all(c: &Call, decisive: bool) -> Result<Value> {
    let parsed;
    let items = match &c.arguments[2] {
        Value::List(items) => items.as_slice(),
        Value::Text(text) => {
            parsed = parse_array(text);
            parsed.as_slice()
        }
        _ => return Ok(Value::Null),
    };
    let operator = c.text(0).unwrap_or_default();
    let mut unknown = false;
    for item in items {
        match compare(&c.arguments[1], operator, item)? {
            Some(result) if result == decisive => return Ok(decisive.into()),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { Value::Null } else { (!decisive).into() })
}

fn compare(left: &Value, operator: &str, right: &Value) -> Result<Option<bool>> {
    use std::cmp::Ordering::*;
    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Int(a), _) if right.int().is_some() => a.cmp(&right.int().unwrap_or_default()),
        (_, Value::Int(b)) if left.int().is_some() => left.int().unwrap_or_default().cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        _ => left.print().cmp(&right.print()),
    };
    Ok(Some(match operator {
        "=" => order == Equal,
        "<>" | "!=" => order != Equal,
        "<" => order == Less,
        "<=" => order != Greater,
        ">" => order == Greater,
        ">=" => order != Less,
        other => return failed(Error::unsupported(format!("operator {other} with an array"))),
    }))
}

/// The elements of `{a,"b c",NULL}`.
pub fn parse_array(text: &str) -> Vec<Value> {
    let Some(inner) = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')) else { return Vec::new() };
    if inner.trim().is_empty() {
        return Vec::new();
    }
    let mut items: Vec<Value> = Vec::new();
    let (mut item, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut chars = inner.chars();
    let mut push = |item: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(item);
        let null = !*was_quoted && text.trim().eq_ignore_ascii_case("null");
        items.push(if null {
            Value::Null
        } else {
            Value::Text(if *was_quoted { text } else { text.trim().to_string() })
        });
        *was_quoted = false;
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => item.extend(chars.next()),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => push(&mut item, &mut was_quoted),
            c if c.is_whitespace() && !quoted && item.is_empty() => {}
            c => item.push(c),
        }
    }
    push(&mut item, &mut was_quoted);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_parse() {
        assert_eq!(parse_array("{}"), []);
        assert_eq!(
            parse_array("{r, \"a,b\",NULL,\"NULL\"}"),
            ["r".into(), "a,b".into(), Value::Null, Value::from("NULL")]
        );
    }
}
