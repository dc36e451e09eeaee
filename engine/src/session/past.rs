//! Reading the past: `SELECT … AS OF`, and from where on a new view takes in its streams.
//!
//! ```text
//!   SELECT count(*) FROM orders AS OF 4711;                       at the end of epoch 4711
//!   SELECT * FROM balances AS OF now() - INTERVAL '10 minutes';   at the last epoch committed by then
//!   CREATE MATERIALIZED VIEW v WITH (start = 'latest') AS …       earliest, latest, an offset, a time
//! ```
//!
//! AS OF reads what was committed, within a transaction too: its own changes are of no past epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use sqlparser::ast;

use super::query::{Argument, bind_query, fields_of, relations_of, with_parameters};
use super::{Outcome, Session};
use crate::catalog::{Relation, RelationId, RelationKind, StreamStart};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::serve::snapshot::Snapshot;
use crate::sql::statement::Options;
use crate::time::Epoch;

impl Session {
    pub(super) async fn select_as_of(
        &mut self,
        query: &ast::Query,
        at: &ast::Expr,
        parameters: &[Argument],
    ) -> Result<Outcome> {
        let scope = self.scope();
        let state = self.state(&scope)?;
        let bound = bind_query(&state, &scope, query, &fields_of(parameters))?;
        let plan = with_parameters(bound.plan, parameters)?;
        let relations = relations_of(&scope.catalog, &plan)?;
        let epoch = self.epoch_of(at, &relations, parameters).await?;
        self.core.past.check(&self.core, &relations, epoch)?;
        let snapshot = match Snapshot::at(&self.core, &relations, epoch).await? {
            Some(snapshot) => Arc::new(snapshot),
            // It went between the two looks: now the check says so.
            None => {
                self.core.past.check(&self.core, &relations, epoch)?;
                return Err(Error::not_in_state(format!("epoch {epoch} can no longer be read")));
            }
        };
        self.warn_of_errors(&scope.catalog, &relations);
        let (schema, rows) = self.run_over(&state, plan, &bound.names, snapshot, Ok).await?;
        Ok(Outcome::Rows { schema, rows, tag: "SELECT" })
    }

    /// The epoch that AS OF names: a whole number is one, anything else a time.
    async fn epoch_of(&self, at: &ast::Expr, relations: &[Arc<Relation>], parameters: &[Argument]) -> Result<Epoch> {
        let scope = self.scope();
        let state = self.state(&scope)?;
        let query = crate::sql::parse::query(&format!("SELECT {at}"))?;
        let bound = bind_query(&state, &scope, &query, &fields_of(parameters))?;
        let plan = with_parameters(bound.plan, parameters)?;
        if !relations_of(&scope.catalog, &plan)?.is_empty() {
            return Err(Error::new("42P10", "AS OF takes a value, not a subquery that reads a relation"));
        }
        let nothing = Arc::new(Snapshot::new(0, Default::default()));
        let (_, rows) = self.run_over(&state, plan, &bound.names, nothing, Ok).await?;
        let rows = rows.try_collect::<Vec<_>>().await?;
        let value = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0).slice(0, 1));
        let value = value.filter(|value| !value.is_null(0)).ok_or_else(|| Error::invalid_value("AS OF NULL"))?;
        if value.data_type().is_integer() {
            let number = arrow::compute::cast(&value, &DataType::Int64).map_err(Error::internal)?;
            let number = number.as_primitive::<Int64Type>().value(0);
            return Epoch::try_from(number).map_err(|_| Error::invalid_value(format!("AS OF epoch {number}")));
        }
        let time_us = self.time_us(&value)?;
        self.core.past.epoch_at(&self.core, relations, time_us)
    }

    fn time_us(&self, value: &ArrayRef) -> Result<i64> {
        let time = crate::sql::types::field("as of", "timestamp with time zone", true)?;
        let given = Field::new("as of", value.data_type().clone(), true);
        let time = crate::sql::cast::assign(value, &given, &time, &self.style()?)?;
        Ok(time.as_primitive::<TimestampMicrosecondType>().value(0))
    }

    /// From where on a new view takes in the streams that it reads, where that is not their first row ever.
    pub(super) fn starts(&self, plan: &Plan, options: &Options) -> Result<BTreeMap<RelationId, StreamStart>> {
        let catalog = self.core.catalog();
        let streams: Vec<&Arc<Relation>> = plan
            .imports()
            .iter()
            .filter_map(|id| catalog.get(*id))
            .filter(|relation| relation.kind == RelationKind::Stream)
            .collect();
        let mut starts = BTreeMap::new();
        if let Some(start) = options.get("start") {
            if streams.is_empty() {
                return Err(Error::invalid_value("option \"start\" of a materialized view that reads no stream")
                    .hint("Views and tables are taken in as they stand."));
            }
            for stream in &streams {
                starts.insert(stream.id, self.start(stream, start, streams.len())?);
            }
        }
        for stream in streams {
            let gone = self.core.past.settle(&self.core, stream.id)?;
            let start = starts.entry(stream.id).or_default();
            if gone.trimmed > start.after {
                *start = StreamStart::after(gone.trimmed);
            }
            if gone.compacted > start.after {
                start.compactions = gone.compactions;
            }
        }
        starts.retain(|_, start| *start != StreamStart::default());
        Ok(starts)
    }

    fn start(&self, stream: &Relation, text: &str, streams: usize) -> Result<StreamStart> {
        let at = |after| Ok(StreamStart::after(after));
        match text.trim().to_ascii_lowercase().as_str() {
            "earliest" => return at(0),
            "latest" => return at(self.core.committed.load(Ordering::Acquire)),
            _ => {}
        }
        let store = &self.core.store;
        if let Ok(offset) = text.trim().parse::<u64>() {
            if streams > 1 {
                return Err(Error::invalid_value("option \"start\" is an offset, but the view reads several streams")
                    .hint("A time holds for all of them."));
            }
            let (first, end) = (store.stream_first(stream.id)?, store.stream_end(stream.id)?);
            if offset < first || offset > end {
                return Err(Error::invalid_value(format!(
                    "stream \"{}\" has no offset {offset}: its rows are those from {first} to before {end}",
                    stream.name
                )));
            }
            if offset == end {
                return at(self.core.committed.load(Ordering::Acquire));
            }
            let (after, _) = store.place_of_offset(stream.id, offset)?;
            return Ok(StreamStart { offset, ..StreamStart::after(after) });
        }
        let value: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let time_us = self.time_us(&value).map_err(|_| {
            Error::invalid_value(format!("invalid value for option \"start\": \"{text}\""))
                .hint("It is 'earliest', 'latest', an offset or a time.")
        })?;
        // From the first row that was committed at that time or later.
        at(store.epoch_at(time_us - 1)?.map_or(0, |header| header.epoch))
    }

    /// What a view's query is compared over: the streams' rows that it has taken in. 55000 when some of them are gone.
    pub(super) fn as_taken_in(&self, relation: &Relation, snapshot: &mut Snapshot) -> Result<()> {
        use crate::serve::snapshot::Scan;
        for (id, scan) in &mut snapshot.relations {
            let Scan::Log(log) = scan else { continue };
            let start = relation.starts.get(id).copied().unwrap_or_default();
            let gone = self.core.store.gone(*id)?;
            let what = if log.after > start.after {
                "trimmed"
            } else if gone.compacted > start.after && gone.compactions != start.compactions {
                "superseded, and taken out"
            } else {
                (log.after, log.first) = (start.after, self.core.store.first_offset(*id, start)?);
                continue;
            };
            return Err(Error::not_in_state(format!(
                "materialized view \"{}\" cannot be verified: rows that it was made from have been {what}",
                relation.name
            )));
        }
        Ok(())
    }
}
