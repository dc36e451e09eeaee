//! A side of a join whose rows are not its own: an arrangement keeps them for all joins that read it.
//!
//! The join is told the side's changes as of any other, and reads the rows as they were before those changes, and when only
//! what goes has gone:
//!
//! ```text
//!   epoch 12:  −L meets R of 11   −R meets L   +L meets R of 11 without what has gone   +R meets L
//! ```
//!
//! The join's first epoch has no changes of that side: what comes on the other meets all its rows. One side at most is kept
//! so. The arrangement may be further: it is read as of an epoch. The changes must be just those of its rows since the join's
//! last epoch, none set off against another.

use std::cell::Ref;
use std::rc::Rc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use super::SideSpec;
use crate::catalog::RelationId;
use crate::delta::keys::{KeyBatch, KeyEncoder};
use crate::error::Result;
use crate::state::indexed_rows::{Arranged, IndexedRows, Reading, Version};
use crate::state::key_index::NONE;
use crate::time::Epoch;

/// Where a side's rows are.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptSpec {
    pub arrangement: RelationId,
    /// For each of the side's columns which it is of the arrangement's. The key is the arrangement's, in its order.
    pub columns: Vec<usize>,
}

pub(super) struct Kept {
    source: Rc<Arranged>,
    columns: Vec<usize>,
    key: Vec<usize>,
    encoder: KeyEncoder,
    /// The epoch that is being finished, once what goes in it has gone.
    gone: Option<Epoch>,
    /// The last one that was finished.
    finished: Option<Epoch>,
}

/// What someone sees of the side for as long as this lives.
pub(super) struct Seen {
    pub(super) version: Version,
    _positions: Reading,
}

impl Kept {
    pub(super) fn new(spec: &SideSpec, kept: &KeptSpec, source: Rc<Arranged>) -> Result<Self> {
        let types: Vec<DataType> = spec.key.iter().map(|&c| spec.schema.field(c).data_type().clone()).collect();
        Ok(Kept {
            source,
            columns: kept.columns.clone(),
            key: spec.key.clone(),
            encoder: KeyEncoder::new(&types)?,
            gone: None,
            finished: None,
        })
    }

    /// The keys of `rows`, which have the side's columns.
    pub(super) fn keys(&self, rows: &RecordBatch) -> KeyBatch {
        let columns: Vec<ArrayRef> = self.key.iter().map(|&c| rows.column(c).clone()).collect();
        self.encoder.encode_rows(&columns, rows.num_rows())
    }

    /// From here on what goes in `epoch` has gone.
    pub(super) fn has_gone(&mut self, epoch: Epoch) {
        self.gone = Some(epoch);
    }

    pub(super) fn finish_epoch(&mut self, epoch: Epoch) {
        self.gone = None;
        self.finished = Some(epoch);
    }

    pub(super) fn see(&self) -> Seen {
        // There were no changes between the two: they would have been an epoch.
        let before = self.source.reached().max(self.finished.unwrap_or(0));
        let rows = self.source.rows.borrow();
        Seen { version: rows.version(before, self.gone.unwrap_or(before)), _positions: rows.reading() }
    }

    /// For each key where its chain begins, or `NONE`. `nulls`: keys with a NULL have one too.
    pub(super) fn heads(&self, keys: &KeyBatch, nulls: bool) -> Vec<u32> {
        let mut heads = self.source.rows.borrow_mut().heads(keys);
        if let Some(any_null) = keys.any_null.as_ref().filter(|_| !nulls) {
            heads.iter_mut().enumerate().filter(|(row, _)| any_null.value(*row)).for_each(|(_, head)| *head = NONE);
        }
        heads
    }

    pub(super) fn rows(&self) -> Ref<'_, IndexedRows> {
        self.source.rows.borrow()
    }

    /// The side's columns `columns` of the rows at `positions`.
    pub(super) fn columns_at(&self, columns: &[usize], positions: &[u32]) -> Vec<ArrayRef> {
        let columns: Vec<usize> = columns.iter().map(|&c| self.columns[c]).collect();
        self.source.rows.borrow().rows.columns_at(&columns, positions)
    }
}
