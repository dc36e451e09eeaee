//! From the SQL that Postgres understands to the SQL that DataFusion can bind, on the syntax tree.
//!
//! Only queries that name something of the system come here (see [`concerns`]). What is rewritten, and
//! into what:
//!
//! ```text
//! pg_catalog.format_type(…)             format_type(…)
//! 'pg_class'::regclass, x::oid          regclass('pg_class'), oid(x)
//! x::pg_catalog.text, '{a,b}'::text[]   x::text, ARRAY['a','b']
//! a OPERATOR(pg_catalog.~) b            a ~ b
//! a COLLATE "C"                         a
//! current_user, session_user            current_user()
//! c.xmin, c.ctid, c.tableoid            xid('0'), '(0,0)', oid of c's table
//! x = ANY (array)                       any_of('=', x, array); IN for a literal array
//! ARRAY(SELECT e … ORDER BY o)          or_empty((SELECT array_agg(e ORDER BY o) …))
//! indkey[0]                             subscript(indkey, 0)
//! (keys).n                              get_field(keys, 'n')
//! SELECT generate_subscripts(a, 1)      SELECT unnest(generate_subscripts(a, 1))
//! FROM f(x) WITH ORDINALITY t(a, n)     FROM LATERAL (SELECT unnest…) t
//! FROM t_id_seq                         FROM (SELECT … FROM pg_sequences …) t_id_seq
//! (a, b) = (c, d)                       a = c AND b = d
//! SELECT n.oid, n.*                     columns told apart by marks, see names.rs
//! ```
//!
//! Names of output columns are given as Postgres gives them before anything else is rewritten.

mod expressions;
mod from;
mod names;
mod sequences;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use millrace_engine::sql::visit::{Walk, WalkMut};
use millrace_engine::{Error, Result};
use sqlparser::ast::{self, Expr, ObjectName, Query, Select, TableFactor, VisitorMut};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::{CatalogView, functions, relations};

/// Whether `query` names a system relation or function, or is written in a way that only the rewrite
/// understands.
pub fn concerns(query: &Query, view: &CatalogView) -> bool {
    let search = Search::of(query, view);
    search.system_relation || search.other
}

pub fn rewrite(query: &mut Query, view: &CatalogView) -> Result<()> {
    let search = Search::of(query, view);
    let (of_system, named_here) = (search.system_relation, search.named_here);
    names::name_columns(query, view);
    let mut rewriter = Rewriter { view, of_system, named_here, scopes: Vec::new() };
    match query.walk_mut(&mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Search<'a> {
    view: &'a CatalogView,
    /// Reads a system relation: then even plain expressions are rewritten to those of this folder.
    system_relation: bool,
    other: bool,
    /// What WITH names.
    named_here: HashSet<String>,
}

impl<'a> Search<'a> {
    fn of(query: &Query, view: &'a CatalogView) -> Self {
        let mut search = Search { view, system_relation: false, other: false, named_here: HashSet::new() };
        let _ = query.walk(&mut search);
        search
    }
}

impl ast::Visitor for Search<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.named_here.extend(with.map(|cte| fold(&cte.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let parts = parts(relation);
        let schema = parts.len().checked_sub(2).map(|i| parts[i].as_str());
        let name = parts.last().map_or("", String::as_str);
        self.system_relation |= match schema {
            Some(schema) => matches!(schema, "pg_catalog" | "information_schema"),
            None => relations::find(None, name).is_some(),
        };
        self.other |= functions::find(name).is_some();
        if !self.system_relation && !(parts.len() == 1 && self.named_here.contains(name)) {
            self.system_relation = sequences::named(relation, self.view).is_some();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.other |= match factor {
            TableFactor::Function { .. } => true,
            TableFactor::UNNEST { with_ordinality, .. } => *with_ordinality,
            TableFactor::Table { args, with_ordinality, .. } => args.is_some() && *with_ordinality,
            _ => false,
        };
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.other |= match expr {
            Expr::Function(f) => {
                let parts = parts(&f.name);
                let name = parts.last().map_or("", String::as_str);
                parts.len() > 1 || functions::find(name).is_some()
            }
            Expr::Cast { data_type, .. } => expressions::is_system_type(data_type),
            Expr::TypedString(t) => expressions::is_system_type(&t.data_type),
            Expr::Collate { .. } | Expr::Tuple(_) => true,
            Expr::BinaryOp { op: ast::BinaryOperator::PGCustomBinaryOperator(_), .. } => true,
            Expr::Identifier(ident) => {
                ident.quote_style.is_none()
                    && (expressions::is_session_word(&ident.value) || expressions::is_system_column(&ident.value))
            }
            Expr::CompoundIdentifier(idents) => idents.last().is_some_and(|i| expressions::is_system_column(&i.value)),
            _ => false,
        };
        ControlFlow::Continue(())
    }
}

/// An error on the heap: a visitor's break should be small.
type Visit = ControlFlow<Box<Error>>;

struct Rewriter<'a> {
    view: &'a CatalogView,
    of_system: bool,
    /// What WITH names.
    named_here: HashSet<String>,
    /// Alias to table of each SELECT that the visitor is in, innermost last.
    scopes: Vec<HashMap<String, ObjectName>>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Visit {
        // FOR UPDATE and the like lock nothing here.
        query.locks.clear();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> Visit {
        self.scopes.push(from::tables(&select.from));
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> Visit {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> Visit {
        // database.schema.table
        if relation.0.len() == 3 && parts(relation)[0] == self.view.database {
            relation.0.remove(0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Visit {
        let named_here =
            |name: &ObjectName| name.0.len() == 1 && parts(name).iter().all(|n| self.named_here.contains(n));
        if matches!(&*factor, TableFactor::Table { name, .. } if named_here(name)) {
            return ControlFlow::Continue(());
        }
        done(sequences::rewrite(factor, self.view))
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> Visit {
        done(from::rewrite(factor, self.of_system))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> Visit {
        done(expressions::rewrite(expr, self))
    }
}

fn done(result: Result<()>) -> Visit {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

/// A name's parts, folded.
fn parts(name: &ObjectName) -> Vec<String> {
    name.0.iter().filter_map(|p| p.as_ident()).map(fold).collect()
}

fn fold(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn parser(sql: &str) -> Result<Parser<'static>> {
    static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};
    Parser::new(&DIALECT).try_with_sql(sql).map_err(|e| Error::internal(format!("{e} in rewritten {sql}")))
}

fn parse_query(sql: &str) -> Result<Query> {
    parser(sql)?.parse_query().map(|q| *q).map_err(|e| Error::internal(format!("{e} in rewritten {sql}")))
}

fn parse_expr(sql: &str) -> Result<Expr> {
    parser(sql)?.parse_expr().map_err(|e| Error::internal(format!("{e} in rewritten {sql}")))
}

/// A call; names that are key words of types (`char`, `name`) are quoted.
fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let arguments =
        arguments.into_iter().map(|a| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(a))).collect::<Vec<_>>();
    Expr::Function(ast::Function {
        name: ObjectName::from(vec![ast::Ident::with_quote('"', name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn text(value: &str) -> Expr {
    Expr::value(ast::Value::SingleQuotedString(value.to_string()))
}
