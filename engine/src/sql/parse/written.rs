//! A query as text, in the words that were read: what the parser had to be given otherwise is turned back.
//!
//! ```text
//!   GLOBAL JOIN                                       ASOF JOIN
//!   f(mr_variadic => a)                               f(VARIADIC a)
//!   mr_rows_from(f(), g())                            ROWS FROM (f(), g())
//!   ROWS mr_exclude('ties', 2) PRECEDING              ROWS 2 PRECEDING EXCLUDE TIES
//!   GROUP BY mr_distinct_sets(), ROLLUP (a)           GROUP BY DISTINCT ROLLUP (a)
//! ```

use sqlparser::ast::Query;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use super::source::unquoted;
use crate::sql::dialect::DIALECT;
use crate::sql::frames::EXCLUDE;
use crate::sql::from_functions::ROWS_FROM;
use crate::sql::groups::DISTINCT_SETS;
use crate::sql::variadic::MARK;

/// A query as text that parses to it again.
pub fn text_of(query: &Query) -> String {
    let text = query.to_string();
    let ours = ["GLOBAL", MARK, ROWS_FROM, EXCLUDE, DISTINCT_SETS];
    if !ours.iter().any(|word| text.contains(word)) {
        return text;
    }
    match Tokenizer::new(&DIALECT, &text).tokenize() {
        Ok(mut tokens) => {
            turn_back(&mut tokens);
            tokens.iter().map(Token::to_string).collect()
        }
        Err(_) => text,
    }
}

fn turn_back(tokens: &mut Vec<Token>) {
    let mut at = 0;
    while at < tokens.len() {
        let next = next_word(tokens, at + 1);
        let followed_by = |token: &Token| next.is_some_and(|next| tokens[next] == *token);
        match unquoted(&tokens[at]) {
            "GLOBAL" if next.is_some_and(|next| ["JOIN", "INNER", "LEFT"].contains(&unquoted(&tokens[next]))) => {
                tokens[at] = word("ASOF");
            }
            MARK if followed_by(&Token::RArrow) => {
                tokens[at] = word("VARIADIC");
                tokens.drain(at + 1..=next.expect("matched above"));
            }
            ROWS_FROM if followed_by(&Token::LParen) => {
                tokens.splice(at..=at, [word("ROWS"), blank(), word("FROM"), blank()]);
            }
            DISTINCT_SETS if followed_by(&Token::LParen) => {
                let comma = tokens[at..].iter().position(|token| *token == Token::Comma);
                tokens.splice(at..=comma.map_or(at, |comma| at + comma), [word("DISTINCT")]);
            }
            EXCLUDE if followed_by(&Token::LParen) => turn_back_exclusion(tokens, at, next.expect("matched above")),
            _ => {}
        }
        at += 1;
    }
}

/// The call at a place, whose parenthesis is at another.
fn turn_back_exclusion(tokens: &mut Vec<Token>, at: usize, open: usize) {
    let Some(close) = closing(tokens, open + 1) else { return };
    let Some(Token::SingleQuotedString(excluded)) = next_word(tokens, open + 1).map(|n| tokens[n].clone()) else {
        return;
    };
    let Some(end) = closing(tokens, close + 1) else { return };
    let clause = [blank(), word("EXCLUDE"), blank(), word(&excluded.to_uppercase())];
    tokens.splice(end..end, clause);
    let comma = tokens[open..close].iter().position(|token| *token == Token::Comma).map(|comma| open + comma);
    let bound = match comma {
        None => vec![word("UNBOUNDED")],
        Some(comma) => match next_word(tokens, comma + 1).map(|n| tokens[n].clone()) {
            Some(Token::SingleQuotedString(current)) if current == "current row" => {
                // What it precedes goes too.
                let direction = next_word(tokens, close + 1).unwrap_or(close);
                tokens.drain(close + 1..=direction);
                vec![word("CURRENT"), blank(), word("ROW")]
            }
            _ => tokens[comma + 1..close].iter().skip_while(|token| is_blank(token)).cloned().collect(),
        },
    };
    tokens.splice(at..=close, bound);
}

/// The parenthesis that closes what is open at a place.
fn closing(tokens: &[Token], from: usize) -> Option<usize> {
    let mut depth = 0;
    (from..tokens.len()).find(|&at| {
        match tokens[at] {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth < 0
    })
}

fn next_word(tokens: &[Token], from: usize) -> Option<usize> {
    (from..tokens.len()).find(|&at| !is_blank(&tokens[at]))
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
}

fn word(text: &str) -> Token {
    Token::make_word(text, None)
}

fn blank() -> Token {
    Token::Whitespace(Whitespace::Space)
}

#[cfg(test)]
mod tests {
    use crate::sql::parse::query;

    #[test]
    fn as_it_was_read() {
        for text in [
            "SELECT * FROM a ASOF LEFT JOIN b ON a.k = b.k AND a.t >= b.t",
            "SELECT concat_ws(',', VARIADIC a), 'mr_variadic => a' FROM t",
            "SELECT * FROM ROWS FROM (f(1), g()) AS r",
            "SELECT a FROM t GROUP BY DISTINCT ROLLUP (a), ROLLUP (a, b)",
            "SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN 2 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t",
            "SELECT sum(a) OVER (ORDER BY b RANGE UNBOUNDED PRECEDING EXCLUDE GROUP) + (1) FROM t",
            "SELECT sum(a) OVER (ROWS BETWEEN CURRENT ROW AND f(1, 2) FOLLOWING EXCLUDE CURRENT ROW), (2) FROM t",
            "SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY b ROWS (1 + 1) PRECEDING EXCLUDE NO OTHERS)",
        ] {
            assert_eq!(super::text_of(&query(text).unwrap()), text);
        }
    }
}
