//! `JOIN r FOR SYSTEM_TIME AS OF l.ts`: each row of the left side meets the version of `r` that was valid at its time.
//!
//! The versions are the rows of a stream, each valid from its event time until the next of its key:
//!
//! ```text
//!   FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
//!   FROM orders o ASOF JOIN rates AS r ON o.currency = r.currency AND o.ts >= r.<event time>
//! ```
//!
//! A table has no versions: it is as it is now.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, TableFactor, TableVersion,
    VisitMut, VisitorMut,
};

use super::bind::Relations;
use super::statement::Name;
use crate::error::{Error, Result};

/// Spells such joins as ASOF joins, as the parser does (see `rewrite.rs`).
pub fn spell_as_of(query: &mut Query, relations: &dyn Relations) -> Result<()> {
    match query.visit(&mut Spell { relations, named: HashSet::new() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Spell<'a> {
    relations: &'a dyn Relations,
    /// What WITH names.
    named: HashSet<String>,
}

impl VisitorMut for Spell<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named.extend(ctes.map(|cte| crate::sql::parse::fold(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Err(error) = self.join(join) {
                return ControlFlow::Break(Box::new(error));
            }
        }
        ControlFlow::Continue(())
    }
}

impl Spell<'_> {
    fn join(&self, join: &mut Join) -> Result<()> {
        match &mut join.relation {
            TableFactor::NestedJoin { table_with_joins, .. } => {
                table_with_joins.joins.iter_mut().try_for_each(|join| self.join(join))
            }
            TableFactor::Table { name, alias, version: version @ Some(TableVersion::ForSystemTimeAsOf(_)), .. } => {
                let Some(TableVersion::ForSystemTimeAsOf(at)) = version.take() else { unreachable!("matched above") };
                let table = crate::sql::parse::name_of(name)?;
                let column = self.event_time(&table, &at)?;
                let shown = match alias {
                    Some(alias) => alias.name.clone(),
                    None => Ident::with_quote('"', table.name.clone()),
                };
                let valid_from = Expr::CompoundIdentifier(vec![shown, Ident::with_quote('"', column)]);
                let valid = binary(Expr::Nested(Box::new(at)), BinaryOperator::GtEq, valid_from);
                join.global = true;
                match &mut join.join_operator {
                    JoinOperator::Join(JoinConstraint::On(on))
                    | JoinOperator::Inner(JoinConstraint::On(on))
                    | JoinOperator::Left(JoinConstraint::On(on))
                    | JoinOperator::LeftOuter(JoinConstraint::On(on)) => {
                        let keys = std::mem::replace(on, valid.clone());
                        *on = binary(Expr::Nested(Box::new(keys)), BinaryOperator::And, valid);
                        Ok(())
                    }
                    _ => Err(Error::unsupported("FOR SYSTEM_TIME AS OF in this kind of join")
                        .hint("Write [LEFT] JOIN r FOR SYSTEM_TIME AS OF l.ts ON l.key = r.key.")),
                }
            }
            _ => Ok(()),
        }
    }

    fn event_time(&self, table: &Name, at: &Expr) -> Result<String> {
        let now = |name: &str| ["proctime", "now", "current_timestamp"].contains(&name);
        let is_now = match at {
            Expr::Function(f) => crate::sql::parse::name_of(&f.name).is_ok_and(|name| now(&name.name)),
            _ => false,
        };
        if is_now {
            return Err(Error::unsupported("FOR SYSTEM_TIME AS OF the time of processing").hint(
                "Join the table itself: the result then follows its changes. To keep what was valid when a row came, keep \
                 the table's versions in a stream with a WATERMARK.",
            ));
        }
        let is_cte = table.schema.is_none() && self.named.contains(&table.name);
        let column = if is_cte { None } else { self.relations.event_time(table.schema.as_deref(), &table.name)? };
        column.ok_or_else(|| {
            Error::unsupported(format!("FOR SYSTEM_TIME AS OF with \"{}\", which has no versions,", table.name)).hint(
                "Versions are the rows of a stream with a WATERMARK. For anything else that has a time write l ASOF JOIN r \
                 ON l.key = r.key AND l.ts >= r.ts.",
            )
        })
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}
