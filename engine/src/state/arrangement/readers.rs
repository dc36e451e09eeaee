//! What readers see of an arrangement: pictures of epochs, and the changes between two of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::segment::Segment;
use crate::delta::Delta;
use crate::state::segment_index::Wanted;
use crate::state::spill::is_in_file;
use crate::time::Epoch;

/// What readers see of an arrangement.
pub struct Shared {
    pub(super) schema: SchemaRef,
    pub(super) state: Mutex<State>,
    /// Epochs that someone still wants to read, with a count each.
    pub(super) pins: Mutex<BTreeMap<Epoch, usize>>,
}

pub(super) struct State {
    pub(super) segments: Vec<Arc<Segment>>,
    /// (epoch, positions after it), rising; the first entry is the horizon's.
    pub(super) births: VecDeque<(Epoch, u32)>,
    /// (epoch, the row that died as (segment's first position at that time, position)), rising, after the horizon.
    pub(super) deaths: VecDeque<(Epoch, u32)>,
    /// Pictures of epochs before this one can no longer be had.
    pub(super) horizon: Epoch,
    /// The last published epoch.
    pub(super) closed: Epoch,
    pub(super) live_rows: u64,
}

/// What readers see of an arrangement, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub live_rows: u64,
    /// Dead rows that someone can still see.
    pub kept_rows: u64,
    pub segments: u64,
    /// Of rows in memory, dead ones included, without indexes.
    pub bytes: u64,
    /// Of those in the file.
    pub file_bytes: u64,
    /// The oldest epoch that can be read.
    pub horizon: Epoch,
    pub closed: Epoch,
}

/// Keeps an epoch readable for as long as it lives.
pub struct Pin {
    shared: Arc<Shared>,
    epoch: Epoch,
}

impl Pin {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// The rows as of the pinned epoch, which must be closed.
    pub fn picture(&self) -> Picture {
        self.shared.picture(self.epoch)
    }
    /// The net change after the pinned epoch up to `through`, which must be closed.
    pub fn changes(&self, through: Epoch) -> Vec<Delta> {
        self.shared.changes(self.epoch, through)
    }
    pub fn reader(&self) -> &Arc<Shared> {
        &self.shared
    }
    /// Rows that are dead, and kept because of this pin, and perhaps of later ones: none while there is an older one.
    pub fn kept_rows(&self) -> u64 {
        let oldest = self.shared.pins.lock().expect("no panic while held").keys().next().copied();
        if oldest < Some(self.epoch) {
            return 0;
        }
        let state = self.shared.state.lock().expect("no panic while held");
        (state.deaths.len() - state.deaths.partition_point(|death| death.0 <= self.epoch)) as u64
    }
    /// Pins a later epoch instead.
    pub fn advance(&mut self, epoch: Epoch) {
        assert!(epoch >= self.epoch, "a pin moves forward");
        *self = self.shared.pin(epoch).expect("later than an epoch that is pinned");
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.lock().expect("no panic while held");
        let count = pins.get_mut(&self.epoch).expect("counted when pinned");
        *count -= 1;
        if *count == 0 {
            pins.remove(&self.epoch);
        }
    }
}

impl Shared {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Keeps `epoch` readable; `None` when it is already behind the horizon.
    pub fn pin(self: &Arc<Self>, epoch: Epoch) -> Option<Pin> {
        *self.pins.lock().expect("no panic while held").entry(epoch).or_insert(0) += 1;
        let pin = Pin { shared: self.clone(), epoch };
        // Pinned first, looked second: the writer moves the horizon only to pinned epochs or before them.
        let reachable = self.state.lock().expect("no panic while held").horizon <= epoch;
        reachable.then_some(pin)
    }

    /// The oldest epoch that can still be read.
    pub fn horizon(&self) -> Epoch {
        self.state.lock().expect("no panic while held").horizon
    }

    /// The last published epoch.
    pub fn closed(&self) -> Epoch {
        self.state.lock().expect("no panic while held").closed
    }

    pub fn live_rows(&self) -> u64 {
        self.state.lock().expect("no panic while held").live_rows
    }

    pub fn size(&self) -> Size {
        let state = self.state.lock().expect("no panic while held");
        let bytes = |in_file| {
            let segments = state.segments.iter().filter(|segment| is_in_file(&segment.rows) == in_file);
            segments.map(|segment| segment.bytes as u64).sum()
        };
        Size {
            live_rows: state.live_rows,
            kept_rows: state.deaths.len() as u64,
            segments: state.segments.len() as u64,
            bytes: bytes(false),
            file_bytes: bytes(true),
            horizon: state.horizon,
            closed: state.closed,
        }
    }

    fn picture(&self, epoch: Epoch) -> Picture {
        let state = self.state.lock().expect("no panic while held");
        let end = births_end(&state.births, epoch);
        let used = state.segments.partition_point(|s| s.first < end);
        Picture { segments: state.segments[..used].to_vec(), end, epoch }
    }

    fn changes(&self, after: Epoch, through: Epoch) -> Vec<Delta> {
        let (segments, from, to, dead) = {
            let state = self.state.lock().expect("no panic while held");
            let (from, to) = (births_end(&state.births, after), births_end(&state.births, through));
            let first = state.segments.partition_point(|s| s.end() <= from);
            let last = state.segments.partition_point(|s| s.first < to);
            let mut dead: Vec<u32> = Vec::new();
            for &(epoch, position) in &state.deaths {
                if epoch > after && epoch <= through && position < from {
                    dead.push(position);
                }
            }
            let born = if first < last { state.segments[first..last].to_vec() } else { Vec::new() };
            let mut lookup: Vec<(Arc<Segment>, Vec<u32>)> = Vec::new();
            dead.sort_unstable();
            for position in dead {
                match lookup.last_mut() {
                    Some((s, rows)) if position < s.end() => rows.push(position - s.first),
                    _ => {
                        let s = &state.segments[state.segments.partition_point(|s| s.end() <= position)];
                        lookup.push((s.clone(), vec![position - s.first]));
                    }
                }
            }
            (born, from, to, lookup)
        };
        let mut out = Vec::new();
        for (segment, rows) in dead {
            let taken =
                arrow::compute::take_record_batch(&segment.rows, &UInt32Array::from(rows)).expect("positions are rows");
            out.push(Delta::retractions(taken));
        }
        for segment in segments {
            let skip = from.saturating_sub(segment.first) as usize;
            if let Some(rows) = segment.visible_from(skip, to, through) {
                out.push(Delta::inserts(rows));
            }
        }
        out
    }
}

pub(super) fn births_end(births: &VecDeque<(Epoch, u32)>, epoch: Epoch) -> u32 {
    let after = births.partition_point(|b| b.0 <= epoch);
    assert!(after > 0, "the horizon's mark stays");
    births[after - 1].1
}

/// The rows of one epoch, as a list of segments: cheap to hold, filtered as it is read.
#[derive(Clone)]
pub struct Picture {
    segments: Vec<Arc<Segment>>,
    end: u32,
    epoch: Epoch,
}

impl Picture {
    pub fn segments(&self) -> usize {
        self.segments.len()
    }
    /// The visible rows of the `i`-th segment.
    pub fn batch(&self, i: usize) -> Option<RecordBatch> {
        self.segments[i].visible(self.end, self.epoch)
    }
    /// Of the visible rows of the `i`-th segment those that may be wanted.
    pub fn found(&self, i: usize, wanted: &Wanted) -> Option<RecordBatch> {
        self.segments[i].found(self.end, self.epoch, wanted)
    }
    pub fn batches(&self) -> impl Iterator<Item = RecordBatch> + '_ {
        (0..self.segments.len()).filter_map(|i| self.batch(i))
    }
}
