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
//! State: the inputs, arranged by key. Cost: two runs of Q over all rows of the touched keys, per epoch, some keys at a
//! time; of a key with very many rows on a thread of their own, so that other views need not wait. What a run takes is not
//! state but cannot leave memory, and is counted as such; of what has been said in an epoch much goes to the file.
//!
//! A key for which Q fails alone is set aside until it does not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::evaluate::set_aside;
use super::expiry::{EXPIRY_ROWS_MIN, Expiry, Lookback, expire, expire_behind};
use super::{ErrorChange, Operator, Output, Port, Step};
use crate::delta::Delta;
use crate::delta::consolidate::{consolidate, has_retractions};
use crate::delta::keys::KeyBatch;
use crate::error::{Error, Result};
use crate::state::arrangement::{Picker, split_weights, take};
use crate::state::durable::{Durable, Saved, Share};
use crate::state::key_table::KeyTable;
use crate::state::keyed_rows::{KeyedRows, Walk};
use crate::state::spill::{Passing, Spillable, StateVec, passing_bytes_max};
use crate::time::{EpochHeader, TimeBound};

mod query;
pub use query::{Fed, Query};

/// Rows that are looked at in one run, if there are several keys: fewer where they are wide for the memory that there is.
const ROWS_PER_RUN: usize = 1 << 15;
/// So few need not be measured.
const ROWS_FEW: usize = 1 << 10;

/// Rows of one key that are more than that are not looked at by the worker itself.
const ROWS_ASIDE: usize = 1 << 16;
/// Rows that are taken in, or found, between two chances for others to run.
const ROWS_PER_STEP: usize = 1 << 14;
/// How many times its rows a run of Q takes: beside them they are put in order, and are part of two answers.
const COPIES_PER_RUN: usize = 4;
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
    passing: Passing,
    /// Taken from a checkpoint, and so after the first epoch.
    restored: bool,
    /// What a run on a thread of its own takes.
    aside_bytes: usize,
}

pub struct Recompute {
    spec: RecomputeSpec,
    key_schema: SchemaRef,
    inputs: Vec<Input>,
    /// What Q answers over nothing has been said.
    announced: bool,
    /// An epoch that is being finished.
    open: Option<Touched>,
    /// What Q says of the key that is next.
    aside: Option<Receiver<Said>>,
    /// Q has failed for some key. It would not over fewer rows: they all stay.
    failed: bool,
}

type Answer = datafusion::common::Result<Vec<RecordBatch>>;

/// The keys that an epoch touched, and where their rows were and are.
struct Touched {
    keys: RecordBatch,
    encoded: KeyBatch,
    /// What is left of the epoch's changes, by input.
    changes: VecDeque<(Port, Delta)>,
    stage: Stage,
    /// By input.
    old: Vec<Walk>,
    new: Vec<Walk>,
    /// Q's answer over nothing has been part of the result.
    announced: bool,
    /// Keys before this one are done.
    next: usize,
    /// Those up to here are being asked about.
    end: usize,
    /// What has been said of those before.
    passing: Passing,
    rows_per_run: usize,
}

/// What is done with the touched keys, in this order.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Their rows before the epoch are found.
    FindOld,
    /// The epoch's changes are taken in.
    TakeIn,
    /// Their rows after it are found.
    FindNew,
    Answer,
}

/// What Q says of some keys.
#[derive(Default)]
struct Said {
    deltas: Vec<Delta>,
    errors: Vec<ErrorChange>,
}

impl Said {
    /// What Q has answered for the key `key`, or for several.
    fn say(&mut self, answer: Answer, keys: &RecordBatch, old: bool, key: usize) {
        match answer {
            Ok(batches) => {
                let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0).map(Delta::inserts);
                self.deltas.extend(batches.map(|delta| if old { delta.negate() } else { delta }));
            }
            Err(error) => self.errors.push(set_aside(&error, keys, key, if old { -1 } else { 1 })),
        }
    }

    fn consolidated(mut self) -> Said {
        if has_retractions(&self.deltas) {
            self.deltas = consolidate(&self.deltas);
        }
        self
    }
}

impl Recompute {
    pub fn new(spec: RecomputeSpec) -> Result<Recompute> {
        let inputs = spec.inputs.iter().map(|input| {
            let keyed = KeyedRows::new(&input.schema, &input.key, !input.append_only, false)?;
            let expiry = input.expiry.as_ref().map(|bound| Expiry::new(bound, EXPIRY_ROWS_MIN));
            Ok(Input { keyed, expiry, held: Vec::new(), passing: Passing::default(), restored: false, aside_bytes: 0 })
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
    fn open(&mut self) -> Result<Option<Touched>> {
        let types: Vec<DataType> = self.key_schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let mut touched = KeyTable::new(&types)?;
        let mut ids = Vec::new();
        self.announced |= self.inputs.iter().any(|input| input.restored);
        let announce = self.is_global() && self.spec.owner && !self.announced;
        if announce {
            touched.intern(&touched.encoder().encode_rows(&[], 1), &mut ids);
        }
        let mut changes = VecDeque::new();
        for (port, (input, spec)) in self.inputs.iter_mut().zip(&self.spec.inputs).enumerate() {
            input.passing = Passing::default();
            let held = std::mem::take(&mut input.held);
            let held = if has_retractions(&held) { consolidate(&held) } else { held };
            for delta in held.iter().filter(|delta| !delta.is_empty()) {
                let columns: Vec<ArrayRef> = spec.key.iter().map(|&c| delta.rows.column(c).clone()).collect();
                touched.intern(&touched.encoder().encode_rows(&columns, delta.len()), &mut ids);
                let pieces = (0..delta.len()).step_by(ROWS_PER_STEP);
                changes.extend(pieces.map(|at| (port, delta.slice(at, ROWS_PER_STEP.min(delta.len() - at)))));
            }
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
        let announced = std::mem::replace(&mut self.announced, true);
        let old = self.walks(&keys);
        Ok(Some(Touched {
            keys: key_rows,
            encoded: keys,
            changes,
            stage: Stage::FindOld,
            old,
            new: Vec::new(),
            announced,
            next: 0,
            end: 0,
            passing: Passing::default(),
            rows_per_run: ROWS_PER_RUN,
        }))
    }

    /// The next step towards where the touched rows were and are.
    fn prepare(&mut self, touched: &mut Touched, epoch: u64, budget: &mut usize) -> Result<()> {
        touched.stage = match touched.stage {
            Stage::FindOld if self.find(&mut touched.old, budget) => Stage::TakeIn,
            Stage::TakeIn => match touched.changes.pop_front() {
                Some((port, delta)) => {
                    *budget = budget.saturating_sub(delta.len());
                    self.inputs[port].take_in(&delta, epoch)?;
                    Stage::TakeIn
                }
                None => {
                    touched.new = self.walks(&touched.encoded);
                    Stage::FindNew
                }
            },
            Stage::FindNew if self.find(&mut touched.new, budget) => {
                touched.rows_per_run = self.rows_per_run(touched);
                Stage::Answer
            }
            stage => stage,
        };
        Ok(())
    }

    fn walks(&mut self, keys: &KeyBatch) -> Vec<Walk> {
        self.inputs.iter_mut().map(|input| input.keyed.walk(keys)).collect()
    }

    /// Goes on with each input's walk; true when all are at their end.
    fn find(&self, walks: &mut [Walk], budget: &mut usize) -> bool {
        self.inputs.iter().zip(walks).all(|(input, walk)| input.keyed.go_on(walk, budget))
    }

    fn rows_per_run(&self, touched: &Touched) -> usize {
        let count = touched.keys.num_rows();
        if touched.old.iter().chain(&touched.new).map(|walk| walk.of(0, count).len()).sum::<usize>() <= ROWS_FEW {
            return ROWS_PER_RUN;
        }
        (passing_bytes_max() / COPIES_PER_RUN / self.row_bytes().max(1)).clamp(1, ROWS_PER_RUN)
    }

    /// About how many bytes a row of the inputs takes.
    fn row_bytes(&self) -> usize {
        self.inputs.iter().map(|input| input.keyed.rows.row_bytes()).max().unwrap_or(0)
    }

    /// Keys from `next` on that make one run, and their rows.
    fn run_end(&self, touched: &Touched) -> (usize, usize) {
        let count = touched.keys.num_rows();
        let rows =
            |to: usize| -> usize { touched.old.iter().chain(&touched.new).map(|p| p.of(touched.next, to).len()).sum() };
        let (mut from, mut to) = (touched.next + 1, count);
        if rows(to) <= touched.rows_per_run {
            return (to, rows(to));
        }
        while from < to {
            let middle = from + (to - from).div_ceil(2);
            if rows(middle) <= touched.rows_per_run { from = middle } else { to = middle - 1 }
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
    fn answer(&self, touched: &Touched, old: bool, from: usize, to: usize, said: &mut Said) {
        let Some(positions) = self.asked(touched, old, from, to) else { return };
        let rows = self.inputs.iter().zip(positions).map(|(input, p)| input.keyed.rows.rows_at(p)).collect();
        match self.spec.query.run(rows, &self.spec.output) {
            Err(_) if to - from > 1 => {
                let middle = from + (to - from) / 2;
                self.answer(touched, old, from, middle, said);
                self.answer(touched, old, middle, to, said);
            }
            answer => said.say(answer, &touched.keys, old, from),
        }
    }

    /// The same for the key that is next, before and after the epoch, on a thread of its own.
    fn ask_aside(&self, touched: &mut Touched) -> Result<Receiver<Said>> {
        let key = touched.keys.slice(touched.next, 1);
        let asked = [true, false].map(|old| {
            // Nobody else will ask for the rows of a key that is alone.
            if touched.keys.num_rows() == 1 && self.asked(touched, old, 0, 1).is_some() {
                let walks = if old { &mut touched.old } else { &mut touched.new };
                let taken = |walk: &mut Walk| std::mem::replace(&mut walk.positions, StateVec::new_in(Spillable));
                return Some(walks.iter_mut().map(taken).collect());
            }
            let positions = self.asked(touched, old, touched.next, touched.next + 1)?;
            let copied = positions.into_iter().map(|positions| {
                let mut copy = StateVec::with_capacity_in(positions.len(), Spillable);
                copy.extend_from_slice(positions);
                copy
            });
            Some(copied.collect::<Vec<StateVec<u32>>>())
        });
        let pickers: Vec<Picker> = self.inputs.iter().map(|input| input.keyed.rows.picker()).collect();
        let (query, output) = (self.spec.query.clone(), self.spec.output.clone());
        let (sender, receiver) = channel();
        let ask = move || {
            crate::priority::background();
            let mut said = Said::default();
            for (positions, old) in asked.into_iter().zip([true, false]) {
                let Some(positions) = positions else { continue };
                let rows = pickers.iter().zip(positions).map(|(rows, positions)| rows.rows_at(&positions)).collect();
                said.say(query.run(rows, &output), &key, old, 0);
            }
            // The view may have been dropped meanwhile.
            let _ = sender.send(said.consolidated());
        };
        std::thread::Builder::new().name("millrace-recompute".into()).stack_size(STACK_BYTES).spawn(ask)?;
        Ok(receiver)
    }
}

impl Input {
    fn take_in(&mut self, delta: &Delta, epoch: u64) -> Result<()> {
        let Some(weights) = &delta.weights else {
            let keys = self.keyed.keys(&delta.rows);
            self.keyed.append(&delta.rows, &keys);
            return Ok(());
        };
        let (plus, minus) = split_weights(weights);
        let plus = take(&delta.rows, &plus);
        let keys = self.keyed.keys(&plus);
        self.keyed.append(&plus, &keys);
        if !minus.is_empty() {
            let minus = take(&delta.rows, &minus);
            let keys = self.keyed.keys(&minus);
            self.keyed.retract(&minus, &keys, epoch)?;
        }
        Ok(())
    }
}

impl Operator for Recompute {
    fn update(&mut self, input: Port, delta: Delta, _: &mut Output) -> Result<Step> {
        if !delta.is_empty() {
            let Input { held, passing, .. } = &mut self.inputs[input];
            held.push(delta.map_rows(|rows| passing.take(rows)));
        }
        Ok(Step::Done)
    }

    fn finish_epoch(&mut self, epoch: &EpochHeader, out: &mut Output) -> Result<Step> {
        let mut touched = match self.open.take() {
            Some(touched) => touched,
            None => match self.open()? {
                Some(touched) => touched,
                None => return Ok(Step::Done),
            },
        };
        let mut budget = ROWS_PER_STEP;
        while touched.stage != Stage::Answer {
            if budget == 0 {
                self.open = Some(touched);
                return Ok(Step::Again);
            }
            self.prepare(&mut touched, epoch.epoch, &mut budget)?;
        }
        if self.aside.is_none() {
            let (end, rows) = self.run_end(&touched);
            touched.end = end;
            if rows > ROWS_ASIDE.max(ROWS_PER_RUN) {
                // So many rows are of one key.
                self.inputs[0].aside_bytes = rows * self.row_bytes() * COPIES_PER_RUN / 2;
                self.aside = Some(self.ask_aside(&mut touched)?);
            }
        }
        let said = match self.aside.take() {
            None => {
                let mut said = Said::default();
                self.answer(&touched, true, touched.next, touched.end, &mut said);
                self.answer(&touched, false, touched.next, touched.end, &mut said);
                said.consolidated()
            }
            Some(receiver) => match receiver.try_recv() {
                Ok(said) => {
                    self.inputs[0].aside_bytes = 0;
                    said
                }
                Err(TryRecvError::Empty) => {
                    (self.aside, self.open) = (Some(receiver), Some(touched));
                    return Ok(Step::Later);
                }
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::internal("a query that was run aside has panicked"));
                }
            },
        };
        self.failed |= !said.errors.is_empty();
        out.errors.extend(said.errors);
        let passing = &mut touched.passing;
        out.deltas.extend(said.deltas.into_iter().map(|said| Delta::new(passing.take(said.rows), said.weights)));
        touched.next = touched.end;
        if touched.next < touched.keys.num_rows() {
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
        self.keyed.fixed_bytes() + self.aside_bytes
    }
    fn state_rows(&self) -> usize {
        self.keyed.state_rows()
    }
}
