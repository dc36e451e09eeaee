//! EXCLUDE in the frame of a window, which sqlparser does not know: its tokens go, and what is excluded becomes a call in
//! the frame's first bound. `frames.rs` takes it out again. And bounds that begin with a text, of which sqlparser makes an
//! interval whatever comes after it.
//!
//! ```text
//!   ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES
//!   ROWS BETWEEN mr_exclude('ties', 2) PRECEDING AND CURRENT ROW
//!   RANGE UNBOUNDED PRECEDING EXCLUDE GROUP     RANGE mr_exclude('group') PRECEDING
//!   ROWS CURRENT ROW EXCLUDE TIES               ROWS mr_exclude('ties', 'current row') PRECEDING
//!   ROWS '2'::int PRECEDING                     ROWS ('2'::int) PRECEDING
//! ```

use sqlparser::tokenizer::Token;

use super::source::unquoted;
use crate::sql::frames::EXCLUDE;

/// What is to be done to the tokens where the `n`-th is an EXCLUDE: at which ones, how many go, which come. Nothing where
/// it is something else of that name.
pub fn exclusion(tokens: &[&Token], n: usize) -> Vec<(usize, usize, Vec<Token>)> {
    let is = |n: usize, text: &str| tokens.get(n).is_some_and(|token| unquoted(token).eq_ignore_ascii_case(text));
    let (excluded, length) = if is(n + 1, "no") && is(n + 2, "others") {
        ("no others", 3)
    } else if is(n + 1, "current") && is(n + 2, "row") {
        ("current row", 3)
    } else if is(n + 1, "group") {
        ("group", 2)
    } else if is(n + 1, "ties") {
        ("ties", 2)
    } else {
        return Vec::new();
    };
    let Some(units) = units_before(tokens, n).filter(|_| tokens.get(n + length) == Some(&&Token::RParen)) else {
        return Vec::new();
    };
    let first = if is(units + 1, "between") { units + 2 } else { units + 1 };
    let mut mark = vec![
        Token::make_word(EXCLUDE, None),
        Token::LParen,
        Token::SingleQuotedString(excluded.to_string()),
        Token::Comma,
    ];
    let mut edits: Vec<(usize, usize, Vec<Token>)> = (n..n + length).map(|word| (word, 1, Vec::new())).collect();
    if is(first, "unbounded") {
        mark.pop();
        mark.push(Token::RParen);
        edits.push((first, 1, mark));
    } else if is(first, "current") && is(first + 1, "row") {
        mark.extend([Token::SingleQuotedString("current row".into()), Token::RParen]);
        edits.push((first, 1, mark));
        edits.push((first + 1, 1, vec![Token::make_keyword("PRECEDING")]));
    } else {
        let mut depth = 0;
        let end = (first..n).find(|&at| {
            match tokens[at] {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            depth == 0 && (is(at, "preceding") || is(at, "following"))
        });
        let Some(end) = end else { return Vec::new() };
        edits.push((first, 0, mark));
        edits.push((end, 0, vec![Token::RParen]));
    }
    edits
}

/// The same where the `n`-th token is a text that is cast and bounds a frame.
pub fn cast_bound(tokens: &[&Token], n: usize) -> Vec<(usize, usize, Vec<Token>)> {
    let is = |n: usize, text: &str| tokens.get(n).is_some_and(|token| unquoted(token).eq_ignore_ascii_case(text));
    let opens = n
        .checked_sub(1)
        .is_some_and(|before| ["between", "and", "rows", "range", "groups"].iter().any(|word| is(before, word)));
    if !opens || tokens.get(n + 1) != Some(&&Token::DoubleColon) {
        return Vec::new();
    }
    // The longest names of types have a few words, and a precision.
    let end = (n + 3..n + 10).find(|&at| is(at, "preceding") || is(at, "following"));
    match end {
        Some(end) if (n + 2..end).all(|at| !is(at, "and")) => {
            vec![(n, 0, vec![Token::LParen]), (end, 0, vec![Token::RParen])]
        }
        _ => Vec::new(),
    }
}

/// The ROWS, RANGE or GROUPS of the frame that ends before `n`.
fn units_before(tokens: &[&Token], n: usize) -> Option<usize> {
    let mut depth = 0;
    for at in (0..n).rev() {
        match tokens[at] {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return None,
            Token::LParen => depth -= 1,
            token if depth == 0 => {
                let word = unquoted(token);
                if ["rows", "range", "groups"].iter().any(|units| word.eq_ignore_ascii_case(units)) {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}
