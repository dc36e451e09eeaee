//! How much of the past is kept, and what may be read of it.
//!
//! | of | kept | by |
//! | --- | --- | --- |
//! | a stream | all, or what `retention` and `compaction_key` say | its log, until it is trimmed or compacted |
//! | a table, a materialized view | nothing, or what `history` says | a pin on its rows, which moves along |
//! | time | the headers of all epochs whose rows are still there | the log |
//!
//! Trimming is no retraction: views keep what they have made of the rows that go. Pins are in memory, so the
//! history of tables and views begins anew with each start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::catalog::{Relation, RelationId, RelationKind};
use crate::compaction::{Compactions, Step};
use crate::connectors::options::{Retention, duration_us};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::state::arrangement::{Pin, Shared};
use crate::state::store::Gone;
use crate::time::Epoch;

/// After a checkpoint a stream is compacted for so long; what is left is for the next one.
const COMPACTION_MAX: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Past {
    kept: Mutex<BTreeMap<RelationId, Kept>>,
    /// How many of them are views with a history.
    kept_views: AtomicUsize,
    headers: Mutex<Headers>,
    compactions: Mutex<Compactions>,
}

/// What is kept of a table or view.
struct Kept {
    /// It is what it is since this epoch.
    since: Epoch,
    history_us: i64,
    is_view: bool,
    /// One per reader, at the oldest epoch of the history.
    pins: Vec<Pin>,
}

impl Kept {
    fn is_kept_view(&self) -> bool {
        self.is_view && self.history_us > 0
    }
}

#[derive(Default)]
struct Headers {
    /// After this epoch no header has been deleted.
    complete_after: Epoch,
    /// The streams that there were when headers were last looked through.
    streams: BTreeSet<RelationId>,
}

fn readers(core: &Core, id: RelationId) -> Vec<Arc<Shared>> {
    match core.table(id) {
        Some(table) => vec![table],
        None => core.view(id).map(|view| view.readers()).unwrap_or_default(),
    }
}

impl Past {
    /// At the start: `epoch` is that of the newest checkpoint.
    pub fn begin(&self, epoch: Epoch) {
        self.headers.lock().expect("no panic while held").complete_after = epoch.saturating_sub(1);
    }

    /// A table or view is there, as of `epoch`: made just now, filled anew, or recovered.
    pub fn note(&self, core: &Core, relation: &Relation, epoch: Epoch) {
        if !matches!(relation.kind, RelationKind::Table | RelationKind::MaterializedView) {
            return;
        }
        let history = relation.options.get("history").and_then(|text| duration_us("history", text).ok());
        let is_view = relation.kind == RelationKind::MaterializedView;
        let kept = Kept { since: epoch, history_us: history.unwrap_or(0), is_view, pins: Vec::new() };
        self.kept_views.fetch_add(usize::from(kept.is_kept_view()), Ordering::Relaxed);
        let before = self.kept.lock().expect("no panic while held").insert(relation.id, kept);
        self.uncount(before);
        self.pin(core, relation);
    }

    /// Keeps what there is of the past of a table or view that has a history, from now on. After a start a view is there
    /// later than noted.
    pub fn pin(&self, core: &Core, relation: &Relation) {
        let mut kept = self.kept.lock().expect("no panic while held");
        let Some(kept) = kept.get_mut(&relation.id).filter(|kept| kept.history_us > 0 && kept.pins.is_empty()) else {
            return;
        };
        let readers = readers(core, relation.id);
        let oldest = readers.iter().map(|reader| reader.horizon()).fold(kept.since, Epoch::max);
        // A view that is not on all workers yet has no past.
        if core.view(relation.id).is_none_or(|view| view.live_from().is_some()) {
            kept.pins = readers.iter().filter_map(|reader| reader.pin(oldest)).collect();
        }
    }

    /// Whether some view has a history, of which each epoch can be read.
    pub fn keeps_views(&self) -> bool {
        self.kept_views.load(Ordering::Relaxed) > 0
    }

    pub fn knows(&self, id: RelationId) -> bool {
        self.kept.lock().expect("no panic while held").contains_key(&id)
    }

    pub fn forget(&self, id: RelationId) {
        let kept = self.kept.lock().expect("no panic while held").remove(&id);
        self.uncount(kept);
    }

    fn uncount(&self, kept: Option<Kept>) {
        self.kept_views.fetch_sub(usize::from(kept.is_some_and(|kept| kept.is_kept_view())), Ordering::Relaxed);
    }

    /// The oldest epoch as of which a relation can be read.
    pub fn oldest(&self, core: &Core, relation: &Relation) -> Result<Epoch> {
        if relation.kind == RelationKind::Stream {
            let gone = core.store.gone(relation.id)?;
            return Ok(gone.trimmed.max(gone.compacted));
        }
        let since = self.kept.lock().expect("no panic while held").get(&relation.id).map_or(Epoch::MAX, |k| k.since);
        Ok(readers(core, relation.id).iter().map(|reader| reader.horizon()).fold(since, Epoch::max))
    }

    /// Whether all of `relations` can be read as of `epoch`. Errors: 22023 for an epoch that has not been, 55000 for
    /// one that is not kept any more.
    pub fn check<'a>(
        &self,
        core: &Core,
        relations: impl IntoIterator<Item = &'a Arc<Relation>>,
        epoch: Epoch,
    ) -> Result<()> {
        let last = core.committed.load(Ordering::Acquire);
        if epoch > last {
            return Err(Error::invalid_value(format!("epoch {epoch} has not been yet: the last one is {last}")));
        }
        for relation in relations {
            let oldest = self.oldest(core, relation)?;
            if epoch < oldest {
                return Err(gone(relation, &format!("epoch {epoch}"), oldest));
            }
            if relation.kind == RelationKind::MaterializedView && !core.cuts.holds(epoch) {
                return Err(Error::not_in_state(format!(
                    "materialized view \"{}\" cannot be read as of epoch {epoch}: it took that in together with later ones",
                    relation.name
                ))
                .hint("WITH (history = '1 hour') lets every epoch be read for that long."));
            }
        }
        Ok(())
    }

    /// The last epoch that was committed at a time, in microseconds since 1970-01-01 UTC, or before.
    pub fn epoch_at(&self, core: &Core, relations: &[Arc<Relation>], time_us: i64) -> Result<Epoch> {
        if time_us > core.clock_us() {
            return Err(Error::invalid_value("AS OF a time that has not been yet"));
        }
        let complete_after = self.headers.lock().expect("no panic while held").complete_after;
        let found = core.store.epoch_at(time_us)?.map(|header| header.epoch);
        match found {
            Some(epoch) if epoch >= complete_after => Ok(epoch),
            // Only epochs that touch a stream have headers as old as this.
            Some(epoch) if relations.iter().all(|r| r.kind == RelationKind::Stream) => Ok(epoch),
            _ => {
                let oldest = relations.iter().map(|r| self.oldest(core, r).map(|oldest| (oldest, r)));
                let oldest = oldest.collect::<Result<Vec<_>>>()?.into_iter().max_by_key(|(oldest, _)| *oldest);
                match oldest {
                    Some((oldest, relation)) => Err(gone(relation, "that time", oldest)),
                    None => Ok(core.committed.load(Ordering::Acquire)),
                }
            }
        }
    }

    /// Lets go of what need not be kept any longer: moves pins, trims streams, deletes headers.
    pub fn advance(&self, core: &Core) -> Result<()> {
        let mut headers = self.headers.lock().expect("no panic while held");
        let now_us = core.clock_us();
        let floor = self.move_pins(core, now_us)?;
        // What a restart would replay stays.
        let Some(checkpoint) = core.store.newest_manifest().map(|m| m.epoch) else { return Ok(()) };
        let catalog = core.catalog();
        let streams: BTreeSet<RelationId> =
            catalog.relations.values().filter(|r| r.kind == RelationKind::Stream).map(|r| r.id).collect();
        self.compactions.lock().expect("no panic while held").keep_only(&streams);
        let dropped = headers.streams.iter().any(|id| !streams.contains(id));
        let mut from = if dropped { 0 } else { headers.complete_after };
        for id in &streams {
            if let Some((before, _)) = trim(core, &catalog.relations[id], now_us, checkpoint)? {
                from = from.min(before);
            }
            if self.compact(core, &catalog.relations[id], now_us, checkpoint)? {
                from = 0;
            }
        }
        let through = checkpoint.min(floor).saturating_sub(1);
        if through > from {
            core.store.prune_headers(from, through, |header| {
                for id in header.touched.iter().filter(|id| streams.contains(id)) {
                    let gone = core.store.gone(*id)?;
                    let is_left = header.epoch > gone.trimmed
                        && (header.epoch > gone.compacted || core.store.has_rows_of(*id, header.epoch)?);
                    if is_left {
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
        }
        headers.complete_after = headers.complete_after.max(through);
        headers.streams = streams;
        Ok(())
    }

    /// Whether a run has come to its end.
    fn compact(&self, core: &Core, stream: &Relation, now_us: i64, checkpoint: Epoch) -> Result<bool> {
        let began = Instant::now();
        while began.elapsed() < COMPACTION_MAX {
            // Not held for longer: a view that is to be made of the stream waits for it.
            let mut compactions = self.compactions.lock().expect("no panic while held");
            match compactions.advance(core, stream, now_us, checkpoint)? {
                Step::More => {}
                step => return Ok(step == Step::Done),
            }
        }
        Ok(false)
    }

    /// A stream's log stays as it is until its rows have been read by a view that is being made, which
    /// [`Core::creating`] knows. What is gone of it.
    pub fn settle(&self, core: &Core, stream: RelationId) -> Result<Gone> {
        self.compactions.lock().expect("no panic while held").settle(core, stream)
    }

    /// Returns the oldest epoch that some history holds.
    fn move_pins(&self, core: &Core, now_us: i64) -> Result<Epoch> {
        let mut kept = self.kept.lock().expect("no panic while held");
        let mut floor = Epoch::MAX;
        for kept in kept.values_mut().filter(|kept| !kept.pins.is_empty()) {
            if let Some(header) = core.store.epoch_at(now_us.saturating_sub(kept.history_us))? {
                for pin in kept.pins.iter_mut().filter(|pin| pin.epoch() < header.epoch) {
                    pin.advance(header.epoch);
                }
            }
            floor = kept.pins.iter().map(Pin::epoch).fold(floor, Epoch::min);
        }
        Ok(floor)
    }
}

/// Trims one stream by its `retention`; from where to where.
fn trim(core: &Core, stream: &Relation, now_us: i64, checkpoint: Epoch) -> Result<Option<(Epoch, Epoch)>> {
    let Some(retention) = stream.options.get("retention") else { return Ok(None) };
    // A view that is being made reads all of it first.
    let read = |reads: &Vec<RelationId>| reads.contains(&stream.id);
    if core.creating.lock().expect("no panic while held").values().any(read) {
        return Ok(None);
    }
    let through = match Retention::parse(retention)? {
        Retention::All => return Ok(None),
        Retention::Age(age_us) => match core.store.epoch_at(now_us.saturating_sub(age_us))? {
            Some(header) => header.epoch,
            None => return Ok(None),
        },
        Retention::Bytes(bytes) => core.store.through_for_bytes(stream.id, bytes),
    };
    let through = through.min(checkpoint);
    let none_left = core.store.first_epoch(stream.id)?.is_none_or(|first| first > through);
    if none_left && !core.store.has_rows_to_delete(stream.id)? {
        return Ok(None);
    }
    let before = core.store.trimmed_through(stream.id)?;
    core.store.trim(stream.id, through)?;
    tracing::debug!(stream = stream.name, through, "trimmed");
    Ok(Some((before, through)))
}

fn gone(relation: &Relation, wanted: &str, oldest: Epoch) -> Error {
    let hint = match relation.kind {
        RelationKind::Stream => "Its retention and its compaction_lag say how much of its past is kept.",
        _ => "WITH (history = '1 hour') would have kept that much of its past.",
    };
    let kind = relation.kind.word();
    Error::not_in_state(format!(
        "{kind} \"{}\" cannot be read as of {wanted}: the oldest epoch kept of it is {oldest}",
        relation.name
    ))
    .hint(hint)
}
