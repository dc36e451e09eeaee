//! Streams of which the last row of each key is kept, and earlier ones go: what others call a compacted topic.
//!
//! ```text
//!   CREATE STREAM prices (item text, price int) WITH (compaction_key = 'item', compaction_lag = '1 hour')
//!
//!   logged   (a,1) (b,1) (a,2) (a,3) │ (a,4)           │: an hour ago
//!   kept           (b,1)       (a,3) │ (a,4)
//! ```
//!
//! As with trimming, views keep what they have made of the rows that go. A stream is looked through when at least as
//! many rows have come as the last time were kept, so that a row is written anew a few times at most. First the keys of
//! what has come since are noted with their last offsets, as many as fit into [`KEYS_BYTES_MAX`]; then what has a later
//! one is taken out. Both go in steps, a while after each checkpoint, while everything else goes on; a view that is
//! made of the stream ends the run, so that it sees one state of the log.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::DataType;

use crate::catalog::{Column, Relation, RelationId};
use crate::connectors::options::duration_us;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::state::key_table::{ABSENT, KeyTable};
use crate::state::store::{Cursor, Gone, Place};
use crate::time::Epoch;

/// What the options of a stream are called.
pub const KEY: &str = "compaction_key";
pub const LAG: &str = "compaction_lag";

/// Fewer new rows are not worth a run.
const NEW_ROWS_MIN: u64 = 1_000;
/// Keys that a run takes on at a time.
const KEYS_BYTES_MAX: usize = 64 << 20;

/// The columns by which a stream is compacted; `None`: it is not. Errors: 22023, 42703.
pub fn key_columns(columns: &[Column], options: &BTreeMap<String, String>) -> Result<Option<Vec<usize>>> {
    if let Some(lag) = options.get(LAG) {
        if !options.contains_key(KEY) {
            return Err(Error::invalid_value(format!("option \"{LAG}\" without \"{KEY}\"")));
        }
        if duration_us(LAG, lag)? < 0 {
            return Err(Error::invalid_value(format!("invalid value for option \"{LAG}\": \"{lag}\"")));
        }
    }
    let Some(key) = options.get(KEY) else { return Ok(None) };
    let number = |name: &str| {
        let found = columns.iter().position(|column| column.name == name.trim());
        found.ok_or_else(|| Error::new("42703", format!("column \"{}\" does not exist", name.trim())))
    };
    let key = key.split(',').map(number).collect::<Result<Vec<_>>>()?;
    if (1..key.len()).any(|i| key[..i].contains(&key[i])) {
        return Err(Error::invalid_value(format!("each column of {KEY} stands there once")));
    }
    Ok(Some(key))
}

/// Whether a stream can be compacted as its options say.
pub fn check(stream: &Relation) -> Result<()> {
    match key_columns(&stream.columns, &stream.options)? {
        Some(columns) => Newest::new(stream, columns).map(|_| ()),
        None => Ok(()),
    }
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do.
    Idle,
    More,
    /// All that was superseded is gone now.
    Done,
}

/// The runs under way.
#[derive(Default)]
pub struct Compactions(BTreeMap<RelationId, Run>);

struct Run {
    /// Rows of later epochs are not looked at.
    through: Epoch,
    newest: Newest,
    phase: Phase,
}

enum Phase {
    Noting(Box<dyn Iterator<Item = Result<(RecordBatch, Vec<Place>)>> + Send>),
    TakingOut(Cursor),
}

impl Compactions {
    /// Goes on with a stream, for some milliseconds.
    pub fn advance(&mut self, core: &Core, stream: &Relation, now_us: i64, checkpoint: Epoch) -> Result<Step> {
        let Some(columns) = key_columns(&stream.columns, &stream.options)? else { return Ok(Step::Idle) };
        // A view that is being made reads all of it first.
        if core.creating.lock().expect("no panic while held").values().any(|reads| reads.contains(&stream.id)) {
            self.0.remove(&stream.id);
            return Ok(Step::Idle);
        }
        let mut run = match self.0.remove(&stream.id) {
            Some(run) => run,
            None => match begin(core, stream, columns, now_us, checkpoint)? {
                Some(run) => run,
                None => return Ok(Step::Idle),
            },
        };
        let step = run.step(core, stream)?;
        if step == Step::More {
            self.0.insert(stream.id, run);
        }
        Ok(step)
    }

    /// Forgets streams that are no longer there.
    pub fn keep_only(&mut self, streams: &BTreeSet<RelationId>) {
        self.0.retain(|stream, _| streams.contains(stream));
    }

    /// From now on, until the next [`Self::advance`], a stream's log stays as it is. What is gone of it.
    pub fn settle(&mut self, core: &Core, stream: RelationId) -> Result<Gone> {
        self.0.remove(&stream);
        core.store.gone(stream)
    }
}

fn begin(core: &Core, stream: &Relation, columns: Vec<usize>, now_us: i64, checkpoint: Epoch) -> Result<Option<Run>> {
    let lag_us = stream.options.get(LAG).map_or(Ok(0), |lag| duration_us(LAG, lag))?;
    let before = match lag_us {
        0 => Some(checkpoint),
        _ => core.store.epoch_at(now_us.saturating_sub(lag_us))?.map(|header| header.epoch),
    };
    let Some(through) = before.map(|epoch| epoch.min(checkpoint)) else { return Ok(None) };
    let gone = core.store.gone(stream.id)?;
    let cleaned = gone.cleaned.max(gone.trimmed);
    if through <= cleaned || core.store.rows_between(stream.id, cleaned, through)? < gone.kept_rows.max(NEW_ROWS_MIN) {
        return Ok(None);
    }
    let rows = core.store.stream_rows(stream.id, cleaned, through, Some(columns.clone())).following();
    let newest = Newest::new(stream, columns)?;
    Ok(Some(Run { through, newest, phase: Phase::Noting(Box::new(rows.with_places())) }))
}

impl Run {
    fn step(&mut self, core: &Core, stream: &Relation) -> Result<Step> {
        let Run { through, newest, phase } = self;
        match phase {
            Phase::Noting(rows) => {
                match rows.next() {
                    // It has been trimmed meanwhile; the next run begins after that.
                    Some(Err(error)) if error.code == "55000" => return Ok(Step::Idle),
                    Some(batch) => {
                        let (rows, places) = batch?;
                        match newest.note(&rows, &places) {
                            None => return Ok(Step::More),
                            Some(last) => *through = last,
                        }
                    }
                    None => {}
                }
                match core.store.begin_compaction(stream.id, *through)? {
                    Some(cursor) => *phase = Phase::TakingOut(cursor),
                    None => return Ok(Step::Idle),
                }
            }
            Phase::TakingOut(cursor) => {
                if !core.store.compact_step(cursor, |rows, runs| newest.stays(rows, runs))? {
                    core.store.end_compaction(stream.id, *through, cursor.kept_rows)?;
                    let (kept, gone) = (cursor.kept_rows, cursor.gone_rows);
                    tracing::debug!(stream = stream.name, through, kept, gone, "compacted");
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::More)
    }
}

/// The offset of the last row of each key.
struct Newest {
    columns: Vec<usize>,
    keys: KeyTable,
    /// By the key's id.
    offsets: Vec<u64>,
    /// There is no room for more keys: epochs after this one are left to the next run.
    full_after: Option<Epoch>,
    ids: Vec<u32>,
}

impl Newest {
    fn new(stream: &Relation, columns: Vec<usize>) -> Result<Newest> {
        let schema = stream.arrow_schema();
        let types: Vec<DataType> = columns.iter().map(|&column| schema.field(column).data_type().clone()).collect();
        Ok(Newest { columns, keys: KeyTable::new(&types)?, offsets: Vec::new(), full_after: None, ids: Vec::new() })
    }

    /// Takes in rows of the key's columns. The last epoch to be looked at, when the rest has to wait.
    fn note(&mut self, rows: &RecordBatch, places: &[Place]) -> Option<Epoch> {
        let mut row = 0;
        for place in places {
            if let Some(last) = self.full_after.filter(|last| place.epoch > *last) {
                return Some(last);
            }
            let rows = rows.slice(row, place.rows);
            let encoded = self.keys.encoder().encode_rows(rows.columns(), rows.num_rows());
            self.keys.intern(&encoded, &mut self.ids);
            self.offsets.resize(self.keys.bound() as usize, 0);
            for (&id, offset) in self.ids.iter().zip(place.offset..) {
                self.offsets[id as usize] = offset;
            }
            row += place.rows;
            if self.full_after.is_none() && self.keys.state_bytes() + self.offsets.len() * 8 > KEYS_BYTES_MAX {
                self.full_after = Some(place.epoch);
            }
        }
        None
    }

    /// Which rows have no later one of their key. A key with a NULL is none.
    fn stays(&mut self, rows: &RecordBatch, runs: &[(u64, u64)]) -> BooleanArray {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|&column| rows.column(column).clone()).collect();
        let encoded = self.keys.encoder().encode_rows(&columns, rows.num_rows());
        self.keys.find(&encoded, &mut self.ids);
        let offsets = runs.iter().flat_map(|&(first, rows)| first..first + rows);
        let stays = self.ids.iter().zip(offsets).enumerate().map(|(row, (&id, offset))| {
            id == ABSENT || offset >= self.offsets[id as usize] || columns.iter().any(|column| column.is_null(row))
        });
        stays.map(Some).collect()
    }
}
