//! Tables that have a column of their own name: DataFusion looks for a column first, and takes `p.a` in a subquery for the
//! field a of the column p. Where that has failed, tables get names that no column has.
//!
//! ```text
//!   SELECT … FROM p WHERE EXISTS (SELECT 1 FROM p z WHERE z.a = p.a)
//!   SELECT … FROM p AS "p␁" WHERE EXISTS (SELECT 1 FROM p AS "z␁" WHERE "z␁".a = "p␁".a)
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, VisitorMut,
};

use crate::sql::item_names::MARK;
use crate::sql::parse::fold;
use crate::sql::visit::WalkMut;

/// Gives all tables in a query such names.
pub fn mark_tables(query: &mut Query) {
    let mut names = Names(HashSet::new());
    let _ = query.walk_mut(&mut names);
    let _ = query.walk_mut(&mut Mentions(names.0));
}

fn marked(name: &Ident) -> Ident {
    Ident::with_quote('"', format!("{}{MARK}", fold(name)))
}

/// The names that tables had.
struct Names(HashSet<String>);

impl VisitorMut for Names {
    type Break = ();
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let alias = match factor {
            TableFactor::Table { name, alias: alias @ None, args: None, .. } => {
                if let Some(own) = name.0.last().and_then(|part| part.as_ident()) {
                    self.0.insert(fold(own));
                    let name = marked(own);
                    *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
                }
                return ControlFlow::Continue(());
            }
            TableFactor::Table { alias, args: None, .. } | TableFactor::Derived { alias, .. } => alias,
            _ => return ControlFlow::Continue(()),
        };
        if let Some(alias) = alias {
            self.0.insert(fold(&alias.name));
            alias.name = marked(&alias.name);
        }
        ControlFlow::Continue(())
    }
}

struct Mentions(HashSet<String>);

impl Mentions {
    fn rename(&self, name: &mut Ident) {
        if self.0.contains(&fold(name)) {
            *name = marked(name);
        }
    }
    fn rename_all_of(&self, name: &mut ObjectName) {
        if let [part] = name.0.as_mut_slice()
            && let Some(ident) = part.as_ident()
            && self.0.contains(&fold(ident))
        {
            *part = ast::ObjectNamePart::Identifier(marked(ident));
        }
    }
}

impl VisitorMut for Mentions {
    type Break = ();
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item {
                self.rename_all_of(name);
            }
        }
        ControlFlow::Continue(())
    }
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                if let [table, _] = parts.as_mut_slice() {
                    self.rename(table);
                }
            }
            Expr::Function(function) => {
                if let FunctionArguments::List(list) = &mut function.args {
                    for argument in &mut list.args {
                        if let FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) = argument {
                            self.rename_all_of(name);
                        }
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
