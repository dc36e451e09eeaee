//! Regular expressions. The library's, which is DataFusion's, are not Postgres': a dot is any character unless the flag `n`
//! says otherwise, the escapes `\m`, `\M`, `\y` and `\Z` are spelt in its way; look-around and references back it has not,
//! and refuses (2201B). Its time is linear in the text and its automata are bounded, so that no pattern runs away.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::error::Result;
use datafusion::functions::regex::compile_regex;

use super::Type::*;
use super::{Declared, Row, Value, fail, function, of};
use crate::error::Error;
use crate::sql::bounds::{Tally, check_value};

pub fn all() -> Vec<Declared> {
    let texts: &'static [super::Type] = &[Text, Text, Text];
    vec![
        function(
            "mr_like_escape",
            &[of(&[Text, Text], Text, |r| {
                like_escaped(r.text(0), r.text(1)).map(Value::from).map_err(super::external)
            })],
        ),
        function(
            "regexp_match",
            &[of(texts, Array("text"), |r| {
                let pattern = pattern(r, 1, r.text_or(2, ""))?;
                refuse_global(r, &pattern)?;
                Ok(pattern.first(r.text(0))?.map_or(Value::Null, |found| Value::Texts(groups(r.text(0), &found))))
            })
            .least(2)],
        ),
        // (regexp_match(text, pattern, flags))[n]
        function(
            "mr_regexp_group",
            &[of(&[Text, Text, Text, Bigint], Text, |r| {
                let pattern = pattern(r, 1, r.text(2))?;
                refuse_global_in(&pattern, "regexp_match")?;
                let Ok(n) = usize::try_from(r.integer(3)) else { return Ok(Value::Null) };
                Ok(pattern.group(r.text(0), n).map(|(from, to)| &r.text(0)[from..to]).into())
            })],
        ),
        // One array for each match.
        function(
            "mr_regexp_matches",
            &[of(texts, Array("text[]"), |r| {
                let pattern = pattern(r, 1, r.text_or(2, ""))?;
                let count = if pattern.global { usize::MAX } else { 1 };
                let found: Vec<Vec<Option<Cow<str>>>> =
                    (pattern.find)(r.text(0), count)?.iter().map(|found| groups(r.text(0), found)).collect();
                Ok(Value::Items(lists(found)))
            })
            .least(2)],
        ),
        function(
            "regexp_split_to_array",
            &[of(texts, Array("text"), |r| {
                let pattern = pattern(r, 1, r.text_or(2, ""))?;
                refuse_global(r, &pattern)?;
                Ok(Value::Texts(split(&pattern, r.text(0))?))
            })
            .least(2)],
        ),
        function(
            "regexp_replace",
            &[
                of(&[Text, Text, Text, Integer, Integer, Text], Text, |r| {
                    let pattern = pattern(r, 1, r.text_or(5, ""))?;
                    let nth = r.integer_or(4, 1);
                    let skipped = start(r, 3)?;
                    match nth {
                        ..0 => fail("22023", format!("invalid value for parameter \"n\": {nth}")),
                        _ => replace(&pattern, r.text(0), r.text(2), skipped, nth as usize).map(Value::from),
                    }
                })
                .least(4),
                of(&[Text, Text, Text, Text], Text, |r| {
                    let flags = r.text_or(3, "");
                    if flags.starts_with(|c: char| c.is_ascii_digit()) {
                        return fail("22023", format!("invalid regular expression option: \"{flags}\""));
                    }
                    let pattern = pattern(r, 1, flags)?;
                    let nth = usize::from(!pattern.global);
                    replace(&pattern, r.text(0), r.text(2), 0, nth).map(Value::from)
                })
                .least(3),
            ],
        ),
        function(
            "regexp_count",
            &[of(&[Text, Text, Integer, Text], Integer, |r| {
                let pattern = pattern(r, 1, r.text_or(3, ""))?;
                refuse_global(r, &pattern)?;
                let from = start(r, 2)?;
                let found = pattern.all(r.text(0))?;
                Ok((found.iter().filter(|found| whole(found).0 >= from).count() as i64).into())
            })
            .least(2)],
        ),
        function(
            "regexp_like",
            &[of(texts, Boolean, |r| {
                let pattern = pattern(r, 1, r.text_or(2, ""))?;
                refuse_global(r, &pattern)?;
                Ok((pattern.is_match)(r.text(0)).into())
            })
            .least(2)],
        ),
        function(
            "regexp_substr",
            &[of(&[Text, Text, Integer, Integer, Text, Integer], Text, |r| {
                Ok(occurrence(r, 4, 5)?.map(|(from, to)| r.text(0)[from..to].to_string()).into())
            })
            .least(2)],
        ),
        function(
            "regexp_instr",
            &[of(&[Text, Text, Integer, Integer, Integer, Text, Integer], Integer, |r| {
                let end = r.integer_or(4, 0);
                if !(0..=1).contains(&end) {
                    return fail("22023", format!("invalid value for parameter \"endoption\": {end}"));
                }
                let found = occurrence(r, 5, 6)?;
                let place =
                    found.map(|(from, to)| r.text(0)[..if end == 1 { to } else { from }].chars().count() as i64 + 1);
                Ok(place.unwrap_or(0).into())
            })
            .least(2)],
        ),
        function("mr_matches", &[of(&[Text, Text], Boolean, |r| Ok((pattern(r, 1, "")?.is_match)(r.text(0)).into()))]),
        function(
            "mr_matches_any_case",
            &[of(&[Text, Text], Boolean, |r| Ok((pattern(r, 1, "i")?.is_match)(r.text(0)).into()))],
        ),
        // substring(text FROM pattern): what the parentheses matched, or all.
        function(
            "mr_substring_match",
            &[of(&[Text, Text], Text, |r| {
                let found = pattern(r, 1, "")?.group(r.text(0), 1);
                Ok(found.map(|(from, to)| &r.text(0)[from..to]).into())
            })],
        ),
        // substring(text SIMILAR pattern ESCAPE escape)
        function(
            "mr_substring_similar",
            &[of(&[Text, Text, Text], Text, |r| {
                let pattern = kept(r, 1, || compiled(&substring_similar(r.text(1), escape(r.text(2))?)?, ""))?;
                Ok(pattern.group(r.text(0), 1).map(|(from, to)| &r.text(0)[from..to]).into())
            })],
        ),
        function(
            "mr_similar",
            &[of(&[Text, Text, Text], Boolean, |r| {
                let pattern = kept(r, 1, || {
                    let escape = if r.len() > 2 { escape(r.text(2))? } else { Some('\\') };
                    compiled(&format!("^(?:{})$", similar(r.text(1), escape)?), "")
                })?;
                Ok((pattern.is_match)(r.text(0)).into())
            })
            .least(2)],
        ),
    ]
}

/// Where a match and its groups are in the text, in bytes; a group may have matched nothing.
type Found = Vec<Option<(usize, usize)>>;

/// A compiled pattern, known by what it does.
pub struct Pattern {
    is_match: Box<dyn Fn(&str) -> bool>,
    /// At most so many matches. Errors: 53200, 57014.
    find: Box<dyn Fn(&str, usize) -> Result<Vec<Found>>>,
    /// Of the first match the n-th of its parentheses, from 1; without any, all of it as the only one.
    group: Box<dyn Fn(&str, usize) -> Option<(usize, usize)>>,
    /// The flag `g`.
    global: bool,
}

/// What jsonpath's like_regex matches by, whose flags are XQuery's: without s a dot stands for no line feed, and with m
/// lines begin and end within.
pub fn path_pattern(pattern: &str, flags: &str) -> crate::error::Result<Rc<Pattern>> {
    let has = |flag: char| flags.contains(flag);
    let own = match () {
        _ if has('q') => "q",
        _ if has('m') && has('s') => "w",
        _ if has('m') => "n",
        _ if has('s') => "",
        _ => "p",
    };
    let folded = if has('i') { "i" } else { "" };
    compiled(pattern, &format!("{own}{folded}")).map_err(crate::sql::bind::error_from)
}

impl Pattern {
    pub fn is_match(&self, text: &str) -> bool {
        (self.is_match)(text)
    }
    fn first(&self, text: &str) -> Result<Option<Found>> {
        Ok((self.find)(text, 1)?.pop())
    }
    fn group(&self, text: &str, n: usize) -> Option<(usize, usize)> {
        (self.group)(text, n)
    }
    fn all(&self, text: &str) -> Result<Vec<Found>> {
        (self.find)(text, usize::MAX)
    }
}

/// Patterns kept for the next row, per thread.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<HashMap<(String, String), Rc<Pattern>>> = RefCell::new(HashMap::new());
    /// The one of the last row, mostly that of this one too.
    static LAST: RefCell<Option<(String, String, Rc<Pattern>)>> = const { RefCell::new(None) };
}

/// Of an argument of the call. Its flags are an argument too, or the function's.
fn pattern(r: &Row, at: usize, flags: &str) -> Result<Rc<Pattern>> {
    kept(r, at, || compiled(r.text(at), flags))
}

/// What the arguments from there on make a pattern: once, where they are the same for all rows.
fn kept(r: &Row, at: usize, make: impl FnOnce() -> Result<Rc<Pattern>>) -> Result<Rc<Pattern>> {
    if let Some(pattern) = r.pattern.get() {
        return Ok(pattern.clone());
    }
    let pattern = make()?;
    if r.is_constant_from(at) {
        // Nobody has set it meanwhile.
        let _ = r.pattern.set(pattern.clone());
    }
    Ok(pattern)
}

fn compiled(pattern: &str, flags: &str) -> Result<Rc<Pattern>> {
    let last = LAST.with_borrow(|last| match last {
        Some((text, its_flags, last)) if text == pattern && its_flags == flags => Some(last.clone()),
        _ => None,
    });
    if let Some(last) = last {
        return Ok(last);
    }
    let key = (pattern.to_string(), flags.to_string());
    let kept = KEPT.with_borrow(|kept| kept.get(&key).cloned());
    let made = match kept {
        Some(kept) => kept,
        None => {
            let made = Rc::new(compile(pattern, flags)?);
            KEPT.with_borrow_mut(|kept| {
                if kept.len() >= KEPT_MAX {
                    kept.clear();
                }
                kept.insert(key.clone(), made.clone());
            });
            made
        }
    };
    LAST.set(Some((key.0, key.1, made.clone())));
    Ok(made)
}

fn compile(pattern: &str, flags: &str) -> Result<Pattern> {
    let (mut any_case, mut dot, mut lines, mut expanded, mut literal, mut global) =
        (false, true, false, false, false, false);
    // Flags may stand before the pattern, and what it is.
    let (embedded, pattern) = match pattern.strip_prefix("***") {
        Some(rest) => match (rest.strip_prefix('='), rest.strip_prefix(':')) {
            (Some(text), _) => ("q", text),
            (_, Some(text)) => ("", text),
            _ => return fail("2201B", "invalid regular expression: quantifier operand invalid"),
        },
        None => match pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')) {
            Some((flags, rest)) if !flags.is_empty() && flags.bytes().all(|b| b.is_ascii_lowercase()) => (flags, rest),
            _ => ("", pattern),
        },
    };
    for flag in flags.chars().chain(embedded.chars()) {
        match flag {
            'i' => any_case = true,
            'c' => any_case = false,
            's' => (dot, lines) = (true, false),
            'n' | 'm' => (dot, lines) = (false, true),
            'p' => (dot, lines) = (false, false),
            'w' => (dot, lines) = (true, true),
            'x' => expanded = true,
            't' => expanded = false,
            'q' => literal = true,
            'g' if flags.contains('g') => global = true,
            'e' | 'b' => {}
            other => return fail("22023", format!("invalid regular expression option: \"{other}\"")),
        }
    }
    let text = if literal { escaped(pattern) } else { translate(pattern) };
    let flags = [(any_case, 'i'), (dot, 's'), (lines, 'm'), (expanded, 'x')];
    let on: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
    let text = if on.is_empty() { text } else { format!("(?{on}){text}") };
    let Ok(regex) = compile_regex(&text, None) else {
        return fail("2201B", format!("invalid regular expression: {pattern}"));
    };
    let regex = Arc::new(regex);
    let matching = regex.clone();
    let (first, places) = (regex.clone(), RefCell::new(regex.capture_locations()));
    Ok(Pattern {
        is_match: Box::new(move |text| matching.is_match(text)),
        group: Box::new(move |text, n| {
            let mut places = places.borrow_mut();
            first.captures_read(&mut places, text)?;
            match (n, first.captures_len()) {
                (0, _) => None,
                (1, 1) => places.get(0),
                (n, _) => places.get(n),
            }
        }),
        find: Box::new(move |text, count| {
            let (mut all, mut tally) = (Vec::new(), Tally::default());
            // One row's, however many they are.
            tally.add(0)?;
            // As in Postgres, a match of nothing may follow right after another one.
            let mut from = 0;
            while all.len() < count
                && let Some(found) = regex.captures_at(text, from)
            {
                let places: Found = found.iter().map(|group| group.map(|g| (g.start(), g.end()))).collect();
                let (start, end) = whole(&places);
                tally.add_all(size_of_val(places.as_slice()) + size_of::<Found>(), 0)?;
                all.push(places);
                from = match text[end..].chars().next() {
                    Some(next) if start == end => end + next.len_utf8(),
                    None if start == end => break,
                    _ => end,
                };
            }
            Ok(all)
        }),
        global,
    })
}

/// A text that matches itself alone.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_ascii_punctuation() { vec!['\\', c] } else { vec![c] }).collect()
}

/// Escapes and brackets that the library spells otherwise.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    let mut bracket = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('y') if !bracket => out.push_str("\\b"),
                Some('Y') if !bracket => out.push_str("\\B"),
                Some('m') if !bracket => out.push_str("\\b{start}"),
                Some('M') if !bracket => out.push_str("\\b{end}"),
                Some('Z') if !bracket => out.push_str("\\z"),
                Some('b') => out.push_str("\\x08"),
                Some('e') => out.push_str("\\x1B"),
                // What is no escape of the library stands for itself.
                Some(other) if other.is_alphanumeric() => out.extend(['\\', other]),
                Some(other) if other.is_ascii() => out.extend(['\\', other]),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            '[' if !bracket => {
                // [[:<:]] and [[:>:]] are the borders of a word.
                let ahead: String = rest.clone().take(6).collect();
                match ahead.as_str() {
                    "[:<:]]" | "[:>:]]" => {
                        out.push_str(if ahead == "[:<:]]" { "\\b{start}" } else { "\\b{end}" });
                        rest.nth(5);
                        continue;
                    }
                    _ => {}
                }
                bracket = true;
                out.push('[');
                out.extend(rest.next_if_eq(&'^'));
                // The first ] is one of the characters.
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' => match rest.peek() {
                Some(':') => {
                    out.push('[');
                    for c in rest.by_ref() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                }
                _ => out.push_str("\\["),
            },
            ']' if bracket => {
                bracket = false;
                out.push(']');
            }
            '&' | '~' if bracket => out.extend(['\\', c]),
            other => out.push(other),
        }
    }
    out
}

fn refuse_global(r: &Row, pattern: &Pattern) -> Result<()> {
    refuse_global_in(pattern, r.name)
}

fn refuse_global_in(pattern: &Pattern, function: &str) -> Result<()> {
    match pattern.global {
        true => fail("22023", format!("{function}() does not support the \"global\" option")),
        false => Ok(()),
    }
}

fn whole(found: &Found) -> (usize, usize) {
    found[0].expect("a match matches something")
}

/// What the parentheses matched; without any, all that matched.
fn groups<'a>(text: &'a str, found: &Found) -> Vec<Option<Cow<'a, str>>> {
    let part = |group: &Option<(usize, usize)>| group.map(|(from, to)| text[from..to].into());
    match found.as_slice() {
        [all] => vec![part(all)],
        found => found.iter().skip(1).map(part).collect(),
    }
}

fn lists(rows: Vec<Vec<Option<Cow<str>>>>) -> ArrayRef {
    let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for row in rows {
        builder.append_value(row);
    }
    Arc::new(builder.finish())
}

/// Between the matches; one of nothing at the start, at the end or right after another divides nothing.
fn split<'a>(pattern: &Pattern, text: &'a str) -> Result<Vec<Option<Cow<'a, str>>>> {
    let (mut parts, mut from) = (Vec::new(), 0);
    for found in pattern.all(text)? {
        let (start, end) = whole(&found);
        if start == end && (start == 0 || start == text.len() || start == from) {
            continue;
        }
        parts.push(Some(text[from..start].into()));
        from = end;
    }
    parts.push(Some(text[from..].into()));
    Ok(parts)
}

/// Bytes before the character with which a search begins.
fn start(r: &Row, at: usize) -> Result<usize> {
    let start = r.integer_or(at, 1);
    if start <= 0 {
        return fail("22023", format!("invalid value for parameter \"start\": {start}"));
    }
    // Just behind the text there may be a match of nothing, and farther on none.
    let text = r.text(0);
    let mut places = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
    Ok(places.nth(start as usize - 1).unwrap_or(text.len() + 1))
}

/// The bytes of the n-th match, or of one of its groups.
fn occurrence(r: &Row, flags: usize, group: usize) -> Result<Option<(usize, usize)>> {
    let pattern = pattern(r, 1, r.text_or(flags, ""))?;
    refuse_global(r, &pattern)?;
    let from = start(r, 2)?;
    let (n, group) = (r.integer_or(3, 1), r.integer_or(group, 0));
    if n <= 0 {
        return fail("22023", format!("invalid value for parameter \"n\": {n}"));
    }
    if group < 0 {
        return fail("22023", format!("invalid value for parameter \"subexpr\": {group}"));
    }
    let found = pattern.all(r.text(0))?.into_iter().filter(|found| whole(found).0 >= from).nth(n as usize - 1);
    Ok(found.and_then(|found| found.get(group as usize).copied().flatten()))
}

/// Replaces the n-th match from a byte on, or all with n = 0. `\1` in the replacement is a group, `\&` all.
fn replace(pattern: &Pattern, text: &str, with: &str, from: usize, nth: usize) -> Result<String> {
    let (mut out, mut last, mut count) = (String::with_capacity(text.len()), 0, 0);
    for found in pattern.all(text)? {
        let (start, end) = whole(&found);
        if start < from {
            continue;
        }
        count += 1;
        if nth != 0 && count != nth {
            continue;
        }
        let part = |group: usize| found.get(group).copied().flatten().map_or("", |(from, to)| &text[from..to]);
        out.push_str(&text[last..start]);
        check_value(out.len().saturating_add(with.len()))?;
        let mut rest = with.chars();
        while let Some(c) = rest.next() {
            match (c, rest.clone().next()) {
                ('\\', Some(digit @ '1'..='9')) => {
                    rest.next();
                    out.push_str(part(digit as usize - '0' as usize));
                }
                ('\\', Some('&')) => {
                    rest.next();
                    out.push_str(part(0));
                }
                ('\\', Some('\\')) => {
                    rest.next();
                    out.push('\\');
                }
                (other, _) => out.push(other),
            }
        }
        last = end;
        if nth != 0 {
            break;
        }
    }
    out.push_str(&text[last..]);
    Ok(out)
}

fn escape(text: &str) -> Result<Option<char>> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (escape, None) => Ok(escape),
        _ => fail("22025", "invalid escape string"),
    }
}

/// A pattern of SIMILAR TO as a regular expression: % and _ as in LIKE, the rest as there but for . ^ and $.
fn similar(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut out = String::new();
    let mut bracket = false;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            c if Some(c) == escape => match rest.next() {
                // It divides the pattern of a substring, and says nothing here.
                Some('"') => {}
                Some(c) => out.push_str(&escaped(&c.to_string())),
                None => out.push_str("\\\\"),
            },
            ']' if bracket => {
                bracket = false;
                out.push(']');
            }
            c if bracket => {
                if c == '\\' {
                    out.push('\\');
                }
                out.push(c);
            }
            '[' => {
                bracket = true;
                out.push('[');
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// `a#"b#"c` with the escape #: the part between the quotes is what is wanted, where all matches.
fn substring_similar(pattern: &str, escape: Option<char>) -> Result<String> {
    let parts: Vec<&str> = match escape {
        Some(escape) => pattern.split(&format!("{escape}\"")).collect(),
        None => vec![pattern],
    };
    Ok(match parts.as_slice() {
        [all] => format!("^(?:{})$", similar(all, escape)?),
        [before, part, after] => {
            let (before, part, after) = (similar(before, escape)?, similar(part, escape)?, similar(after, escape)?);
            format!("^(?:{})(?<part>{part})(?:{after})$", before.replace(".*", ".*?"))
        }
        [before, part] => {
            format!("^(?:{})(?<part>{})$", similar(before, escape)?.replace(".*", ".*?"), similar(part, escape)?)
        }
        _ => {
            return fail(
                "2200C",
                "SQL regular expression may not contain more than two escape-double-quote separators",
            );
        }
    })
}

/// A pattern of LIKE with its own escape character, or none, spelt with backslashes. Errors: 22025.
pub fn like_escaped(pattern: &str, escape: &str) -> crate::error::Result<String> {
    let mut signs = escape.chars();
    let (sign, None) = (signs.next(), signs.next()) else {
        let error = Error::new("22025", "invalid escape string");
        return Err(error.hint("Escape string must be empty or one character."));
    };
    let (mut spelt, mut rest) = (String::new(), pattern.chars());
    while let Some(c) = rest.next() {
        match c {
            c if Some(c) == sign => {
                let Some(next) = rest.next() else {
                    return Err(Error::new("22025", "LIKE pattern must not end with escape character"));
                };
                spelt.push('\\');
                spelt.push(next);
            }
            '\\' => spelt.push_str("\\\\"),
            c => spelt.push(c),
        }
    }
    Ok(spelt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(translate(r"\mab\M[]x[:alpha:]&]\y"), r"\b{start}ab\b{end}[\]x[:alpha:]\&]\b");
        assert_eq!(translate("[[:<:]]a"), r"\b{start}a");
        assert!((compile("(?i)A.b", "").unwrap().is_match)("a\nB"));
        assert!(!(compile("a.b", "n").unwrap().is_match)("a\nb"));
        assert!(compile("a{1000}{1000}{1000}", "").is_err());
    }

    #[test]
    fn parts() {
        let split = |pattern: &str, text: &str| -> Vec<String> {
            split(&compile(pattern, "").unwrap(), text).unwrap().into_iter().flatten().map(Cow::into_owned).collect()
        };
        assert_eq!(split(r"\s*", "the quick"), ["t", "h", "e", "q", "u", "i", "c", "k"]);
        assert_eq!(split(",", "a,b,,"), ["a", "b", "", ""]);
        assert_eq!(split(",", ""), [""]);
        let all = compile("a*", "g").unwrap().all("baaac").unwrap();
        assert_eq!(all.iter().map(whole).collect::<Vec<_>>(), [(0, 0), (1, 4), (4, 4), (5, 5)]);
    }
}
