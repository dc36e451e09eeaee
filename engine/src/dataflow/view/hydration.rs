//! How a view is filled: from its sources as of one epoch, then from what has changed since, piece by piece, until it joins
//! the live ones.
//!
//! Streams are read and decoded by a thread beside the worker: a chunk takes several milliseconds, in which no live view of
//! this worker would go on. It works in the background at first, so that short streams are there soon whatever else goes on;
//! then when nobody else does, but not only then: while others take all processors, a view would never be filled. So where it
//! is starved, another thread reads on, in the background again for a while.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::{Mode, Sources, Span, View, WAITING_ROWS_MAX, of_columns, share_of};
use crate::catalog::{RelationId, StreamStart};
use crate::dataflow::packet::Packet;
use crate::dataflow::render::Import;
use crate::delta::Delta;
use crate::delta::keys::KeyEncoder;
use crate::error::{Error, Result};
use crate::priority;
use crate::state::arrangement::Pin;
use crate::time::Epoch;

/// Rows that a hydrating view is fed at a time: a millisecond's work or so.
const HYDRATION_ROWS: usize = 8192;

/// Who reads leaves the processors to all others after this.
const BACKGROUND_AT_FIRST: Duration = Duration::from_millis(200);
/// Who reads on for one that was starved, after this.
const BACKGROUND_AGAIN: Duration = Duration::from_secs(1);

/// What comes next.
pub(super) enum Fed {
    /// Of an import, its columns.
    Rows(usize, Delta),
    /// The worker is woken when there is more.
    NotYet,
}

pub(super) type Feed = Box<dyn Iterator<Item = Result<Fed>>>;

/// How far a view has come.
pub(super) struct Hydration {
    /// Tables and views among the sources, kept readable as of `fed`.
    pub(super) pins: BTreeMap<RelationId, Pin>,
    /// Everything up to here has been fed (or is being fed, while `feed` is there).
    pub(super) fed: Epoch,
    pub(super) feed: Option<Feed>,
    /// Nothing has been fed yet.
    pub(super) first: bool,
    /// Epochs below this are closed.
    pub(super) closed_below: Epoch,
    /// The epoch to catch up to, the same on all workers: they cut a stream's log into the same batches.
    pub(super) target: Option<Epoch>,
    /// It is live after the target.
    pub(super) join: bool,
}

impl View {
    pub(super) fn hydrate(&mut self, sources: &dyn Sources) -> bool {
        let Mode::Hydrating(mut h) = std::mem::replace(&mut self.mode, Mode::Failed) else {
            unreachable!("asked only then")
        };
        let mut progress = false;
        let reached = |sources: &dyn Sources, ids: &[RelationId]| {
            ids.iter().filter_map(|&s| sources.view_open(s)).fold(sources.processed() + 1, Epoch::min)
        };
        loop {
            if let Some(feed) = &mut h.feed {
                // Of this epoch, or of an earlier one. Before it begins here, what waits may be of a worker that is further.
                if self.context.waiting_rows.get() > WAITING_ROWS_MAX {
                    break;
                }
                match feed.next() {
                    Some(Ok(Fed::Rows(import, delta))) => {
                        progress = true;
                        self.send_imported(import, delta);
                        self.imports[import].handle.flush();
                        break;
                    }
                    Some(Ok(Fed::NotYet)) => break,
                    Some(Err(error)) => {
                        self.context.fail(error);
                        return true;
                    }
                    None => {
                        h.feed = None;
                        progress = true;
                        self.advance_inputs(h.fed + 1);
                        self.open.push_back(Span { first: h.fed, last: h.fed });
                        continue;
                    }
                }
            }
            // What has been fed must be closed before more is.
            if !h.first && !self.open.is_empty() {
                break;
            }
            if !h.first {
                h.closed_below = h.fed + 1;
                self.my_status().hydrated.store(h.fed + 1, Ordering::Release);
                if h.join && h.target == Some(h.fed) {
                    let first_open = self.pending.front().map_or(Epoch::MAX, |span| span.first);
                    self.my_status().first_open.store(first_open, Ordering::Release);
                    self.my_status().live_from.store(h.fed, Ordering::Release);
                    self.my_status().live.store(true, Ordering::Release);
                    self.mode = Mode::Live;
                    return true;
                }
            }
            let reached = reached(sources, &self.sources);
            if h.first {
                if reached <= h.fed {
                    break;
                }
                h.first = false;
                // Not before: rows that other workers send may meet what is arranged here.
                self.advance_inputs(h.fed);
                for (handle, rows) in &mut self.constants {
                    if let Some(delta) = rows.take().filter(|_| self.worker == 0) {
                        handle.send(Packet { worker: 0, delta });
                        handle.flush();
                    }
                }
                h.feed = Some(self.snapshot_feed(&h, sources));
                continue;
            }
            let Some(target) = h.target.filter(|&t| t > h.fed && reached > t) else { break };
            h.feed = Some(self.changes_feed(&mut h, target, sources));
            h.fed = target;
            self.context.fed.borrow_mut().insert(target);
            self.advance_inputs(target);
        }
        self.mode = Mode::Hydrating(h);
        progress
    }

    /// The sources as of `h.fed`, import by import.
    fn snapshot_feed(&self, h: &Hydration, sources: &dyn Sources) -> Feed {
        let through = h.fed;
        let mut feeds: Vec<Feed> = Vec::new();
        // What is arranged is there already.
        for (i, import) in self.imports.iter().enumerate().filter(|(_, import)| !import.arranged) {
            let relation = import.relation;
            match h.pins.get(&relation) {
                Some(pin) => {
                    let (own, picture) = (self.own_part(import, sources), pin.picture());
                    let rows = (0..picture.segments()).filter_map(move |s| own(Delta::inserts(picture.batch(s)?)));
                    feeds.push(Box::new(rows.map(move |rows| Ok(Fed::Rows(i, rows)))));
                }
                None => {
                    let start = self.options.starts.get(&relation).copied().unwrap_or_default();
                    feeds.push(self.stream_feed(i, start, through, sources));
                }
            }
        }
        Box::new(feeds.into_iter().flatten().flat_map(pieces))
    }

    /// The net changes of the sources after `h.fed` up to `target`; the pins move along.
    fn changes_feed(&self, h: &mut Hydration, target: Epoch, sources: &dyn Sources) -> Feed {
        let after = h.fed;
        let mut feeds: Vec<Feed> = Vec::new();
        for (i, import) in self.imports.iter().enumerate() {
            let relation = import.relation;
            match h.pins.get(&relation) {
                Some(pin) => {
                    let changes = pin.changes(target).into_iter().filter_map(self.own_part(import, sources));
                    feeds.push(Box::new(changes.map(move |rows| Ok(Fed::Rows(i, rows)))));
                }
                None => {
                    let start = self.options.starts.get(&relation).copied().unwrap_or_default();
                    // Recovery fills a view as of an epoch that may be before its start.
                    let start = if after > start.after { StreamStart::after(after) } else { start };
                    feeds.push(self.stream_feed(i, start, target, sources));
                }
            }
        }
        for pin in h.pins.values_mut() {
            pin.advance(target);
        }
        Box::new(feeds.into_iter().flatten().flat_map(pieces))
    }

    /// This worker's part of a stream's log up to an epoch, the columns that are imported.
    fn stream_feed(&self, import: usize, start: StreamStart, through: Epoch, sources: &dyn Sources) -> Feed {
        let Import { relation, columns, .. } = &self.imports[import];
        let store = sources.store();
        let first = match store.first_offset(*relation, start) {
            Ok(first) => first,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let rows = store.stream_rows(*relation, start.after, through, Some(columns.clone()));
        let batches = rows.dealt(self.worker, self.workers).from_offset(first);
        let mut reader = Reader { batches: Some(Box::new(batches)), running: None };
        Box::new(std::iter::from_fn(move || {
            Some(match reader.next()? {
                Ok(Some(rows)) => Ok(Fed::Rows(import, Delta::inserts(rows))),
                Ok(None) => Ok(Fed::NotYet),
                Err(error) => Err(error),
            })
        }))
    }

    /// This worker's part of what a table or view gives, the columns that are imported: all that the view has here, a
    /// table's rows by their key.
    fn own_part(&self, import: &Import, sources: &dyn Sources) -> impl Fn(Delta) -> Option<Delta> + use<> {
        let is_view = sources.view_open(import.relation).is_some();
        let table_key = self.table_keys.get(&import.relation);
        let table_key = table_key
            .map(|(encoder, key)| (KeyEncoder::new(encoder.types()).expect("the same types as before"), key.clone()));
        let (worker, workers, columns) = (self.worker, self.workers, import.columns.clone());
        move |delta| {
            let own = match is_view {
                true => Some(delta),
                false => share_of(table_key.as_ref(), &delta, 0, worker, workers),
            };
            own.map(|own| of_columns(own, &columns))
        }
    }
}

/// What is fed at a time: between two of them the live views on this worker have their turn.
fn pieces(fed: Result<Fed>) -> impl Iterator<Item = Result<Fed>> {
    let (piece, other) = match fed {
        Ok(Fed::Rows(import, delta)) => (Some((import, delta)), None),
        other => (None, Some(other)),
    };
    let pieces = piece.into_iter().flat_map(|(import, delta)| {
        (0..delta.len())
            .step_by(HYDRATION_ROWS)
            .map(move |from| Ok(Fed::Rows(import, delta.slice(from, HYDRATION_ROWS.min(delta.len() - from)))))
    });
    pieces.chain(other)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Reads ahead, on a thread of its own from the first time that it is asked.
struct Reader {
    /// Until then.
    batches: Option<Batches>,
    running: Option<(Receiver<Read>, JoinHandle<()>)>,
}

/// What the thread sends.
enum Read {
    Rows(Result<RecordBatch>),
    /// It was starved of processors, and has ended: another one reads on.
    Starved(Batches),
    End,
}

impl Reader {
    /// `Ok(None)`: not yet.
    fn next(&mut self) -> Option<Result<Option<RecordBatch>>> {
        if let Some(batches) = self.batches.take()
            && let Err(error) = self.start(batches, BACKGROUND_AT_FIRST)
        {
            return Some(Err(error));
        }
        let (receiver, _) = self.running.as_ref()?;
        let last = match receiver.try_recv() {
            Err(TryRecvError::Empty) => return Some(Ok(None)),
            Ok(Read::Rows(Ok(rows))) => return Some(Ok(Some(rows))),
            Ok(Read::Starved(batches)) => {
                self.end();
                return Some(self.start(batches, BACKGROUND_AGAIN).map(|()| None));
            }
            Ok(Read::Rows(Err(error))) => Some(Err(error)),
            Ok(Read::End) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::internal("reading a stream's log has panicked"))),
        };
        self.end();
        last
    }

    fn start(&mut self, batches: Batches, background: Duration) -> Result<()> {
        // One is being read while another waits.
        let (sender, receiver) = sync_channel(1);
        let worker = std::thread::current();
        let read = move || {
            read(batches, background, |read| {
                let sent = sender.send(read);
                worker.unpark();
                sent.is_ok()
            });
        };
        let thread = std::thread::Builder::new().name("millrace-hydrate".into()).spawn(read)?;
        self.running = Some((receiver, thread));
        Ok(())
    }

    /// Waits for the thread: it holds the store.
    fn end(&mut self) {
        if let Some((receiver, thread)) = self.running.take() {
            drop(receiver);
            // Had it panicked, that would have been seen where its rows were missing.
            let _ = thread.join();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends what there is, until nobody wants it any more; for so long in the background, then idle.
fn read(mut batches: Batches, background: Duration, send: impl Fn(Read) -> bool) {
    priority::background();
    let (started, mut is_idle) = (Instant::now(), false);
    loop {
        let (began, worked) = (Instant::now(), priority::worked());
        let Some(rows) = batches.next() else {
            send(Read::End);
            return;
        };
        let is_starved = is_idle && priority::is_starved(began.elapsed(), priority::worked() - worked);
        let is_last = rows.is_err();
        if !send(Read::Rows(rows)) || is_last {
            return;
        }
        if is_starved {
            send(Read::Starved(batches));
            return;
        }
        if !is_idle && started.elapsed() >= background {
            priority::idle();
            is_idle = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    /// Whoever waits for its rows as long as this had no processor.
    const STARVED: Duration = Duration::from_millis(60);

    fn batches(waits: [Duration; 5]) -> Batches {
        let batch = |(i, wait): (i64, Duration)| {
            std::thread::sleep(wait);
            Ok(RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from(vec![i])) as _)]).unwrap())
        };
        Box::new((0..).zip(waits).map(batch))
    }

    /// What a reader gives, and how often another thread read on.
    fn read_all(batches: Batches) -> (Vec<i64>, usize) {
        let mut reader = Reader { batches: Some(batches), running: None };
        let (mut all, mut threads) = (Vec::new(), Vec::new());
        while let Some(read) = reader.next() {
            match read.unwrap() {
                Some(rows) => all.push(rows.column(0).as_primitive::<Int64Type>().value(0)),
                None => std::thread::park_timeout(Duration::from_secs(1)),
            }
            threads.extend(reader.running.as_ref().map(|(_, thread)| thread.thread().id()));
            threads.dedup();
        }
        assert!(reader.running.is_none() && reader.next().is_none());
        (all, threads.len() - 1)
    }

    #[test]
    fn who_is_starved_hands_over() {
        let (quick, long) = (Duration::ZERO, BACKGROUND_AT_FIRST);
        assert_eq!(read_all(batches([long, STARVED, quick, STARVED, quick])), (vec![0, 1, 2, 3, 4], 1));
        assert_eq!(read_all(batches([long, quick, quick, quick, STARVED])), (vec![0, 1, 2, 3, 4], 1));
        assert_eq!(read_all(batches([long, STARVED, BACKGROUND_AGAIN, STARVED, quick])), (vec![0, 1, 2, 3, 4], 2));
        // In the background it is not looked at.
        assert_eq!(read_all(batches([STARVED, quick, STARVED, quick, quick])), (vec![0, 1, 2, 3, 4], 0));
    }

    #[test]
    fn errors_and_panics_end_it() {
        let error = |i: i64| if i < 2 { Err(Error::internal("no")) } else { panic!("asked after its end") };
        let mut reader = Reader { batches: Some(Box::new((1..).map(error))), running: None };
        let mut read = || loop {
            match reader.next() {
                Some(Ok(None)) => std::thread::yield_now(),
                other => return other,
            }
        };
        assert_eq!(read().unwrap().unwrap_err().message, "no");
        assert!(read().is_none());
    }
}
