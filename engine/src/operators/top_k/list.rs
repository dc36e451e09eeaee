//! What of an ordered list a bound takes.

use std::collections::HashMap;

use super::order::Prefix;
use crate::state::spill::{Spillable, StateVec};

/// What is counted, and up to where a row is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The rows after the first `skip`, at most `fetch` of them.
    Rows {
        skip: u64,
        fetch: Option<u64>,
    },
    /// The rows numbered at most so; the number is the last column of the output.
    RowNumber(u64),
    Rank(u64),
    DenseRank(u64),
}

/// A row of a list.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub prefix: Prefix,
    pub position: u32,
}

/// The first rows of a partition, in order.
pub struct List {
    pub entries: StateVec<Entry>,
    /// The rows of the partition, those behind the entries too.
    pub rows: u32,
    /// The partition's newest row, where rows are linked.
    pub head: u32,
    /// Where the input never retracts: what comes behind the last entry is not in the list.
    pub is_closed: bool,
    /// It is among what this epoch has touched.
    pub is_touched: bool,
    /// The last of the rows that are just coming to it.
    pub coming: u32,
}

impl List {
    pub fn new() -> List {
        let entries = StateVec::new_in(Spillable);
        List { entries, rows: 0, head: u32::MAX, is_closed: false, is_touched: false, coming: u32::MAX }
    }
    /// There are no rows behind the entries.
    pub fn is_whole(&self) -> bool {
        self.entries.len() == self.rows as usize
    }
}

/// A row of the result, and its number (0 where none is asked for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub position: u32,
    pub number: u32,
}

/// How far the entries reach.
pub struct Reach {
    /// The result follows from the first so many.
    pub used: usize,
    /// No row behind the entries can be in the result.
    pub is_closed: bool,
    /// The same, if there are rows behind them already, whose order may be that of the last entry.
    pub is_enough: bool,
}

impl Bound {
    pub fn numbers(self) -> bool {
        !matches!(self, Bound::Rows { .. })
    }

    /// Whether rows of one order share a number.
    pub fn has_peers(self) -> bool {
        matches!(self, Bound::Rank(_) | Bound::DenseRank(_))
    }

    /// So many entries are enough, or more where rows have peers; `None`: all.
    pub fn needs(self) -> Option<usize> {
        let count = match self {
            Bound::Rows { fetch: None, .. } => return None,
            Bound::Rows { skip, fetch: Some(fetch) } => skip.saturating_add(fetch),
            Bound::RowNumber(last) => last,
            Bound::Rank(last) | Bound::DenseRank(last) => last.saturating_add(1),
        };
        Some(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The result's lines, of `entries` and whether each is equal in the order to the one before it (asked only where that
    /// counts).
    pub fn lines(self, entries: &[Entry], is_peer: impl Fn(usize) -> bool, out: &mut Vec<Line>) -> Reach {
        let unnumbered = |entry: &Entry| Line { position: entry.position, number: 0 };
        let all = entries.len();
        match self {
            Bound::Rows { skip, .. } => {
                let end = self.needs();
                let (skip, used) = (usize::try_from(skip).unwrap_or(usize::MAX).min(all), end.unwrap_or(all).min(all));
                out.extend(entries[skip.min(used)..used].iter().map(unnumbered));
                let is_closed = end.is_some_and(|end| all >= end);
                Reach { used, is_closed, is_enough: is_closed }
            }
            Bound::RowNumber(last) => {
                let used = usize::try_from(last).unwrap_or(usize::MAX).min(all);
                let numbered = entries[..used].iter().zip(1..);
                out.extend(numbered.map(|(entry, number)| Line { position: entry.position, number }));
                let is_closed = used as u64 == last;
                Reach { used, is_closed, is_enough: is_closed }
            }
            Bound::Rank(last) | Bound::DenseRank(last) => {
                let (mut used, mut rank, mut dense) = (0, 0, 0);
                for (i, entry) in entries.iter().enumerate() {
                    if i == 0 || !is_peer(i) {
                        rank = i as u32 + 1;
                        dense += 1;
                    }
                    let number = if matches!(self, Bound::Rank(_)) { rank } else { dense };
                    if u64::from(number) > last {
                        break;
                    }
                    used = i + 1;
                    out.push(Line { position: entry.position, number });
                }
                // The next one that is no peer of the last would have this number, or a greater one.
                let next = if matches!(self, Bound::Rank(_)) { used as u64 + 1 } else { u64::from(dense) + 1 };
                Reach { used, is_closed: used < all || next > last, is_enough: used < all }
            }
        }
    }
}

/// Says what must be done to `old` to make it `new`: lines with their weights. Lines of both come in one order.
pub fn changes(old: &[Line], new: &[Line], out: &mut Vec<(Line, i64)>) {
    // What both begin with stays; mostly that is nearly all of a long list.
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same..], &new[same..]);
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[..old.len() - same], &new[..new.len() - same]);
    const FEW: usize = 16;
    let before: HashMap<u32, u32> = match old.len().min(new.len()) {
        ..FEW => HashMap::new(),
        _ => old.iter().map(|line| (line.position, line.number)).collect(),
    };
    let after: HashMap<u32, u32> = match before.is_empty() {
        true => HashMap::new(),
        false => new.iter().map(|line| (line.position, line.number)).collect(),
    };
    let is_in = |line: &Line, lines: &[Line], by_position: &HashMap<u32, u32>| match before.is_empty() {
        true => lines.contains(line),
        false => by_position.get(&line.position) == Some(&line.number),
    };
    out.extend(old.iter().filter(|line| !is_in(line, new, &after)).map(|line| (*line, -1)));
    out.extend(new.iter().filter(|line| !is_in(line, old, &before)).map(|line| (*line, 1)));
}
