//! `json_to_record` and its kin in FROM: the fields of objects as columns whose names and types the alias gives.
//!
//! ```text
//!   jsonb_to_record(j) AS x (a int, b text)
//!   LATERAL (SELECT CAST(r.value ->> 'a' AS int) AS a, … FROM (SELECT j AS value) AS r) AS x
//!
//!   jsonb_to_recordset(j) AS x (…)     … FROM jsonb_array_elements(j) AS r
//! ```

use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, Ident, TableAlias, TableFactor};

use crate::error::{Error, Result};
use crate::sql::parse::{fold, query};

/// The lateral subquery that such a call is. Errors: 42601 for columns without types.
pub fn rewrite(factor: &TableFactor) -> Result<Option<TableFactor>> {
    let (name, alias, arguments) = match factor {
        TableFactor::Table { name, alias, args: Some(args), with_ordinality: false, .. } => (name, alias, &args.args),
        TableFactor::Function { name, alias, args, with_ordinality: false, .. } => (name, alias, args),
        _ => return Ok(None),
    };
    let name = name.to_string().to_lowercase();
    let (json, set) = match name.as_str() {
        "json_to_record" => ("json", false),
        "jsonb_to_record" => ("jsonb", false),
        "json_to_recordset" => ("json", true),
        "jsonb_to_recordset" => ("jsonb", true),
        _ => return Ok(None),
    };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = arguments.as_slice() else {
        return Err(Error::new("42883", format!("function {name}() with such arguments does not exist")));
    };
    let columns = alias.iter().flat_map(|alias| &alias.columns);
    let typed: Option<Vec<_>> = columns.map(|column| Some((&column.name, column.data_type.as_ref()?))).collect();
    let (Some(typed), Some(alias)) = (typed.filter(|typed| !typed.is_empty()), alias) else {
        return Err(Error::syntax("a column definition list is required for functions returning \"record\""));
    };
    let items: Vec<String> = typed.into_iter().map(|(name, data_type)| item(name, data_type, json)).collect();
    let from = match set {
        true => format!("{json}_array_elements({value})"),
        false => format!("(SELECT CAST({value} AS {json}) AS value)"),
    };
    let subquery = query(&format!("SELECT {} FROM {from} AS r", items.join(", ")))?;
    let alias = TableAlias { explicit: true, name: alias.name.clone(), columns: Vec::new(), at: None };
    Ok(Some(TableFactor::Derived { lateral: true, subquery, alias: Some(alias), sample: None }))
}

/// One column: the field of its name. A null is NULL whatever the type.
fn item(name: &Ident, data_type: &ast::DataType, json: &str) -> String {
    let field = fold(name);
    let text = format!("(r.value ->> '{}')", field.replace('\'', "''"));
    let inner = format!("(r.value -> '{}')", field.replace('\'', "''"));
    let value = match data_type {
        ast::DataType::JSON | ast::DataType::JSONB => format!("CASE WHEN {text} IS NOT NULL THEN {inner} END"),
        ast::DataType::Array(_) => format!("CASE WHEN {text} IS NOT NULL THEN mr_{json}_elements_text({inner}) END"),
        _ => text,
    };
    format!("CAST({value} AS {data_type}) AS \"{}\"", field.replace('"', "\"\""))
}
