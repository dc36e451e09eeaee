//! What a checkpoint holds of a view on one worker: taking it down, and bringing it back after a start.
//!
//! Bringing it back takes two steps, so that what is asked for comes first: the view's rows, which can be read from then
//! on if nothing has happened since the checkpoint; then its operators, and it goes on as a live one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::{Mode, Restoring, View};
use crate::delta::keys::KeyEncoder;
use crate::error::Result;
use crate::state::durable::{Saved, Share};
use crate::state::spill::Passing;
use crate::state::store::{BlockId, Store};
use crate::time::Epoch;

/// The plan node of a part that holds the view's own rows, and of the one with the rows set aside.
const NODE_OUTPUT: u32 = u32::MAX;
const NODE_ERRORS: u32 = u32::MAX - 1;

/// What a checkpoint held of a view: by (plan node, slot), for each worker of then its blocks, by number.
pub type Parts = BTreeMap<(u32, u32), Vec<Vec<BlockId>>>;

impl View {
    /// What has changed since the last checkpoint. Called when nothing is open.
    pub fn save(&mut self) -> Vec<((u32, u32), Saved)> {
        let mut parts = Vec::new();
        for (node, operator) in &self.operators {
            for (slot, durable) in operator.borrow_mut().durable().into_iter().enumerate() {
                parts.push(((*node, slot as u32), durable.save()));
            }
        }
        let mut published = self.published.borrow_mut();
        parts.push(((NODE_OUTPUT, 0), published.rows.borrow_mut().rows.save()));
        if std::mem::take(&mut published.errors_changed) {
            let block = errors_block(&published.errors);
            parts.push(((NODE_ERRORS, 0), Saved { whole: true, blocks: vec![block] }));
        }
        parts
    }

    /// In which order views are brought back: those that someone waits for first, rows before operators, small before
    /// large. `None`: there is nothing to be brought back.
    pub fn restore_order(&self) -> Option<(bool, bool, usize)> {
        let Mode::Restoring(r) = &self.mode else { return None };
        let blocks = r.parts.values().flatten().map(Vec::len).sum();
        Some((!self.status.wanted.load(Ordering::Acquire), r.rows_there, blocks))
    }

    /// The next step. What cannot be read suspends this view, and those that read it.
    pub fn restore_next(&mut self, store: &Store) {
        let Mode::Restoring(Restoring { at, parts, rows_there }) = &self.mode else { return };
        let (at, parts) = (*at, parts.clone());
        let result = match rows_there {
            false => self.restore_rows(at, &parts, store),
            true => self.restore_operators(&parts, store),
        };
        if let Err(error) = result {
            self.status.fail(error.clone());
            self.context.fail(error);
            return;
        }
        match &mut self.mode {
            Mode::Restoring(r) if !r.rows_there => {
                r.rows_there = true;
                let first_open = self.pending.front().map_or(Epoch::MAX, |span| span.first);
                self.my_status().first_open.store(first_open, Ordering::Release);
            }
            mode => {
                *mode = Mode::Live;
                self.published.borrow_mut().frontier = at + 1;
                self.constants.iter_mut().for_each(|(_, rows)| *rows = None);
                self.advance_inputs(at + 1);
                self.my_status().restoring.store(false, Ordering::Release);
            }
        }
        self.measure();
    }

    /// Each worker reads the blocks that it needs, all at the same time.
    fn blocks_of(&self, parts: &Parts, store: &Store, node: u32, slot: u32) -> Result<Vec<Vec<RecordBatch>>> {
        let mut passing = Passing::default();
        let by_worker = parts.get(&(node, slot)).map_or(&[][..], |by_worker| by_worker);
        let as_before = by_worker.len() == self.workers;
        let of_worker = by_worker.iter().enumerate().map(|(worker, blocks)| match as_before && worker != self.worker {
            // Nothing of it is this one's.
            true => Ok(vec![]),
            false => blocks.iter().map(|&block| Ok(passing.take(store.read_block(block)?))).collect(),
        });
        of_worker.collect()
    }

    fn share_now(&self) -> Share {
        Share { worker: self.worker, workers: self.workers }
    }

    fn restore_rows(&mut self, at: Epoch, parts: &Parts, store: &Store) -> Result<()> {
        let blocks = self.blocks_of(parts, store, NODE_OUTPUT, 0)?;
        let errors = self.blocks_of(parts, store, NODE_ERRORS, 0)?;
        let mut published = self.published.borrow_mut();
        let rows = published.rows.clone();
        let rows = &mut rows.borrow_mut().rows;
        let schema = rows.schema().clone();
        let types: Vec<DataType> = self.output_key.iter().map(|&k| schema.field(k).data_type().clone()).collect();
        let encoder = KeyEncoder::new(&types)?;
        rows.restore_rows(&blocks, &encoder, &self.output_key, &self.share_now(), at);
        // Each its own; dealt to another number of workers, the first takes them all.
        if errors.len() == self.workers || self.worker == 0 {
            errors.iter().flatten().for_each(|block| add_errors(&mut published.errors, block));
        }
        self.show_errors(&published);
        Ok(())
    }

    fn restore_operators(&mut self, parts: &Parts, store: &Store) -> Result<()> {
        let share = self.share_now();
        for (node, operator) in &self.operators {
            for (slot, durable) in operator.borrow_mut().durable().into_iter().enumerate() {
                durable.restore(&self.blocks_of(parts, store, *node, slot as u32)?, &share)?;
            }
        }
        self.published.borrow().rows.borrow_mut().index_rows();
        Ok(())
    }
}

fn errors_block(errors: &BTreeMap<(String, String), i64>) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("message", DataType::Utf8, false),
        Field::new("row", DataType::Utf8, false),
        Field::new("weight", DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(errors.keys().map(|k| Some(k.0.as_str())).collect::<StringArray>()),
        Arc::new(errors.keys().map(|k| Some(k.1.as_str())).collect::<StringArray>()),
        Arc::new(errors.values().copied().collect::<arrow::array::Int64Array>()),
    ];
    let options = RecordBatchOptions::new().with_row_count(Some(errors.len()));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).expect("three columns")
}

fn add_errors(errors: &mut BTreeMap<(String, String), i64>, block: &RecordBatch) {
    use arrow::array::AsArray;

    let (messages, rows) = (block.column(0).as_string::<i32>(), block.column(1).as_string::<i32>());
    let weights = block.column(2).as_primitive::<arrow::datatypes::Int64Type>();
    for i in 0..block.num_rows() {
        *errors.entry((messages.value(i).to_string(), rows.value(i).to_string())).or_insert(0) += weights.value(i);
    }
}
