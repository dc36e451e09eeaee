//! The declarations of pg_catalog and information_schema, and the provider that makes their rows when
//! they are scanned.
//!
//! `relations.txt` holds one relation per line, all columns in PostgreSQL 15's order, so `SELECT c.*`
//! gives what a client built for 15 expects. A relation for which [`super::contents`] has no rows is
//! simply empty.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::CatalogView;
use super::types;
use super::value::{Value, array_of};

pub struct SystemColumn {
    pub name: &'static str,
    pub type_: &'static types::Type,
    pub not_null: bool,
}

pub struct SystemRelation {
    /// `pg_catalog` or `information_schema`.
    pub schema_name: &'static str,
    pub name: &'static str,
    pub oid: u32,
    /// `r` or `v`.
    pub kind: &'static str,
    pub columns: Vec<SystemColumn>,
    pub schema: SchemaRef,
}

pub struct SystemRelations {
    pub all: Vec<SystemRelation>,
    by_name: HashMap<(&'static str, &'static str), usize>,
    by_oid: HashMap<u32, usize>,
}

pub static RELATIONS: LazyLock<SystemRelations> = LazyLock::new(|| {
    let mut relations = SystemRelations { all: Vec::new(), by_name: HashMap::new(), by_oid: HashMap::new() };
    for line in include_str!("relations.txt").lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("relations.txt: name, OID, kind");
        let (schema_name, name) = word().split_once('.').expect("relations.txt: schema.name");
        let oid = word().parse().expect("relations.txt: an OID");
        let kind = word();
        let columns: Vec<SystemColumn> = words
            .map(|w| {
                let (name, type_name) = w.split_once(':').expect("relations.txt: column:type");
                let not_null = type_name.ends_with('!');
                let type_name = type_name.trim_end_matches('!');
                // The array types of catalogs' row types are not listed; text stands for them.
                let type_ = types::by_typname(type_name).or(types::by_typname("text")).expect("text is a type");
                SystemColumn { name, type_, not_null }
            })
            .collect();
        let schema =
            Arc::new(Schema::new(columns.iter().map(|c| types::field(c.name, c.type_.name, true)).collect::<Vec<_>>()));
        let index = relations.all.len();
        relations.by_name.insert((schema_name, name), index);
        relations.by_oid.insert(oid, index);
        relations.all.push(SystemRelation { schema_name, name, oid, kind, columns, schema });
    }
    relations
});

pub fn find(schema_name: Option<&str>, name: &str) -> Option<&'static SystemRelation> {
    RELATIONS.by_name.get(&(schema_name.unwrap_or("pg_catalog"), name)).map(|i| &RELATIONS.all[*i])
}

pub fn by_oid(oid: u32) -> Option<&'static SystemRelation> {
    RELATIONS.by_oid.get(&oid).map(|i| &RELATIONS.all[*i])
}

/// Rows under construction. `fields` names the columns that rows give; the others are NULL, or where a
/// column is NOT NULL zero, false or empty.
pub struct Rows {
    relation: &'static SystemRelation,
    positions: Vec<usize>,
    columns: Vec<Vec<Value>>,
    count: usize,
}

impl Rows {
    pub fn new(relation: &'static SystemRelation, fields: &str) -> Rows {
        let positions = fields
            .split_whitespace()
            .map(|f| {
                let position = relation.columns.iter().position(|c| c.name == f);
                position.unwrap_or_else(|| panic!("{} is declared with a column {f}", relation.name))
            })
            .collect();
        Rows { relation, positions, columns: relation.columns.iter().map(|_| Vec::new()).collect(), count: 0 }
    }

    /// Values in the order of `fields`.
    pub fn add<const N: usize>(&mut self, values: [Value; N]) {
        assert_eq!(N, self.positions.len(), "{}: a row has as many values as fields", self.relation.name);
        for (position, value) in self.positions.iter().zip(values) {
            self.columns[*position].push(value);
        }
        self.count += 1;
    }

    pub fn finish(self) -> Result<RecordBatch> {
        let columns = self.relation.columns.iter().zip(&self.relation.schema.fields).zip(self.columns);
        let arrays: Result<Vec<_>> = columns
            .map(|((column, field), mut values)| {
                let filler = if column.not_null { zero(column.type_) } else { Value::Null };
                values.resize(self.count, filler);
                array_of(field.data_type(), values)
            })
            .collect();
        Ok(RecordBatch::try_new(self.relation.schema.clone(), arrays?)?)
    }
}

fn zero(type_: &types::Type) -> Value {
    match type_.name {
        "bool" => Value::Bool(false),
        "name" | "text" | "char" | "pg_node_tree" => Value::Text(String::new()),
        _ if type_.category() == "A" => Value::List(Vec::new()),
        _ => Value::Int(0),
    }
}

/// A system relation, seen by one session. Its rows are made at each scan.
pub struct SystemTable {
    relation: &'static SystemRelation,
    view: Arc<CatalogView>,
}

impl SystemTable {
    pub fn new(relation: &'static SystemRelation, view: Arc<CatalogView>) -> Self {
        SystemTable { relation, view }
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.relation.schema_name, self.relation.name)
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.relation.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = super::contents::rows(self.relation, &self.view)?;
        Ok(MemorySourceConfig::try_new_exec(&[rows], self.schema(), projection.cloned())?)
    }
}
