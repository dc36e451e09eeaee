//! SUBSCRIBE: a relation's changes as an endless query.
//!
//! ```text
//!   _ts | _diff | _progress | columns …
//!    12 |     1 | f         | …              WITH (PROGRESS): rows that only tell how far it is
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{Outcome, Session};
use crate::catalog::{Relation, RelationKind};
use crate::core::Core;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::serve::subscribe::Subscription;
use crate::sql::statement::{SinkInput, Subscribe};
use crate::time::Epoch;

/// Rows of one batch that a subscriber gets.
const BATCH_ROWS: usize = 8192;

impl Session {
    pub(super) async fn subscribe(&mut self, subscribe: &Subscribe) -> Result<Outcome> {
        let relation = self.subscribed(subscribe)?;
        if let Some(epoch) = subscribe.as_of {
            self.core.past.check(&self.core, [&relation], epoch)?;
        }
        let schema = changes_schema(&relation, subscribe.progress);
        let subscription =
            Subscription::start(&self.core, &relation, subscribe.snapshot, subscribe.as_of, subscribe.up_to).await?;
        let past = subscribe.up_to.filter(|up_to| *up_to <= self.core.header().epoch);
        if let (Some(_), Some(up_to)) = (subscribe.as_of, past) {
            self.core.past.check(&self.core, [&relation], up_to)?;
        }
        let core = self.core.clone();
        let out = schema.clone();
        let progress = subscribe.progress;
        let rows = futures::stream::unfold(Some(subscription), move |subscription| {
            let (core, out) = (core.clone(), out.clone());
            async move {
                let mut subscription = subscription?;
                if subscription.ended() {
                    return None;
                }
                match step(&core, &mut subscription, &out, progress).await {
                    Ok(batches) => Some((batches.into_iter().map(Ok).collect::<Vec<_>>(), Some(subscription))),
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        });
        use futures::StreamExt;
        let rows = rows.flat_map(futures::stream::iter);
        Ok(Outcome::Rows { schema, rows: Box::pin(rows), tag: "SUBSCRIBE" })
    }

    fn subscribed(&self, subscribe: &Subscribe) -> Result<Arc<Relation>> {
        let SinkInput::From(name) = &subscribe.input else {
            return Err(Error::unsupported("SUBSCRIBE to a query")
                .hint("Make a materialized view of it and subscribe to that."));
        };
        let relation = self.relation(name)?;
        match relation.kind {
            RelationKind::View | RelationKind::Sink => {
                Err(Error::new("42809", format!("cannot subscribe to {} \"{}\"", relation.kind.word(), relation.name))
                    .hint("Subscribe to a stream, a table or a materialized view."))
            }
            _ => Ok(relation),
        }
    }

    pub(super) fn subscribe_schema(&self, subscribe: &Subscribe) -> Result<SchemaRef> {
        Ok(changes_schema(&*self.subscribed(subscribe)?, subscribe.progress))
    }
}

fn changes_schema(relation: &Relation, progress: bool) -> SchemaRef {
    let mut fields = vec![Field::new("_ts", DataType::Int64, false), Field::new("_diff", DataType::Int64, true)];
    if progress {
        fields.push(Field::new("_progress", DataType::Boolean, false));
    }
    fields.extend(relation.arrow_schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(fields))
}

async fn step(
    core: &Core,
    subscription: &mut Subscription,
    schema: &SchemaRef,
    progress: bool,
) -> Result<Vec<RecordBatch>> {
    loop {
        let (epoch, deltas) = subscription.next(core).await?;
        let mut out = Vec::new();
        for delta in deltas.iter().filter(|d| !d.is_empty()) {
            for from in (0..delta.len()).step_by(BATCH_ROWS) {
                out.push(changes(&delta.slice(from, BATCH_ROWS.min(delta.len() - from)), epoch, schema, progress));
            }
        }
        if progress {
            out.push(progress_row(epoch, schema));
        }
        if !out.is_empty() || subscription.ended() {
            return Ok(out);
        }
    }
}

fn changes(delta: &Delta, epoch: Epoch, schema: &SchemaRef, progress: bool) -> RecordBatch {
    let rows = delta.len();
    let weights = delta.weights.clone().unwrap_or_else(|| Int64Array::from_value(1, rows));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(epoch as i64, rows)), Arc::new(weights)];
    if progress {
        columns.push(Arc::new(BooleanArray::from(vec![false; rows])));
    }
    columns.extend(delta.rows.columns().iter().cloned());
    RecordBatch::try_new(schema.clone(), columns).expect("by the schema")
}

fn progress_row(epoch: Epoch, schema: &SchemaRef) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_value(epoch as i64, 1)),
        new_null_array(&DataType::Int64, 1),
        Arc::new(BooleanArray::from(vec![true])),
    ];
    columns.extend(schema.fields().iter().skip(3).map(|f| new_null_array(f.data_type(), 1)));
    RecordBatch::try_new(schema.clone(), columns).expect("by the schema")
}
