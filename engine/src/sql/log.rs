//! `LOG(s)` in FROM: a stream's rows with where and when each was logged. Before anything is bound it becomes a name
//! that no relation can have; whoever looks names up knows it by [`stream_of`].

use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor};

use crate::error::{Error, Result};
use crate::sql::parse::fold;

/// No character that a name in a text can have.
const MARK: &str = "\u{0}log ";

/// The stream whose log a name means.
pub fn stream_of(name: &str) -> Option<&str> {
    name.strip_prefix(MARK)
}

/// LOG(s) under its own kind of name; `None` when `factor` is something else.
pub fn rewrite(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let TableFactor::Table { name, args: Some(args), alias, .. } = factor else { return Ok(None) };
    let [part] = name.0.as_slice() else { return Ok(None) };
    if part.as_ident().map(fold).as_deref() != Some("log") {
        return Ok(None);
    }
    let parts: Vec<Ident> = match args.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident)))] => vec![ident.clone()],
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))] => parts.clone(),
        _ => return Err(Error::new("42883", "LOG takes other arguments").hint("Write LOG(stream).")),
    };
    let (stream, schema) = parts.split_last().expect("a name has a part");
    let own = fold(stream);
    let mut marked: Vec<ObjectNamePart> = schema.iter().cloned().map(ObjectNamePart::Identifier).collect();
    marked.push(ObjectNamePart::Identifier(Ident {
        value: format!("{MARK}{own}"),
        quote_style: Some('"'),
        ..stream.clone()
    }));
    let alias = alias.clone().unwrap_or_else(|| ast::TableAlias {
        explicit: true,
        name: Ident::with_quote('"', own),
        columns: vec![],
        at: None,
    });
    let mut out = factor.clone();
    if let TableFactor::Table { name, args, alias: of, .. } = &mut out {
        (*name, *args, *of) = (ObjectName(marked), None, Some(alias));
    }
    Ok(Some(out))
}
