//! `U&"d\0061ta"`: a name in which characters are written by their numbers. The tokenizer sees a column U, an operator and a
//! name, which only here stand without anything between them.
//!
//! ```text
//!   U&"d\0061t\+000061"          "data"
//!   U&"d!0061t!!" UESCAPE '!'    "dat!"
//! ```

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::source::{significant, unquoted};
use crate::error::{Error, Result};

/// The tokens with such names read. Errors: 42601.
pub fn read(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    if !tokens.windows(3).any(begins) {
        return Ok(tokens);
    }
    let mut out = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let Some(three) = tokens.get(at..at + 3).filter(|three| begins(three)) else {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        };
        let mut span = three[2].span;
        span.start = three[0].span.start;
        at += 3;
        let Token::Word(name) = &three[2].token else { continue };
        let mut escape = '\\';
        let next = |from: usize| (from..tokens.len()).find(|&i| significant(&tokens[i]));
        if let Some(word) = next(at).filter(|&i| unquoted(&tokens[i].token).eq_ignore_ascii_case("uescape"))
            && let Some(sign) = next(word + 1)
            && let Token::SingleQuotedString(text) = &tokens[sign].token
        {
            escape = sign_of(text)?;
            at = sign + 1;
        }
        out.push(TokenWithSpan { token: Token::make_word(&spelt_out(&name.value, escape)?, Some('"')), span });
    }
    Ok(out)
}

fn begins(three: &[TokenWithSpan]) -> bool {
    let [u, and, name] = three else { return false };
    let unit = |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if word.quote_style.is_none());
    unit(u)
        && unquoted(&u.token).eq_ignore_ascii_case("u")
        && and.token == Token::Ampersand
        && matches!(&name.token, Token::Word(word) if word.quote_style == Some('"'))
}

fn sign_of(text: &str) -> Result<char> {
    let mut signs = text.chars();
    match (signs.next(), signs.next()) {
        (Some(sign), None)
            if !sign.is_ascii_hexdigit() && !matches!(sign, '+' | '\'' | '"') && !sign.is_whitespace() =>
        {
            Ok(sign)
        }
        _ => Err(Error::syntax("invalid Unicode escape character")),
    }
}

fn spelt_out(name: &str, escape: char) -> Result<String> {
    let invalid = || Error::syntax("invalid Unicode escape");
    let (mut out, mut rest) = (String::with_capacity(name.len()), name.chars());
    while let Some(c) = rest.next() {
        if c != escape {
            out.push(c);
            continue;
        }
        let ahead = rest.as_str();
        if ahead.starts_with(escape) {
            out.push(escape);
            rest.next();
            continue;
        }
        let (skipped, count) = if ahead.starts_with('+') { (1, 6) } else { (0, 4) };
        let digits = ahead.get(skipped..skipped + count).ok_or_else(invalid)?;
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        out.push(number.and_then(char::from_u32).filter(|c| *c != '\0').ok_or_else(invalid)?);
        rest = ahead[skipped + count..].chars();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(spelt_out(r"d\0061t\+000061\\", '\\').unwrap(), r"data\");
        assert_eq!(spelt_out("d!0441!!", '!').unwrap(), "dс!");
        for wrong in [r"\00", r"\00g1", r"\+00006", r"\D83D", r"\0000"] {
            assert_eq!(spelt_out(wrong, '\\').unwrap_err().code, "42601", "{wrong}");
        }
        assert!(sign_of("+").is_err() && sign_of("ab").is_err() && sign_of("a").is_err());
    }
}
