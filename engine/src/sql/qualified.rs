//! A stored query as others read it who look names up elsewhere: with the schemas of what it names.
//!
//! ```text
//!   SELECT * FROM a JOIN s.b USING (id)      SELECT * FROM public.a JOIN s.b USING (id)
//!   SELECT 'sad'::mood                       SELECT 'sad'::public.mood
//! ```
//!
//! All else stays as it was written.

use std::ops::ControlFlow;

use sqlparser::ast;

use super::parse::{fold, parse_one};
use super::statement::StatementKind;
use crate::error::Result;
use crate::sql::visit::Walk;

/// Table functions whose first argument is a table.
const OVER_TABLES: &[&str] = &["tumble", "hop", "cumulate", "session", "log"];

/// The text of a query in which names that stand without a schema have the one that `schema_of` says, written as SQL; none where
/// it says none, and where the name is one of WITH.
pub fn with_schemas(text: &str, schema_of: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let StatementKind::Query(query) = parse_one(text)?.kind else { return Ok(text.to_string()) };
    let mut names = Names { schema_of, with: Vec::new(), found: Vec::new() };
    let _ = query.walk(&mut names);
    let mut found = names.found;
    found.sort_by_key(|(place, _)| *place);
    found.dedup();
    let mut lines: Vec<String> = text.split('\n').map(str::to_string).collect();
    for ((line, column), schema) in found.into_iter().rev() {
        let Some(line) = lines.get_mut(line - 1) else { continue };
        let Some((at, _)) = line.char_indices().nth(column - 1) else { continue };
        line.insert_str(at, &format!("{schema}."));
    }
    Ok(lines.join("\n"))
}

struct Names<'a> {
    schema_of: &'a dyn Fn(&str) -> Option<String>,
    /// Names of the WITH queries around, as many lists as there are queries.
    with: Vec<Vec<String>>,
    /// Line and column, from 1, and what comes there.
    found: Vec<((usize, usize), String)>,
}

impl Names<'_> {
    fn name(&mut self, name: &ast::ObjectName) {
        if let [ast::ObjectNamePart::Identifier(ident)] = &name.0[..] {
            self.ident(ident);
        }
    }

    fn ident(&mut self, ident: &ast::Ident) {
        let name = fold(ident);
        let place = (ident.span.start.line as usize, ident.span.start.column as usize);
        // What was put in has no place.
        if place.0 == 0 || self.with.iter().flatten().any(|with| *with == name) {
            return;
        }
        self.found.extend((self.schema_of)(&name).map(|schema| (place, schema)));
    }
}

impl ast::Visitor for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.with.push(tables.map(|cte| fold(&cte.alias.name)).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
        self.with.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        let (name, args) = match factor {
            ast::TableFactor::Table { name, args: None, .. } => {
                self.name(name);
                return ControlFlow::Continue(());
            }
            ast::TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
            ast::TableFactor::Function { name, args, .. } => (name, args),
            _ => return ControlFlow::Continue(()),
        };
        let over = |name: &ast::ObjectName| OVER_TABLES.contains(&&*name.to_string().to_lowercase());
        if over(name)
            && let Some(ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Identifier(table)))) =
                args.first()
        {
            self.ident(table);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        if let ast::Expr::Cast { data_type, .. } = expr {
            let mut data_type = data_type;
            while let ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(element, _)) = data_type {
                data_type = element;
            }
            if let ast::DataType::Custom(name, modifiers) = data_type
                && modifiers.is_empty()
                && super::types::sql_type_from_ast(data_type).is_err()
            {
                self.name(name);
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_schemas_and_the_rest_stays() {
        let schema_of = |name: &str| match name {
            "a" | "mood" => Some("public".to_string()),
            "Odd b" => Some("\"S 1\"".to_string()),
            _ => None,
        };
        for (text, expected) in [
            ("SELECT a.x,  1 FROM a", "SELECT a.x,  1 FROM public.a"),
            (
                "select *\n  from A as q\n  join \"Odd b\" using (id)",
                "select *\n  from public.A as q\n  join \"S 1\".\"Odd b\" using (id)",
            ),
            ("SELECT * FROM s.a, c", "SELECT * FROM s.a, c"),
            ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
            ("SELECT (SELECT max(x) FROM a), 'x'::mood", "SELECT (SELECT max(x) FROM public.a), 'x'::public.mood"),
            ("SELECT * FROM TUMBLE(a, ts, INTERVAL '1 day')", "SELECT * FROM TUMBLE(public.a, ts, INTERVAL '1 day')"),
            (
                "SELECT 1 UNION SELECT x FROM a WHERE 'é' IN (SELECT y FROM a)",
                "SELECT 1 UNION SELECT x FROM public.a WHERE 'é' IN (SELECT y FROM public.a)",
            ),
        ] {
            assert_eq!(with_schemas(text, &schema_of).unwrap(), expected);
        }
    }
}
