//! Any query at all, kept up to date by running it again over what a change touches.
//!
//! ```text
//!   SELECT k, x, rank() OVER (PARTITION BY k ORDER BY x) FROM t       key: k
//!
//!   in, epoch 1   +1 | a | 5      out   +1 | a | 5 | 1
//!                 +1 | a | 7            +1 | a | 7 | 2
//!                 +1 | b | 1            +1 | b | 1 | 1
//!   in, epoch 2   -1 | a | 5      out   -1 | a | 5 | 1      only partition a is looked at
//!                                       -1 | a | 7 | 2
//!                                       +1 | a | 7 | 1
//! ```
//!
//! Formula: out = −Q(rows of the touched keys at E−1) + Q(the same at E), where Q gives the same answer for each key
//! whatever other keys are beside it. With no key Q is run over everything.
//!
//! State: the inputs, arranged by key. Cost: two runs of Q over all rows of the touched keys, per epoch; of a key with
//! very many rows on a thread of their own, so that other views need not wait.
//!
//! A key for which Q fails alone is set aside until it does not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::evaluate::set_aside;
use super::expiry::{EXPIRY_ROWS_MIN, Expiry, Lookback, expire, expire_behind};
use super::{Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::delta::consolidate::{consolidate, has_retractions};
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::state::arrangement::{Picker, split_weights, take};
use crate::state::durable::{Durable, Saved, Share};
use crate::state::key_table::KeyTable;
use crate::state::keyed_rows::KeyedRows;
use crate::time::{EpochHeader, TimeBound};

mod query;
pub use query::{Fed, Query};

/// Rows that are looked at in one run, if there are several keys.
const ROWS_PER_RUN: usize = 1 << 16;

/// Rows of one key that are more than that are not looked at by the worker itself.
const ROWS_ASIDE: usize = 1 << 17;
/// As for the threads of the process; only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct RecomputeSpec {
    pub inputs: Vec<RecomputeInput>,
    /// The query over its inputs.
    pub query: Query,
    /// Of a query over one input: columns of it that are columns of the result, (from, to).
    pub passed: Vec<(usize, usize)>,
    /// A column of one input, by which a row is changed only by rows that are not after it.
    pub later: Option<usize>,
    pub output: SchemaRef,
    /// This worker owns the empty key.
    pub owner: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RecomputeInput {
    pub schema: SchemaRef,
    /// Columns of the same types in each input; none: all rows belong together.
    pub key: Vec<usize>,
    /// It never retracts.
    pub append_only: bool,
    /// Rows that are let go: by a column of the key, or by the order of a query that looks back only so far.
    pub expiry: Option<TimeBound>,
    /// How far that looks back.
    pub lookback: Option<Lookback>,
}

struct Input {
    keyed: KeyedRows,
    expiry: Option<Expiry>,
    /// Changes of the open epoch.
    held: Vec<Delta>,
    /// Taken from a checkpoint, and so after the first epoch.
    restored: bool,
}

pub struct Recompute {
    spec: RecomputeSpec,
    key_schema: SchemaRef,
    inputs: Vec<Input>,
    /// What Q answers over nothing has been said.
    announced: bool,
    /// An epoch that is being finished.
    open: Option<Touched>,
    /// What Q answers for the key that is next, before and after the epoch.
    aside: Option<Receiver<[Option<Answer>; 2]>>,
    /// Q has failed for some key. It would not over fewer rows: they all stay.
    failed: bool,
}

type Answer = datafusion::common::Result<Vec<RecordBatch>>;

/// The keys that an epoch touched, and where their rows were and are.
struct Touched {
    keys: RecordBatch,
    next: usize,
    /// By input.
    old: Vec<Positions>,
    new: Vec<Positions>,
    /// Q's answer over nothing has been part of the result.
    announced: bool,
}

/// Positions key by key, and where each key's end.
struct Positions {
    rows: Vec<u32>,
    ends: Vec<usize>,
}

impl Positions {
    fn of(&self, from: usize, to: usize) -> &[u32] {
        let start = if from == 0 { 0 } else { self.ends[from - 1] };
        &self.rows[start..if to == 0 { 0 } else { self.ends[to - 1] }]
    }
}

impl Recompute {
    pub fn new(spec: RecomputeSpec) -> Result<Recompute> {
        let inputs = spec.inputs.iter().map(|input| {
            let keyed = KeyedRows::new(&input.schema, &input.key, !input.append_only, false)?;
            let expiry = input.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_ROWS_MIN));
            Ok(Input { keyed, expiry, held: Vec::new(), restored: false })
        });
        let inputs = inputs.collect::<Result<Vec<Input>>>()?;
        let key_schema = match spec.inputs.first() {
            Some(first) => first.schema.project(&first.key).expect("columns of the input"),
            None => Schema::empty(),
        };
        Ok(Recompute {
            spec,
            key_schema: Arc::new(key_schema),
            inputs,
            announced: false,
            open: None,
            aside: None,
            failed: false,
        })
    }

    fn is_global(&self) -> bool {
        self.key_schema.fields().is_empty()
    }

    /// Takes the epoch's changes in; `None` when there are none.
    fn open(&mut self, epoch: u64) -> Result<Option<Touched>> {
        let types: Vec<DataType> = self.key_schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let mut touched = KeyTable::new(&types)?;
        let mut ids = Vec::new();
        self.announced |= self.inputs.iter().any(|input| input.restored);
        let announce = self.is_global() && self.spec.owner && !self.announced;
        if announce {
            touched.intern(&touched.encoder().encode_rows(&[], 1), &mut ids);
        }
        let mut changes: Vec<Vec<Delta>> = Vec::new();
        for (input, spec) in self.inputs.iter_mut().zip(&self.spec.inputs) {
            let held = std::mem::take(&mut input.held);
            let held = if has_retractions(&held) { consolidate(&held) } else { held };
            for delta in held.iter().filter(|delta| !delta.is_empty()) {
                let columns: Vec<ArrayRef> = spec.key.iter().map(|&c| delta.rows.column(c).clone()).collect();
                touched.intern(&touched.encoder().encode_rows(&columns, delta.len()), &mut ids);
            }
            changes.push(held);
        }
        let count = touched.bound() as usize;
        if count == 0 {
            return Ok(None);
        }
        let columns = touched.keys(&(0..count as u32).collect::<Vec<_>>());
        let keys = touched.encoder().encode_rows(&columns, count);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let key_rows =
            RecordBatch::try_new_with_options(self.key_schema.clone(), columns, &options).expect("the key's types");
        let old = self.positions(&keys);
        for (input, deltas) in self.inputs.iter_mut().zip(changes) {
            for delta in deltas {
                let (plus, minus) = match &delta.weights {
                    None => (delta.rows, None),
                    Some(weights) => {
                        let (plus, minus) = split_weights(weights);
                        (take(&delta.rows, &plus), Some(take(&delta.rows, &minus)))
                    }
                };
                let keys = input.keyed.keys(&plus);
                input.keyed.append(&plus, &keys);
                if let Some(minus) = minus.filter(|rows| rows.num_rows() > 0) {
                    let keys = input.keyed.keys(&minus);
                    input.keyed.retract(&minus, &keys, epoch)?;
                }
            }
        }
        let new = self.positions(&keys);
        let announced = std::mem::replace(&mut self.announced, true);
        Ok(Some(Touched { keys: key_rows, next: 0, old, new, announced }))
    }

    fn positions(&mut self, keys: &KeyBatch) -> Vec<Positions> {
        let positions = self.inputs.iter_mut().map(|input| input.keyed.positions(keys));
        positions.map(|(rows, ends)| Positions { rows, ends }).collect()
    }

    /// Keys from `next` on that make one run, and their rows.
    fn run_end(&self, touched: &Touched) -> (usize, usize) {
        let count = touched.keys.num_rows();
        let rows =
            |to: usize| -> usize { touched.old.iter().chain(&touched.new).map(|p| p.of(touched.next, to).len()).sum() };
        let (mut from, mut to) = (touched.next + 1, count);
        if rows(to) <= ROWS_PER_RUN {
            return (to, rows(to));
        }
        while from < to {
            let middle = from + (to - from).div_ceil(2);
            if rows(middle) <= ROWS_PER_RUN { from = middle } else { to = middle - 1 }
        }
        (from, rows(from))
    }

    /// Where the rows of the keys `from..to` are, by input; `None`: there is nothing to be asked.
    fn asked<'a>(&self, touched: &'a Touched, old: bool, from: usize, to: usize) -> Option<Vec<&'a [u32]>> {
        let positions = if old { &touched.old } else { &touched.new };
        // Nothing was there before the first epoch; a key without rows has no result.
        let nothing = positions.iter().all(|p| p.of(from, to).is_empty());
        if nothing && (!self.is_global() || old && !touched.announced) {
            return None;
        }
        Some(positions.iter().map(|p| p.of(from, to)).collect())
    }

    /// Q over the rows of the keys `from..to`; those for which it fails are set aside.
    fn answer(&self, touched: &Touched, old: bool, from: usize, to: usize, deltas: &mut Vec<Delta>, out: &mut Output) {
        let Some(positions) = self.asked(touched, old, from, to) else { return };
        let rows = self.inputs.iter().zip(positions).map(|(input, p)| input.keyed.rows.rows_at(p)).collect();
        match self.spec.query.run(rows, &self.spec.output) {
            Err(_) if to - from > 1 => {
                let middle = from + (to - from) / 2;
                self.answer(touched, old, from, middle, deltas, out);
                self.answer(touched, old, middle, to, deltas, out);
            }
            answer => say(answer, &touched.keys, old, from, deltas, out),
        }
    }

    /// The same for the key that is next, on a thread of its own.
    fn ask_aside(&self, touched: &Touched) -> Result<Receiver<[Option<Answer>; 2]>> {
        let asked = [true, false].map(|old| {
            let positions = self.asked(touched, old, touched.next, touched.next + 1)?;
            let picked = self.inputs.iter().zip(positions).map(|(input, p)| (input.keyed.rows.picker(), p.to_vec()));
            Some(picked.collect::<Vec<(Picker, Vec<u32>)>>())
        });
        let (query, output) = (self.spec.query.clone(), self.spec.output.clone());
        let (sender, receiver) = channel();
        let ask = move || {
            crate::priority::background();
            let answers = asked.map(|asked| {
                let rows = asked?.iter().map(|(rows, positions)| rows.rows_at(positions)).collect();
                Some(query.run(rows, &output))
            });
            // The view may have been dropped meanwhile.
            let _ = sender.send(answers);
        };
        std::thread::Builder::new().name("millrace-recompute".into()).stack_size(STACK_BYTES).spawn(ask)?;
        Ok(receiver)
    }

    /// What was asked aside for the key that is next; `None`: not yet.
    fn answered_aside(&mut self, touched: &Touched) -> Result<Option<[Option<Answer>; 2]>> {
        let receiver = match self.aside.take() {
            Some(receiver) => receiver,
            None => self.ask_aside(touched)?,
        };
        match receiver.try_recv() {
            Ok(answers) => Ok(Some(answers)),
            Err(TryRecvError::Empty) => {
                self.aside = Some(receiver);
                Ok(None)
            }
            Err(TryRecvError::Disconnected) => Err(Error::internal("a query that was run aside has panicked")),
        }
    }
}

/// What Q has answered for the key `key`, or for several.
fn say(answer: Answer, keys: &RecordBatch, old: bool, key: usize, deltas: &mut Vec<Delta>, out: &mut Output) {
    match answer {
        Ok(batches) => {
            let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0).map(Delta::inserts);
            deltas.extend(batches.map(|delta| if old { delta.negate() } else { delta }));
        }
        Err(error) => out.errors.push(set_aside(&error, keys, key, if old { -1 } else { 1 })),
    }
}

impl Operator for Recompute {
    fn update(&mut self, input: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            self.inputs[input].held.push(delta);
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        let mut touched = match self.open.take() {
            Some(touched) => touched,
            None => match self.open(epoch.epoch)? {
                Some(touched) => touched,
                None => return Ok(Step::Done),
            },
        };
        let (end, rows) = self.run_end(&touched);
        let mut deltas = Vec::new();
        // So many rows are of one key.
        if rows > ROWS_ASIDE.max(ROWS_PER_RUN) {
            let Some([old, new]) = self.answered_aside(&touched)? else {
                self.open = Some(touched);
                return Ok(Step::Later);
            };
            for (answer, is_old) in [(old, true), (new, false)] {
                answer
                    .into_iter()
                    .for_each(|answer| say(answer, &touched.keys, is_old, touched.next, &mut deltas, out));
            }
        } else {
            self.answer(&touched, true, touched.next, end, &mut deltas, out);
            self.answer(&touched, false, touched.next, end, &mut deltas, out);
        }
        self.failed |= !out.errors.is_empty();
        out.deltas.extend(if has_retractions(&deltas) { consolidate(&deltas) } else { deltas });
        touched.next = end;
        if end < touched.keys.num_rows() {
            self.open = Some(touched);
            return Ok(Step::Again);
        }
        for (input, spec) in self.inputs.iter_mut().zip(&self.spec.inputs) {
            input.keyed.publish(epoch.epoch);
            match spec.lookback {
                Some(_) if self.failed => {}
                Some(lookback) => expire_behind(&mut input.keyed, &mut input.expiry, epoch, &spec.key, lookback)?,
                None => _ = expire(&mut input.keyed, &mut input.expiry, epoch),
            }
        }
        Ok(Step::Done)
    }

    fn durable(&mut self) -> Vec<&mut dyn Durable> {
        self.inputs.iter_mut().map(|input| input as &mut dyn Durable).collect()
    }
}

impl Durable for Input {
    fn save(&mut self) -> Saved {
        self.keyed.save()
    }
    fn restore(&mut self, parts: &[Vec<RecordBatch>], share: &Share) -> Result<()> {
        self.restored = true;
        self.keyed.restore(parts, share)
    }
    fn state_bytes(&self) -> usize {
        self.keyed.state_bytes()
    }
    fn fixed_bytes(&self) -> usize {
        self.keyed.fixed_bytes()
    }
    fn state_rows(&self) -> usize {
        self.keyed.state_rows()
    }
}
