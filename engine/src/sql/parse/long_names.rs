//! Names have at most 63 bytes, as in Postgres: longer ones are cut, before anything else sees them.

use sqlparser::tokenizer::{Token, Tokenizer};

use super::source::Source;
use crate::catalog::NAME_BYTES_MAX;
use crate::sql::dialect::DIALECT;

/// As much of a name as there can be, in whole characters.
pub fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// A text with its names cut, and these names as they were; `None` where none is too long. Those that are `known` are of a
/// time when there were longer ones, and stay.
pub fn cut_names(text: &str, known: impl Fn(&str) -> bool) -> Option<(String, Vec<String>)> {
    let of_name = |byte: u8| byte == b'"' || byte == b'_' || byte == b'$' || byte.is_ascii_alphanumeric() || byte > 127;
    // Most texts have no word that long; in quotes there may be anything.
    let long = |part: &[u8]| part.len() > NAME_BYTES_MAX;
    if !text.as_bytes().split(|byte| !of_name(*byte)).any(long) && !text.split('"').skip(1).any(|p| long(p.as_bytes()))
    {
        return None;
    }
    let tokens = Tokenizer::new(&DIALECT, text).tokenize_with_location().ok()?;
    let source = Source::new(text);
    let (mut out, mut names, mut done) = (String::new(), Vec::new(), 0);
    for token in &tokens {
        let Token::Word(word) = &token.token else { continue };
        if word.value.len() <= NAME_BYTES_MAX || !matches!(word.quote_style, None | Some('"')) || known(&word.value) {
            continue;
        }
        let (start, end) = (source.byte(token.span.start), source.byte(token.span.end));
        let short = cut(&word.value);
        out.push_str(&text[done..start]);
        match word.quote_style {
            None => out.push_str(short),
            Some(_) => out.push_str(&format!("\"{}\"", short.replace('"', "\"\""))),
        }
        done = end;
        names.push(word.value.clone());
    }
    out.push_str(&text[done..]);
    (!names.is_empty()).then_some((out, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut() {
        let (long, short) = ("x".repeat(70), "x".repeat(63));
        let text = format!("SELECT {long} AS \"é{long}\", '{long}' FROM t -- {long}");
        let (cut, names) = cut_names(&text, |_| false).unwrap();
        assert_eq!(cut, format!("SELECT {short} AS \"é{}\", '{long}' FROM t -- {long}", &short[..61]));
        assert_eq!(names, [long.clone(), format!("é{long}")]);
        assert_eq!(cut_names(&text, |name| name.len() > 60), None);
        assert_eq!(cut_names(&format!("SELECT '{long}', {short}"), |_| false), None);
    }
}
