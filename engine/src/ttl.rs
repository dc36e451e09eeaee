//! Tables whose rows have a time to live: `CREATE TABLE online (…, seen timestamptz) WITH (ttl = '1 hour', ttl_column = 'seen')`.
//!
//! ```text
//!   seen  10:00 ────────────── ttl ──────────────► 11:00   the row goes, as by DELETE: logged, in an epoch, and views follow
//! ```
//!
//! Tables are looked through every sixtieth of their `ttl`, so a row may stay that much longer, a minute at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::TimestampMicrosecondType;

use crate::catalog::{Column, Relation};
use crate::commit::{Request, Writes};
use crate::connectors::options::duration_us;
use crate::core::Core;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::serve::snapshot::Snapshot;
use crate::serve::table::scan;
use crate::waits::{Reason, Waiter};

/// What the options of tables and views are called.
pub const TTL: &str = "ttl";
pub const TTL_COLUMN: &str = "ttl_column";

/// So many rows go in one epoch.
const ROWS_MAX: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// Of the relation, a timestamp.
    pub column: usize,
    pub age_us: i64,
}

impl Ttl {
    /// What the options of a relation with these columns say.
    pub fn of(columns: &[Column], options: &BTreeMap<String, String>) -> Result<Option<Ttl>> {
        let hint = "For example WITH (ttl = '1 hour', ttl_column = 'seen').";
        let (age, name) = match (options.get(TTL), options.get(TTL_COLUMN)) {
            (None, None) => return Ok(None),
            (Some(age), Some(name)) => (age, name),
            _ => return Err(Error::invalid_value("ttl and ttl_column go together").hint(hint)),
        };
        let age_us = duration_us(TTL, age).map_err(|e| e.hint(hint))?;
        if age_us <= 0 {
            return Err(Error::invalid_value(format!("invalid value for option \"ttl\": \"{age}\"")).hint(hint));
        }
        let column = columns.iter().position(|c| c.name == *name);
        let column = column.ok_or_else(|| {
            Error::new("42703", format!("column \"{name}\" named in option \"ttl_column\" does not exist"))
        })?;
        match columns[column].sql_type.starts_with("timestamp") {
            true => Ok(Some(Ttl { column, age_us })),
            false => Err(Error::new("42804", format!("the ttl_column \"{name}\" is no timestamp"))),
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_micros(self.age_us.unsigned_abs() / 60).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }
}

/// Removes a table's rows as their time comes, until it is dropped.
pub async fn run(core: Arc<Core>, relation: Arc<Relation>, ttl: Ttl) {
    loop {
        tokio::time::sleep(ttl.interval()).await;
        match expire(&core, &relation, ttl).await {
            Ok(()) => {}
            Err(error) if error.code == "42P01" => return,
            // A full disk may have room again.
            Err(error) => tracing::warn!(%error, table = relation.name, "rows past their ttl stay for now"),
        }
    }
}

/// Removes the rows whose time has come by now.
pub async fn expire(core: &Core, relation: &Arc<Relation>, ttl: Ttl) -> Result<()> {
    loop {
        // As for a DELETE: writers wait, so that what is found is still there.
        let (waiter, lock) = (Waiter::Connector(relation.id), core.lock_of(relation.id));
        let _held = core.waits.during(waiter, Reason::Lock, Some(relation.id), lock.lock_owned()).await;
        let snapshot = Snapshot::take(core, std::slice::from_ref(relation)).await?;
        let before_us = core.clock_us().saturating_sub(ttl.age_us);
        let (mut old, mut count) = (Vec::new(), 0);
        for batch in scan(&snapshot.relations[&relation.id], relation, &core.store) {
            let batch = batch?;
            let rows = filter_record_batch(&batch, &reached(&batch, ttl.column, before_us)).map_err(Error::internal)?;
            if rows.num_rows() > 0 {
                count += rows.num_rows();
                old.push(Delta::retractions(rows));
            }
            if count >= ROWS_MAX {
                break;
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        let writes = Writes { changes: [(relation.id, old)].into(), ..Writes::default() };
        match core.ask(|reply| Request::Write { writes, reply }).await {
            // A transaction, which holds no locks, was faster.
            Err(error) if error.code == "40001" => tokio::task::yield_now().await,
            Err(error) => return Err(error),
            Ok(_) if count < ROWS_MAX => return Ok(()),
            Ok(_) => {}
        }
    }
}

fn reached(rows: &RecordBatch, column: usize, before_us: i64) -> BooleanArray {
    let times = rows.column(column).as_primitive::<TimestampMicrosecondType>();
    let reached = BooleanArray::from_unary(times, |time| time <= before_us);
    // NULL is no time that could come.
    match reached.null_count() {
        0 => reached,
        _ => prep_null_mask_filter(&reached),
    }
}
