//! What Postgres' grammar has beside what sqlparser reads: it is spelt otherwise, on the tokens.
//!
//! ```text
//!   trim(LEADING FROM x), trim(FROM x)   trim(LEADING ' ' FROM x), trim(' ' FROM x)
//!   CAST(x AS int ARRAY)                 CAST(x AS int[])
//!   trim(LEADING FROM x, 'y')            trim(LEADING ('y') FROM x)
//!   FROM ONLY t                          FROM t: no table has others below it
//!   ORDER BY a USING >, b USING <        ORDER BY a DESC, b ASC
//!   f(VARIADIC a)                        f(mr_variadic => a) (variadic.rs)
//!   ROWS FROM (f(), g())                 mr_rows_from(f(), g()) (from_functions.rs)
//!   FOR NO KEY UPDATE OF a, b            FOR UPDATE OF a FOR UPDATE OF b: nothing is locked in any of these ways
//!   'one' <line feed> 'text'             'onetext'
//!   interval(2) '1.234 s'                '1.234 s'::interval(2): sqlparser forgets the number
//!   a OPERATOR(pg_catalog.=) ANY (b)     a = ANY (b)
//!   GROUP BY ALL a, GROUP BY DISTINCT a  GROUP BY a, GROUP BY mr_distinct_sets(), a (groups.rs)
//!   ROLLUP (a, (b)::date)                ROLLUP (a, ((b)::date)): parentheses begin a list there
//!   SELECT, SELECT WHERE a               SELECT FROM (VALUES (1)) AS mr_one WHERE a: one row without columns
//!   pg_catalog.floor(x)                  pg_catalog."floor"(x): sqlparser's own syntax is for names without a schema
//! ```

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use super::source::unquoted;
use crate::sql::from_functions::ROWS_FROM;
use crate::sql::groups::DISTINCT_SETS;
use crate::sql::variadic::MARK;

/// Functions that sqlparser has a syntax of its own for.
const SPECIAL: &[&str] = &["ceil", "extract", "floor", "overlay", "position", "substr", "substring", "trim"];

/// Parentheses around items of ROLLUP and the like that begin with some but do not end with them, from the first item on.
fn items_of_sets(tokens: &[&Token], first: usize) -> Vec<(usize, usize, Vec<Token>)> {
    let (mut edits, mut depth, mut begin) = (Vec::new(), 0usize, first);
    // Where the parenthesis ends that an item begins with.
    let mut opened: Option<usize> = None;
    for (at, token) in tokens.iter().enumerate().skip(first) {
        let ends_item = depth == 0 && matches!(token, Token::Comma | Token::RParen);
        if ends_item {
            if opened.is_some_and(|end| end + 1 < at) {
                edits.push((begin, 0, vec![Token::LParen]));
                edits.push((at, 0, vec![Token::RParen]));
            }
            if **token == Token::RParen {
                break;
            }
            (begin, opened) = (at + 1, None);
            continue;
        }
        match token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth -= 1;
                if depth == 0 && opened.is_none() && *tokens[begin] == Token::LParen {
                    opened = Some(at);
                }
            }
            _ => {}
        }
    }
    edits
}

/// What comes after a list of items or groups.
const ENDS_OF_LISTS: &[&str] =
    &["where", "group", "having", "window", "union", "intersect", "except", "order", "limit", "offset", "fetch"];

/// `SELECT FROM (VALUES (1)) AS mr_one`
fn select_of_nothing() -> Vec<Token> {
    let word = |word: &str| Token::make_keyword(word);
    let blank = || Token::Whitespace(Whitespace::Space);
    let one = Token::Number("1".into(), false);
    let mut tokens = vec![word("SELECT"), blank(), word("FROM"), blank(), Token::LParen, word("VALUES"), blank()];
    tokens.extend([Token::LParen, one, Token::RParen, Token::RParen, blank(), word("AS"), blank()]);
    tokens.extend([Token::make_word("mr_one", None), blank()]);
    tokens
}

/// What is to be done where the `n`-th token begins such a thing: at which tokens, how many go, which come.
pub fn respelt(tokens: &[&Token], n: usize) -> Vec<(usize, usize, Vec<Token>)> {
    let is = |n: usize, text: &str| tokens.get(n).is_some_and(|token| unquoted(token).eq_ignore_ascii_case(text));
    let before = |words: &[&str]| n.checked_sub(1).is_some_and(|at| words.iter().any(|word| is(at, word)));
    let closed = tokens.get(n + 1) == Some(&&Token::RParen);
    if is(n, "array") && closed && n >= 2 && is(n - 2, "as") && matches!(tokens[n - 1], Token::Word(_)) {
        return vec![(n, 1, vec![Token::LBracket, Token::RBracket])];
    }
    if is(n, "trim") && tokens.get(n + 1) == Some(&&Token::LParen) {
        let sided = ["leading", "trailing", "both"].iter().any(|word| is(n + 2, word));
        let from = n + 2 + usize::from(sided);
        if is(from, "from")
            && let Some(second) = second_argument(tokens, from + 1)
        {
            let mut characters = vec![Token::LParen];
            characters.extend(tokens[second.clone()].iter().map(|token| (*token).clone()));
            characters.extend([Token::RParen, Token::Whitespace(Whitespace::Space)]);
            let gone = (second.start - 1..second.end).map(|at| (at, 1, Vec::new()));
            return std::iter::once((from, 0, characters)).chain(gone).collect();
        }
        if is(from, "from") {
            return vec![(from, 0, vec![Token::SingleQuotedString(" ".into()), Token::Whitespace(Whitespace::Space)])];
        }
    }
    let special = SPECIAL.iter().any(|word| is(n, word)) && tokens.get(n + 1) == Some(&&Token::LParen);
    if special && n >= 2 && *tokens[n - 1] == Token::Period && is(n - 2, "pg_catalog") {
        return vec![(n, 1, vec![Token::make_word(&unquoted(tokens[n]).to_lowercase(), Some('"'))])];
    }
    if (is(n, "all") || is(n, "distinct")) && n >= 2 && is(n - 1, "by") && is(n - 2, "group") {
        // GROUP BY ALL by itself is another thing, of other dialects.
        return match tokens.get(n + 1) {
            None | Some(Token::RParen | Token::EOF | Token::SemiColon | Token::Comma) => Vec::new(),
            Some(_) if ENDS_OF_LISTS.iter().any(|word| is(n + 1, word)) => Vec::new(),
            Some(_) if is(n, "all") => vec![(n, 1, Vec::new())],
            Some(_) => {
                let marker = [Token::make_word(DISTINCT_SETS, None), Token::LParen, Token::RParen, Token::Comma];
                vec![(n, 1, marker.to_vec())]
            }
        };
    }
    if is(n, "select") {
        let nothing = match tokens.get(n + 1) {
            None | Some(Token::RParen | Token::EOF | Token::SemiColon) => true,
            Some(_) => ENDS_OF_LISTS.iter().any(|word| is(n + 1, word)),
        };
        return if nothing { vec![(n, 1, select_of_nothing())] } else { Vec::new() };
    }
    let sets = is(n, "rollup") || is(n, "cube") || (is(n, "sets") && before(&["grouping"]));
    if sets && tokens.get(n + 1) == Some(&&Token::LParen) {
        return items_of_sets(tokens, n + 2);
    }
    if is(n, "operator")
        && let Some([Token::LParen, schema, Token::Period, operator, Token::RParen]) =
            tokens.get(n + 1..n + 6).map(|next| [next[0], next[1], next[2], next[3], next[4]])
        && unquoted(schema).eq_ignore_ascii_case("pg_catalog")
        && ["any", "all", "some"].iter().any(|word| is(n + 6, word))
    {
        return vec![(n, 6, vec![operator.clone(), Token::Whitespace(Whitespace::Space)])];
    }
    let named = matches!(tokens.get(n + 1), Some(Token::Word(_)));
    if is(n, "only") && named && (before(&["from", "join", "update", "table", "truncate"]) || after_comma(tokens, n)) {
        return vec![(n, 1, Vec::new())];
    }
    let after = |token: Token| n.checked_sub(1).is_some_and(|before| *tokens[before] == token);
    let argument = after(Token::LParen) || after(Token::Comma);
    if is(n, "variadic")
        && argument
        && !matches!(tokens.get(n + 1), None | Some(Token::Comma | Token::RParen | Token::Period))
    {
        return vec![(n, 1, vec![Token::make_word(MARK, None), Token::RArrow, Token::Whitespace(Whitespace::Space)])];
    }
    let begins = before(&["from", "join", "lateral"]) || after(Token::Comma);
    if is(n, "rows") && is(n + 1, "from") && tokens.get(n + 2) == Some(&&Token::LParen) && begins {
        return vec![(n, 1, vec![Token::make_word(ROWS_FROM, None)]), (n + 1, 1, Vec::new())];
    }
    if is(n, "for") {
        return locks(tokens, n);
    }
    if is(n, "interval")
        && let Some([Token::LParen, digits @ Token::Number(..), Token::RParen, text @ Token::SingleQuotedString(_)]) =
            tokens.get(n + 1..n + 5).map(|next| [next[0], next[1], next[2], next[3]])
    {
        let typed = [text.clone(), Token::DoubleColon, tokens[n].clone(), Token::LParen, digits.clone(), Token::RParen];
        let gone = (n..n + 4).map(|at| (at, 1, Vec::new()));
        return gone.chain([(n + 4, 1, typed.to_vec())]).collect();
    }
    if is(n, "using") {
        let way = match tokens.get(n + 1) {
            Some(Token::Gt) => "DESC",
            Some(Token::Lt) => "ASC",
            _ => return Vec::new(),
        };
        return vec![(n, 1, Vec::new()), (n + 1, 1, vec![Token::make_keyword(way)])];
    }
    Vec::new()
}

/// The second of two arguments, the first of which begins at a token, if it is a value without calls and the like.
fn second_argument(tokens: &[&Token], first: usize) -> Option<std::ops::Range<usize>> {
    let (mut depth, mut comma) = (0usize, None);
    for (at, token) in tokens.iter().enumerate().skip(first) {
        match token {
            Token::RParen if depth == 0 => return comma.map(|comma| comma + 1..at).filter(|second| !second.is_empty()),
            Token::RParen => depth -= 1,
            Token::LParen if comma.is_some() => return None,
            Token::LParen => depth += 1,
            Token::Comma if depth == 0 && comma.is_some() => return None,
            Token::Comma if depth == 0 => comma = Some(at),
            _ => {}
        }
    }
    None
}

/// `FOR KEY SHARE OF a, b` as two clauses that sqlparser knows.
fn locks(tokens: &[&Token], n: usize) -> Vec<(usize, usize, Vec<Token>)> {
    let is = |n: usize, text: &str| tokens.get(n).is_some_and(|token| unquoted(token).eq_ignore_ascii_case(text));
    let (strength, first) = match () {
        _ if is(n + 1, "no") && is(n + 2, "key") && is(n + 3, "update") => (3, "UPDATE"),
        _ if is(n + 1, "key") && is(n + 2, "share") => (2, "SHARE"),
        _ if is(n + 1, "update") => (1, "UPDATE"),
        _ if is(n + 1, "share") => (1, "SHARE"),
        _ => return Vec::new(),
    };
    let mut edits: Vec<_> = (n + 1..n + strength).map(|at| (at, 1, Vec::new())).collect();
    let mut at = n + strength + 1;
    if !is(at, "of") {
        return edits;
    }
    let blank = || Token::Whitespace(Whitespace::Space);
    while matches!(tokens.get(at + 1), Some(Token::Word(_))) {
        at += 2;
        while matches!(tokens.get(at), Some(Token::Period)) {
            at += 2;
        }
        if tokens.get(at) != Some(&&Token::Comma) {
            break;
        }
        let clause = ["FOR", first, "OF"].map(Token::make_keyword);
        edits.push((at, 1, clause.into_iter().flat_map(|word| [blank(), word]).chain([blank()]).collect()));
    }
    edits
}

fn after_comma(tokens: &[&Token], n: usize) -> bool {
    n.checked_sub(1).is_some_and(|before| *tokens[before] == Token::Comma)
}

/// Texts with nothing but white space and a line feed between them are one.
pub fn join_texts(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let text = |token: &TokenWithSpan| matches!(token.token, Token::SingleQuotedString(_));
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // Where the last text is, as long as nothing but white space has come since.
    let (mut last, mut lines) = (None, false);
    for token in tokens {
        match &token.token {
            Token::Whitespace(space) => {
                lines |= matches!(space, Whitespace::Newline | Whitespace::SingleLineComment { .. });
                out.push(token);
            }
            Token::SingleQuotedString(more) if last.is_some() && lines => {
                let at: usize = last.expect("matched above");
                if let Token::SingleQuotedString(first) = &mut out[at].token {
                    first.push_str(more);
                }
                out[at].span.end = token.span.end;
                lines = false;
            }
            _ => {
                (last, lines) = (text(&token).then_some(out.len()), false);
                out.push(token);
            }
        }
    }
    out
}
