//! A view's last operator: sums an epoch up when it closes, and shows it.
//!
//! ```text
//!   epoch 7   +1 | a     open: waits                        closed: -1 a +1 a is nothing, +1 b goes into the rows,
//!             -1 | a                                                 and readers may see them as of 7
//!             +1 | b
//! ```
//!
//! What an epoch brings can be as large as the view: in the epoch with which it is filled it is the view. There, and where
//! nothing is ever taken back, rows go to the others at once, unseen until the epoch closes. Elsewhere they wait, those
//! past what may be in memory in the file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Published;
use crate::dataflow::driver::{Context, Packets};
use crate::delta::Delta;
use crate::delta::consolidate::{consolidate, has_retractions};
use crate::error::Error;
use crate::state::arrangement::{split_weights, take};
use crate::state::spill::Passing;
use crate::time::Epoch;

/// Of an epoch that is open.
#[derive(Default)]
struct Waiting {
    deltas: Vec<Delta>,
    passing: Passing,
}

impl Published {
    /// Insertions go to the rows; what is to be taken out, perhaps before it has come, stays in `deltas`.
    fn take_in_at_once(&self, deltas: &mut Vec<Delta>, epoch: Epoch) {
        let mut rows = self.rows.borrow_mut();
        let mut retractions = Vec::new();
        for delta in deltas.drain(..) {
            if !has_retractions(std::slice::from_ref(&delta)) {
                rows.apply(&delta, epoch);
                continue;
            }
            let (plus, minus) = split_weights(delta.weights.as_ref().expect("it has retractions"));
            rows.apply(&Delta::inserts(take(&delta.rows, &plus)), epoch);
            retractions.push(Delta::retractions(take(&delta.rows, &minus)));
        }
        *deltas = retractions;
    }
}

pub(super) fn publish(stream: Packets<'_>, published: Rc<RefCell<Published>>, context: Rc<Context>) {
    let mut builder = OperatorBuilder::new("Publish".to_owned(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let mut waiting: BTreeMap<Epoch, Waiting> = BTreeMap::new();
    builder.build_reschedule(move |_| {
        move |frontiers| {
            input.for_each(|capability, packets| {
                let Waiting { deltas, passing } = waiting.entry(*capability.time()).or_default();
                deltas.extend(packets.drain(..).map(|packet| packet.delta.map_rows(|rows| passing.take(rows))));
            });
            let frontier = frontiers[0].frontier().first().copied().unwrap_or(Epoch::MAX);
            let mut published = published.borrow_mut();
            while let Some(entry) = waiting.first_entry() {
                let epoch = *entry.key();
                if epoch >= frontier || context.failure.borrow().is_some() {
                    break;
                }
                let deltas = entry.remove().deltas;
                // Equal rows that are not put together do no harm.
                let deltas = if has_retractions(&deltas) { consolidate(&deltas) } else { deltas };
                let mut rows = published.rows.borrow_mut();
                let missing: usize = deltas.iter().map(|d| rows.apply(d, epoch)).sum();
                if missing > 0 {
                    context.fail(Error::internal(format!("{missing} retractions of rows that the view does not have")));
                    break;
                }
                rows.publish(epoch);
                drop(rows);
                if published.keep_changes && !deltas.is_empty() {
                    published.changes.insert(epoch, Rc::new(deltas));
                }
            }
            // Nothing comes before it any more. Not what a worker that is further has sent: it might be saved here.
            if let Some(mut entry) = waiting.first_entry()
                && *entry.key() == frontier
                && frontier <= context.given()
                && context.failure.borrow().is_none()
                && !published.keep_changes
                && (published.append_only || context.start == Some(frontier))
            {
                published.take_in_at_once(&mut entry.get_mut().deltas, frontier);
            }
            published.frontier = frontier;
            false
        }
    });
}
