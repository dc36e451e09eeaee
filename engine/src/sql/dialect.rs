//! sqlparser's Postgres dialect, with an end to its patience.
//!
//! sqlparser tries one reading after another, so that a mistake deep in `array[array[…` or `position(position(…` costs
//! time exponential in its depth. Every reading passes through `parse_prefix`, so there the attempts are counted; a text
//! that needs many times more of them than it has tokens is refused as too deep. For the same reason argument names that
//! are expressions are left out: with them every argument is read twice.

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::sql::bounds;

#[derive(Debug)]
pub struct MillraceDialect;

pub static DIALECT: MillraceDialect = MillraceDialect;
static POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

thread_local! {
    /// Attempts left to the parser that runs on this thread.
    static ATTEMPTS: Cell<usize> = const { Cell::new(0) };
    /// Whether its text says SYSTEM_TIME. To any other an `at` behind a table is an alias.
    static VERSIONS: Cell<bool> = const { Cell::new(false) };
    /// Whether its text says NATURAL. In any other a join that comes before the ON of another one is its right side.
    static NATURAL: Cell<bool> = const { Cell::new(false) };
}

/// To be called before parsing so many tokens.
pub fn allow_attempts(tokens: usize) {
    ATTEMPTS.set(10_000 + 10 * tokens);
}

/// To be called before parsing them.
pub fn allow_versions(tokens: &[TokenWithSpan]) {
    let says = |keyword: Keyword| {
        tokens.iter().any(|token| matches!(&token.token, Token::Word(word) if word.keyword == keyword))
    };
    VERSIONS.set(says(Keyword::SYSTEM_TIME));
    NATURAL.set(says(Keyword::NATURAL));
}

/// Answers as Postgres does.
macro_rules! like_postgres {
    ($($method:ident),* $(,)?) => { $(fn $method(&self) -> bool { POSTGRES.$method() })* };
}

/// `- - a`: with parentheses, since as a text the signs would stand side by side, and `--` begins a comment.
fn sign_of_signed(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let sign = |n: usize| match parser.peek_nth_token_ref(n).token {
        Token::Minus => Some(UnaryOperator::Minus),
        Token::Plus => Some(UnaryOperator::Plus),
        _ => None,
    };
    let (op, Some(_)) = (sign(0)?, sign(1)) else { return None };
    parser.next_token();
    let precedence = DIALECT.prec_value(Precedence::MulDivModOp);
    let signed = parser.parse_subexpr(precedence);
    Some(signed.map(|expr| Expr::UnaryOp { op, expr: Box::new(Expr::Nested(Box::new(expr))) }))
}

/// `~ a + 1` is of `a + 1`, as with all operators that have no place of their own among Postgres'.
fn loose_prefix(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let op = match parser.peek_nth_token_ref(0).token {
        Token::Tilde => UnaryOperator::BitwiseNot,
        Token::AtSign => UnaryOperator::PGAbs,
        _ => return None,
    };
    parser.next_token();
    let operand = parser.parse_subexpr(DIALECT.prec_value(Precedence::PgOther));
    // In parentheses, as signs beside it would be another operator.
    let of = |expr| Expr::UnaryOp { op, expr: Box::new(Expr::Nested(Box::new(expr))) };
    Some(operand.map(|expr| Expr::Nested(Box::new(of(expr)))))
}

/// Tokens that are looked at to find what stands behind a parenthesis.
const LOOKAHEAD_MAX: usize = 2_000;

/// `((SELECT 1) UNION SELECT 2)` as a value, where sqlparser sees a value in parentheses.
fn set_operation(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let token = |n: usize| &parser.peek_nth_token_ref(n).token;
    let word = |n: usize| match token(n) {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let first = (0..LOOKAHEAD_MAX).find(|&n| *token(n) != Token::LParen).filter(|first| *first >= 2)?;
    if !matches!(word(first), Keyword::SELECT | Keyword::VALUES | Keyword::WITH | Keyword::TABLE) {
        return None;
    }
    let mut depth = 0;
    let end = (1..LOOKAHEAD_MAX).find(|&n| {
        match token(n) {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth == 0 || *token(n) == Token::EOF
    })?;
    if !matches!(word(end + 1), Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::ORDER | Keyword::LIMIT)
    {
        return None;
    }
    let query = |parser: &mut Parser| {
        parser.expect_token(&Token::LParen)?;
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Subquery(query))
    };
    Some(query(parser))
}

/// GROUPING SETS among the sets of others: `GROUPING SETS ((a), GROUPING SETS ((b), ()))`.
fn nested_sets(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let word = |n: usize| match &parser.peek_nth_token_ref(n).token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    if word(0) != Keyword::GROUPING || word(1) != Keyword::SETS {
        return None;
    }
    (0..2).for_each(|_| {
        parser.next_token();
    });
    let set = |parser: &mut Parser| {
        if !parser.consume_token(&Token::LParen) {
            return Ok(vec![parser.parse_expr()?]);
        }
        if parser.consume_token(&Token::RParen) {
            return Ok(Vec::new());
        }
        let set = parser.parse_comma_separated(Parser::parse_expr)?;
        parser.expect_token(&Token::RParen)?;
        Ok(set)
    };
    let sets = |parser: &mut Parser| {
        parser.expect_token(&Token::LParen)?;
        let sets = parser.parse_comma_separated(set)?;
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::GroupingSets(sets))
    };
    Some(sets(parser))
}

/// `x ISNULL` is one for NULL, `x NOTNULL` one for what is not.
fn is_null_test(word: &Word) -> Option<bool> {
    match word.keyword {
        Keyword::NOTNULL => Some(false),
        _ if word.value.eq_ignore_ascii_case("isnull") => Some(true),
        _ => None,
    }
}

/// `x = ANY (VALUES …)`, where sqlparser sees a call of a function.
fn any_of_values(parser: &mut Parser, left: &Expr) -> Option<Result<Expr, ParserError>> {
    let compare_op = match parser.peek_nth_token_ref(0).token {
        Token::Eq => BinaryOperator::Eq,
        Token::Neq => BinaryOperator::NotEq,
        Token::Lt => BinaryOperator::Lt,
        Token::LtEq => BinaryOperator::LtEq,
        Token::Gt => BinaryOperator::Gt,
        Token::GtEq => BinaryOperator::GtEq,
        _ => return None,
    };
    let word = |n: usize| match &parser.peek_nth_token_ref(n).token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let quantifier = word(1);
    let any = matches!(quantifier, Keyword::ANY | Keyword::SOME);
    let opens = parser.peek_nth_token_ref(2).token == Token::LParen;
    if !(any || quantifier == Keyword::ALL) || !opens || word(3) != Keyword::VALUES {
        return None;
    }
    (0..3).for_each(|_| {
        parser.next_token();
    });
    let rows = |parser: &mut Parser| {
        let rows = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Ok(Box::new(Expr::Subquery(rows)))
    };
    let left = Box::new(left.clone());
    Some(rows(parser).map(|right| match any {
        true => Expr::AnyOp { left, compare_op, right, is_some: quantifier == Keyword::SOME },
        false => Expr::AllOp { left, compare_op, right },
    }))
}

/// `x IN ((SELECT …), y)`, which is a list though it begins with a query: sqlparser takes it for that query alone.
fn in_list(parser: &mut Parser, left: &Expr) -> Option<Result<Expr, ParserError>> {
    let keyword = |n: usize| match &parser.peek_nth_token_ref(n).token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let negated = keyword(0) == Keyword::NOT;
    let at = usize::from(negated);
    let opens = |n: usize| parser.peek_nth_token_ref(n).token == Token::LParen;
    if keyword(at) != Keyword::IN || !opens(at + 1) || !opens(at + 2) {
        return None;
    }
    (0..at + 2).for_each(|_| {
        parser.next_token();
    });
    let subquery = parser.maybe_parse(|parser| {
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Ok(query)
    });
    let expr = Box::new(left.clone());
    Some(match subquery {
        Ok(Some(subquery)) => Ok(Expr::InSubquery { expr, subquery, negated }),
        Ok(None) => parser.parse_comma_separated(Parser::parse_expr).and_then(|list| {
            parser.expect_token(&Token::RParen)?;
            Ok(Expr::InList { expr, list, negated })
        }),
        Err(error) => Err(error),
    })
}

impl MillraceDialect {
    /// NOT before EXISTS is one like any other, which ends where AND and OR begin: `NOT EXISTS (…) IS NULL` is always true.
    fn not_exists(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let word = |n: usize| match &parser.peek_nth_token_ref(n).token {
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        };
        if word(0) != Keyword::NOT || word(1) != Keyword::EXISTS {
            return None;
        }
        parser.next_token();
        Some(parser.parse_subexpr(self.prec_value(Precedence::UnaryNot)).map(|of| match of {
            Expr::Exists { subquery, negated: false } => Expr::Exists { subquery, negated: true },
            of => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(of) },
        }))
    }

    /// `IS [NOT] DISTINCT FROM …`, from IS on.
    fn distinct_from(&self, parser: &mut Parser, left: &Expr, negated: bool) -> Result<Expr, ParserError> {
        parser.expect_keyword(Keyword::IS)?;
        let _ = parser.parse_keyword(Keyword::NOT);
        parser.expect_keywords(&[Keyword::DISTINCT, Keyword::FROM])?;
        let (left, right) = (Box::new(left.clone()), Box::new(parser.parse_subexpr(self.prec_value(Precedence::Is))?));
        Ok(match negated {
            true => Expr::IsNotDistinctFrom(left, right),
            false => Expr::IsDistinctFrom(left, right),
        })
    }
}

impl Dialect for MillraceDialect {
    /// To sqlparser's own tests for a dialect, this is Postgres.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }
    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }
    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_nth_token_ref(0).token {
            Token::Word(word) if word.quote_style.is_none() && is_null_test(word).is_some() => {
                Some(Ok(self.prec_value(Precedence::Is)))
            }
            _ => POSTGRES.get_next_precedence(parser),
        }
    }
    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match ATTEMPTS.get() {
            0 => Some(Err(ParserError::RecursionLimitExceeded)),
            // The statement's time may be up: whoever reports the error looks for that first.
            left if left % 1024 == 0 && bounds::check().is_err() => Some(Err(ParserError::RecursionLimitExceeded)),
            left => {
                ATTEMPTS.set(left - 1);
                sign_of_signed(parser)
                    .or_else(|| loose_prefix(parser))
                    .or_else(|| nested_sets(parser))
                    .or_else(|| set_operation(parser))
                    .or_else(|| self.not_exists(parser))
            }
        }
    }
    /// ISNULL and NOTNULL; ANY and ALL of VALUES; `BETWEEN SYMMETRIC`, whose bounds may come in either order; ASYMMETRIC says what holds anyway. `IS DISTINCT FROM`,
    /// which ends where AND and OR begin.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        if let Token::Word(word) = &parser.peek_nth_token_ref(0).token
            && word.quote_style.is_none()
            && let Some(null) = is_null_test(word)
        {
            parser.next_token();
            let of = Box::new(expr.clone());
            return Some(Ok(if null { Expr::IsNull(of) } else { Expr::IsNotNull(of) }));
        }
        if let Some(compared) = any_of_values(parser, expr).or_else(|| in_list(parser, expr)) {
            return Some(compared);
        }
        let word = |n: usize| match &parser.peek_nth_token_ref(n).token {
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        };
        if word(0) == Keyword::IS {
            let negated = word(1) == Keyword::NOT;
            let at = 1 + usize::from(negated);
            if word(at) != Keyword::DISTINCT || word(at + 1) != Keyword::FROM {
                return None;
            }
            return Some(self.distinct_from(parser, expr, negated));
        }
        let negated = word(0) == Keyword::NOT;
        let at = usize::from(negated);
        let symmetric = word(at + 1) == Keyword::SYMMETRIC;
        if word(at) != Keyword::BETWEEN || !(symmetric || word(at + 1) == Keyword::ASYMMETRIC) {
            return None;
        }
        (0..at + 2).for_each(|_| {
            parser.next_token();
        });
        let bounds = |parser: &mut Parser| {
            let precedence = self.prec_value(Precedence::Between);
            let low = parser.parse_subexpr(precedence)?;
            parser.expect_keyword(Keyword::AND)?;
            Ok((low, parser.parse_subexpr(precedence)?))
        };
        Some(bounds(parser).map(|(low, high)| {
            let between = |low: &Expr, high: &Expr| Expr::Between {
                expr: Box::new(expr.clone()),
                negated,
                low: Box::new(low.clone()),
                high: Box::new(high.clone()),
            };
            let op = if negated { BinaryOperator::And } else { BinaryOperator::Or };
            match symmetric {
                true => Expr::Nested(Box::new(Expr::BinaryOp {
                    left: Box::new(between(&low, &high)),
                    op,
                    right: Box::new(between(&high, &low)),
                })),
                false => between(&low, &high),
            }
        }))
    }
    /// Other words than Postgres has are kept from columns' names without AS in the dialects of others.
    fn is_column_alias(&self, word: &Keyword, parser: &mut Parser) -> bool {
        let free = [Keyword::TOP, Keyword::SORT, Keyword::MINUS, Keyword::CLUSTER, Keyword::DISTRIBUTE];
        *word != Keyword::FOR && (free.contains(word) || POSTGRES.is_column_alias(word, parser))
    }
    fn supports_left_associative_joins_without_parens(&self) -> bool {
        NATURAL.get()
    }
    /// One that is the condition of a join around it (`join_conditions.rs`).
    fn supports_cross_join_constraint(&self) -> bool {
        true
    }
    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        VERSIONS.get()
    }
    like_postgres!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_notnull_operator,
        supports_interval_options,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_geometric_types,
    );
}
