//! CREATE TABLE … AS query.

use std::sync::Arc;

use sqlparser::ast;

use super::Session;
use crate::catalog::Relation;
use crate::delta::Delta;
use crate::error::Result;
use crate::sql::statement::CreateTableAs;

impl Session {
    /// How many rows it has; nothing when it was there already.
    pub(super) async fn create_table_as(&mut self, d: &CreateTableAs, text: &str) -> Result<Option<usize>> {
        let name = &self.placed(&d.name, d.temporary).await?;
        if d.if_not_exists && self.existing(name).is_some() {
            self.notice("NOTICE", "42P07", format!("relation \"{name}\" already exists, skipping"));
            return Ok(None);
        }
        let rows = match d.no_data {
            false => self.rows_of_query(&d.query, &[], &[]).await?,
            true => self.rows_of_query(&*nothing_of(&d.query)?, &[], &[]).await?,
        };
        let schema = rows.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let names = super::view::column_names(&names, &d.columns)?;
        let columns = super::view::columns_of_fields(schema.fields(), &names)?;
        let relation = Arc::new(Relation { columns, ..self.new_relation(name, text)? });
        let named: Vec<usize> = (0..relation.columns.len()).collect();
        let count = rows.num_rows();
        let rows = self.conform(&relation, &named, rows, &[]).await?;
        // The table and its rows are one epoch: nobody sees the one without the other, not after a crash either.
        let rows = if count == 0 { vec![] } else { vec![Delta::inserts(rows)] };
        self.create_with(Arc::unwrap_or_clone(relation), rows, false, false).await?;
        Ok(Some(count))
    }
}

/// A query's columns, and none of its rows.
fn nothing_of(query: &ast::Query) -> Result<Box<ast::Query>> {
    let mut none = crate::sql::parse::query("SELECT * FROM (SELECT 1) AS q WHERE false")?;
    let ast::SetExpr::Select(select) = none.body.as_mut() else { unreachable!("the text is a SELECT") };
    let ast::TableFactor::Derived { subquery, .. } = &mut select.from[0].relation else {
        unreachable!("it reads a subquery")
    };
    **subquery = query.clone();
    Ok(none)
}
