//! Numbers for columns that count their rows (`serial`, GENERATED … AS IDENTITY).
//!
//! Numbers are handed out from memory, out of runs that were reserved before. To reserve a run is to log, with a sync, the
//! number that comes after it: so none is given twice, whatever ends the process, and after a `kill -9` those of a run
//! that were left are skipped. Runs begin at 32 numbers and double up to 4,096, or are as long as one statement wants.
//!
//! ```text
//!   INSERT ×3   hand 1 2 3        logged: sequence/16390 = 33      in memory: 4..32
//!   kill -9     hand 33 34 …      logged: sequence/16390 = 65
//! ```
//!
//! The mark is moved on the commit thread alone ([`Sequences::reserve`] runs within an edit of the catalog). Between
//! that and the requester's taking of its run the sequence may be set anew: then the run is of an earlier generation, and
//! dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;

use crate::catalog::{Identity, RelationId};
use crate::error::{Error, Result};

const RUN_MIN: u64 = 32;
const RUN_MAX: u64 = 4096;
/// In the store's settings, with the sequence's id: the next number that no run has.
const KEY: &str = "sequence/";

/// Consecutive numbers of a sequence, reserved and not handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    next: i64,
    /// At least one.
    left: u64,
    generation: u64,
}

#[derive(Default)]
struct State {
    /// The next number to be reserved; `None` before the first. Beyond the bounds when all are used up.
    mark: Option<i128>,
    /// Counts how often it was set anew.
    generation: u64,
    runs: VecDeque<Run>,
    /// How long the last run was.
    length: u64,
}

/// All sequences of an engine.
#[derive(Default)]
pub struct Sequences(Mutex<HashMap<RelationId, State>>);

impl Sequences {
    /// As the store's settings have them.
    pub fn load(&self, settings: &BTreeMap<String, String>) -> Result<()> {
        let mut states = self.0.lock().expect("no panic while held");
        for (key, value) in settings {
            let Some(id) = key.strip_prefix(KEY) else { continue };
            let damaged = || Error::corrupt(format!("the stored setting {key} is no number: {value}"));
            let id: RelationId = id.parse().map_err(|_| damaged())?;
            let mark = value.parse().map_err(|_| damaged())?;
            states.insert(id, State { mark: Some(mark), ..State::default() });
        }
        Ok(())
    }

    /// Hands out up to `wanted` numbers that are reserved.
    pub fn take(&self, sequence: &Identity, wanted: usize, out: &mut Vec<i64>) {
        let mut states = self.0.lock().expect("no panic while held");
        let state = states.entry(sequence.id).or_default();
        let end = out.len() + wanted;
        while out.len() < end {
            let Some(run) = state.runs.front_mut() else { return };
            out.push(run.next);
            run.left -= 1;
            match run.left {
                0 => _ = state.runs.pop_front(),
                _ => run.next += sequence.increment,
            }
        }
    }

    /// Reserves a run, of `wanted` numbers if there are as many before the sequence ends or begins anew. Returns it with the
    /// setting to be logged; once that is, the run may be [given](Self::give).
    pub fn reserve(&self, sequence: &Identity, wanted: usize) -> Result<(Run, String)> {
        let mut states = self.0.lock().expect("no panic while held");
        let state = states.entry(sequence.id).or_default();
        state.length = (state.length * 2).clamp(RUN_MIN, RUN_MAX);
        let length = state.length.max(wanted as u64);
        let mark = state.mark.unwrap_or(i128::from(sequence.start));
        let (run, mark) = run_from(sequence, mark, length, state.generation)?;
        state.mark = Some(mark);
        Ok((run, mark.to_string()))
    }

    /// A run that was reserved, and logged, may be handed out.
    pub fn give(&self, id: RelationId, run: Run) {
        if let Some(state) = self.0.lock().expect("no panic while held").get_mut(&id)
            && state.generation == run.generation
        {
            state.runs.push_back(run);
        }
    }

    /// From here on the next number is `next`. Returns the setting to be logged.
    pub fn set(&self, id: RelationId, next: i128) -> String {
        let mut states = self.0.lock().expect("no panic while held");
        let state = states.entry(id).or_default();
        *state = State { mark: Some(next), generation: state.generation + 1, ..State::default() };
        next.to_string()
    }

    /// What is left of the last run goes back: in order ended processes leave no gap. Returns the setting to be logged.
    pub fn give_back(&self, sequence: &Identity) -> Option<String> {
        let mut states = self.0.lock().expect("no panic while held");
        let state = states.get_mut(&sequence.id)?;
        // Several runs may lie apart; the last one ends where the mark is, unless the sequence began anew there.
        let last = state.runs.pop_back()?;
        let end = i128::from(last.next) + i128::from(last.left) * i128::from(sequence.increment);
        let mark = if state.mark == Some(end) { i128::from(last.next) } else { return None };
        state.mark = Some(mark);
        Some(mark.to_string())
    }

    pub fn forget(&self, id: RelationId) {
        self.0.lock().expect("no panic while held").remove(&id);
    }

    /// The number that was handed out last, as far as memory knows: what is before the next one.
    pub fn last(&self, sequence: &Identity) -> Option<i64> {
        let states = self.0.lock().expect("no panic while held");
        let state = states.get(&sequence.id)?;
        let next = state.runs.front().map(|run| i128::from(run.next)).or(state.mark)?;
        let last = next - i128::from(sequence.increment);
        let first = i128::from(sequence.start);
        let begun = if sequence.increment > 0 { last >= first } else { last <= first };
        i64::try_from(last).ok().filter(|_| begun || (sequence.min..=sequence.max).contains(&(last as i64)))
    }
}

/// Where a sequence's mark is stored.
pub fn setting(id: RelationId) -> String {
    format!("{KEY}{id}")
}

/// Up to `length` numbers from `mark` on, and the mark after them.
fn run_from(sequence: &Identity, mark: i128, length: u64, generation: u64) -> Result<(Run, i128)> {
    let step = i128::from(sequence.increment);
    let (min, max) = (i128::from(sequence.min), i128::from(sequence.max));
    let beyond = if step > 0 { mark > max } else { mark < min };
    let first = match beyond {
        false => mark,
        true if sequence.cycle => {
            if step > 0 {
                min
            } else {
                max
            }
        }
        true => {
            let (word, bound) = if step > 0 { ("maximum", max) } else { ("minimum", min) };
            let message = format!("nextval: reached {word} value of sequence \"{}\" ({bound})", sequence.name);
            return Err(Error::new("2200H", message));
        }
    };
    let room = if step > 0 { (max - first) / step } else { (first - min) / -step } + 1;
    let left = room.min(i128::from(length));
    let next = i64::try_from(first).expect("within the sequence's bounds");
    Ok((Run { next, left: left as u64, generation }, first + left * step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::IdentityKind;

    fn sequence(start: i64, increment: i64, min: i64, max: i64, cycle: bool) -> Identity {
        Identity { kind: IdentityKind::Serial, id: 1, name: "s".into(), start, increment, min, max, cycle }
    }

    fn next(all: &Sequences, sequence: &Identity, n: usize) -> Result<Vec<i64>> {
        let mut out = Vec::new();
        loop {
            all.take(sequence, n - out.len(), &mut out);
            if out.len() == n {
                return Ok(out);
            }
            let (run, _) = all.reserve(sequence, n - out.len())?;
            all.give(sequence.id, run);
        }
    }

    #[test]
    fn numbers_follow_one_another_to_the_end() {
        let all = Sequences::default();
        let s = sequence(5, 3, 1, 14, false);
        assert_eq!(next(&all, &s, 4).unwrap(), [5, 8, 11, 14]);
        assert_eq!(next(&all, &s, 1).unwrap_err().code, "2200H");
        let all = Sequences::default();
        let s = sequence(3, -1, 1, 3, true);
        assert_eq!(next(&all, &s, 7).unwrap(), [3, 2, 1, 3, 2, 1, 3]);
        let all = Sequences::default();
        let s = sequence(i64::MAX - 1, 2, 1, i64::MAX, false);
        assert_eq!(next(&all, &s, 1).unwrap(), [i64::MAX - 1]);
        assert_eq!(next(&all, &s, 1).unwrap_err().code, "2200H");
    }

    #[test]
    fn what_was_logged_is_not_given_again() {
        let all = Sequences::default();
        let s = sequence(1, 1, 1, 1000, false);
        let (run, logged) = all.reserve(&s, 1).unwrap();
        all.give(1, run);
        assert_eq!(next(&all, &s, 3).unwrap(), [1, 2, 3]);
        let after = Sequences::default();
        after.load(&[(setting(1), logged)].into()).unwrap();
        assert_eq!(next(&after, &s, 1).unwrap(), [33]);
        // An orderly end gives back what is left.
        let logged = all.give_back(&s).unwrap();
        let after = Sequences::default();
        after.load(&[(setting(1), logged)].into()).unwrap();
        assert_eq!(next(&after, &s, 1).unwrap(), [4]);
    }

    #[test]
    fn a_run_of_before_it_was_set_anew_is_dropped() {
        let all = Sequences::default();
        let s = sequence(1, 1, 1, 1000, false);
        let (run, _) = all.reserve(&s, 1).unwrap();
        all.set(1, 500);
        all.give(1, run);
        assert_eq!(next(&all, &s, 2).unwrap(), [500, 501]);
        assert_eq!(all.last(&s), Some(501));
    }
}
