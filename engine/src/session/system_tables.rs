//! Millrace's own relations: what goes on inside, as tables. Their rows are looked at when the statement runs.
//!
//! | relation | rows |
//! | --- | --- |
//! | `mr_errors` | rows that a view has set aside: view, message, row, count |
//! | `mr_late_rows` | rows that came after the watermark, where streams keep them: stream, reason, row, count |
//! | `mr_views` | materialized views: name, state, rows, state_rows, state_bytes, errors, reason |

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::catalog::{Catalog, RelationKind};
use crate::core::Core;

const ERRORS: &[(&str, DataType)] =
    &[("view", DataType::Utf8), ("message", DataType::Utf8), ("row", DataType::Utf8), ("count", DataType::Int64)];
const VIEWS: &[(&str, DataType)] = &[
    ("name", DataType::Utf8),
    ("state", DataType::Utf8),
    ("rows", DataType::Int64),
    ("state_rows", DataType::Int64),
    ("state_bytes", DataType::Int64),
    ("errors", DataType::Int64),
    ("reason", DataType::Utf8),
];

pub fn table(core: &Arc<Core>, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableProvider>> {
    if schema.is_some_and(|s| s != "mr_catalog") {
        return None;
    }
    let (columns, read): (_, fn(&Core, &Catalog) -> Vec<ArrayRef>) = match name {
        "mr_errors" => (ERRORS, errors),
        "mr_operators" => (super::analyze::OPERATORS, super::analyze::operators),
        "mr_late_rows" => (super::event_time::LATE_ROWS, super::event_time::late_rows),
        "mr_views" => (VIEWS, views),
        _ => return super::system_state::table(core, name),
    };
    let fields = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Some(Arc::new(SystemTable { core: core.clone(), schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), read }))
}

struct SystemTable {
    core: Arc<Core>,
    schema: SchemaRef,
    read: fn(&Core, &Catalog) -> Vec<ArrayRef>,
}

impl std::fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a system table")
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::View
    }
    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = (self.read)(&self.core, &self.core.catalog());
        let rows = RecordBatch::try_new(self.schema.clone(), columns).expect("columns of their own schema");
        Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema.clone(), projection.cloned())?)
    }
}

pub fn views_in<'a>(
    core: &'a Core,
    catalog: &'a Catalog,
) -> impl Iterator<Item = (&'a str, Arc<crate::dataflow::status::ViewStatus>)> {
    catalog
        .relations
        .values()
        .filter(|r| r.kind == RelationKind::MaterializedView)
        .filter_map(|r| Some((r.name.as_str(), core.view(r.id)?)))
}

fn errors(core: &Core, catalog: &Catalog) -> Vec<ArrayRef> {
    let mut rows: Vec<(String, String, String, i64)> = Vec::new();
    for (name, view) in views_in(core, catalog) {
        rows.extend(view.error_rows().into_iter().map(|(message, row, count)| (name.to_string(), message, row, count)));
    }
    let text = |f: fn(&(String, String, String, i64)) -> &String| -> ArrayRef {
        Arc::new(rows.iter().map(|r| Some(f(r).as_str())).collect::<StringArray>())
    };
    let counts: ArrayRef = Arc::new(rows.iter().map(|r| r.3).collect::<Int64Array>());
    vec![text(|r| &r.0), text(|r| &r.1), text(|r| &r.2), counts]
}

fn views(core: &Core, catalog: &Catalog) -> Vec<ArrayRef> {
    use std::sync::atomic::Ordering::Relaxed;
    let views: Vec<_> = views_in(core, catalog).collect();
    let numbers = |f: &dyn Fn(&crate::dataflow::status::ViewStatus) -> u64| -> ArrayRef {
        Arc::new(views.iter().map(|(_, v)| f(v) as i64).collect::<Int64Array>())
    };
    let names: ArrayRef = Arc::new(views.iter().map(|(n, _)| Some(*n)).collect::<StringArray>());
    let states: ArrayRef = Arc::new(views.iter().map(|(_, v)| Some(v.state())).collect::<StringArray>());
    let reasons: ArrayRef =
        Arc::new(views.iter().map(|(_, v)| v.failure().map(|e| e.message)).collect::<StringArray>());
    vec![
        names,
        states,
        numbers(&|v| v.readers().iter().map(|r| r.live_rows()).sum()),
        numbers(&|v| v.workers.iter().map(|w| w.state_rows.load(Relaxed)).sum()),
        numbers(&|v| v.workers.iter().map(|w| w.state_bytes.load(Relaxed)).sum()),
        numbers(&|v| v.errors()),
        reasons,
    ]
}
