//! Millrace's own relations: what goes on inside, as tables.
//!
//! | relation | rows |
//! | --- | --- |
//! | `mr_errors` | rows that a view has set aside: view, message, row, count |
//! | `mr_views` | materialized views: name, state, rows, state_rows, state_bytes, errors, reason |

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::catalog::{Catalog, RelationKind};
use crate::core::Core;

pub fn table(core: &Core, catalog: &Catalog, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableProvider>> {
    if schema.is_some_and(|s| s != "mr_catalog") {
        return None;
    }
    let rows = match name {
        "mr_errors" => errors(core, catalog),
        "mr_views" => views(core, catalog),
        _ => return None,
    };
    Some(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).expect("rows of their own schema")))
}

fn views_in<'a>(
    core: &'a Core,
    catalog: &'a Catalog,
) -> impl Iterator<Item = (&'a str, Arc<crate::dataflow::view::ViewStatus>)> {
    catalog
        .relations
        .values()
        .filter(|r| r.kind == RelationKind::MaterializedView)
        .filter_map(|r| Some((r.name.as_str(), core.view(r.id)?)))
}

fn errors(core: &Core, catalog: &Catalog) -> RecordBatch {
    let mut rows: Vec<(String, String, String, i64)> = Vec::new();
    for (name, view) in views_in(core, catalog) {
        rows.extend(view.error_rows().into_iter().map(|(message, row, count)| (name.to_string(), message, row, count)));
    }
    let text = |f: fn(&(String, String, String, i64)) -> &String| -> ArrayRef {
        Arc::new(rows.iter().map(|r| Some(f(r).as_str())).collect::<StringArray>())
    };
    let counts: ArrayRef = Arc::new(rows.iter().map(|r| r.3).collect::<Int64Array>());
    RecordBatch::try_from_iter([
        ("view", text(|r| &r.0)),
        ("message", text(|r| &r.1)),
        ("row", text(|r| &r.2)),
        ("count", counts),
    ])
    .expect("columns of one length")
}

fn views(core: &Core, catalog: &Catalog) -> RecordBatch {
    use std::sync::atomic::Ordering::Relaxed;
    let views: Vec<_> = views_in(core, catalog).collect();
    let numbers = |f: &dyn Fn(&crate::dataflow::view::ViewStatus) -> u64| -> ArrayRef {
        Arc::new(views.iter().map(|(_, v)| f(v) as i64).collect::<Int64Array>())
    };
    let names: ArrayRef = Arc::new(views.iter().map(|(n, _)| Some(*n)).collect::<StringArray>());
    let state =
        |v: &crate::dataflow::view::ViewStatus| match (v.failure(), v.workers.iter().all(|w| w.live.load(Relaxed))) {
            (Some(_), _) => "suspended",
            (None, true) => "live",
            (None, false) => "hydrating",
        };
    let states: ArrayRef = Arc::new(views.iter().map(|(_, v)| Some(state(v))).collect::<StringArray>());
    let reasons: ArrayRef =
        Arc::new(views.iter().map(|(_, v)| v.failure().map(|e| e.message)).collect::<StringArray>());
    RecordBatch::try_from_iter([
        ("name", names),
        ("state", states),
        ("rows", numbers(&|v| v.readers().iter().map(|r| r.live_rows()).sum())),
        ("state_rows", numbers(&|v| v.workers.iter().map(|w| w.state_rows.load(Relaxed)).sum())),
        ("state_bytes", numbers(&|v| v.workers.iter().map(|w| w.state_bytes.load(Relaxed)).sum())),
        ("errors", numbers(&|v| v.errors())),
        ("reason", reasons),
    ])
    .expect("columns of one length")
}
