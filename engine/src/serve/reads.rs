//! What a transaction has read, so that its snapshot can move on: as long as nothing of it has changed, all that the
//! transaction has seen is what it would have seen had it begun later.
//!
//! ```text
//!   SELECT … WHERE id = 1        key 1 of accounts       somebody changes account 2: nothing of it has changed
//!   … WHERE owner = 'ada'        under that condition    somebody changes one of bob's: nothing of it has changed
//!   SELECT sum(balance) …        all of accounts         somebody changes account 2: it has
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use datafusion::physical_plan::PhysicalExpr;

use crate::catalog::RelationId;
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::delta::keys::KeyEncoder;
use crate::error::Result;
use crate::state::arrangement::Pin;
use crate::state::segment_index::Wanted;
use crate::time::Epoch;

/// More keys, or conditions, of a relation are taken for all of it.
const KEYS_MAX: usize = 10_000;
const CONDITIONS_MAX: usize = 100;

#[derive(Debug)]
enum Read {
    Whole,
    Some(Vec<Part>),
}

/// Of a relation the rows
#[derive(Debug)]
enum Part {
    /// whose columns have one of these hashes,
    Keys(Vec<usize>, HashSet<u64>),
    /// or that fulfil this.
    Condition(Arc<dyn PhysicalExpr>),
}

/// What has been read of each relation.
#[derive(Debug, Default)]
pub struct Reads(HashMap<RelationId, Read>);

impl Reads {
    pub fn relations(&self) -> impl Iterator<Item = RelationId> + '_ {
        self.0.keys().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn all_of(&mut self, relation: RelationId) {
        self.0.insert(relation, Read::Whole);
    }

    pub fn key_of(&mut self, relation: RelationId, wanted: &Wanted) {
        self.add(relation, Part::Keys(wanted.columns.clone(), HashSet::from([wanted.hash])));
    }

    pub fn under(&mut self, relation: RelationId, condition: Arc<dyn PhysicalExpr>) {
        self.add(relation, Part::Condition(condition));
    }

    fn add(&mut self, relation: RelationId, part: Part) {
        let read = self.0.entry(relation).or_insert_with(|| Read::Some(Vec::new()));
        let Read::Some(parts) = read else { return };
        match part {
            Part::Keys(columns, hashes) => {
                let known = parts.iter_mut().find_map(|part| match part {
                    Part::Keys(of, known) if *of == columns => Some(known),
                    _ => None,
                });
                match known {
                    Some(known) => {
                        known.extend(hashes);
                        if known.len() > KEYS_MAX {
                            *read = Read::Whole;
                        }
                    }
                    None => parts.push(Part::Keys(columns, hashes)),
                }
            }
            condition if parts.len() < CONDITIONS_MAX => parts.push(condition),
            _ => *read = Read::Whole,
        }
    }

    /// Adds what another one has, and empties that.
    pub fn append(&mut self, other: &mut Reads) {
        for (relation, read) in other.0.drain() {
            match read {
                Read::Whole => self.all_of(relation),
                Read::Some(parts) => parts.into_iter().for_each(|part| self.add(relation, part)),
            }
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether one of the changes of a relation, since its epoch that is pinned, may be.
    pub fn may_see_since(&self, relation: RelationId, pin: &Pin, through: Epoch) -> Result<bool> {
        let changes = pin.changes(through);
        let changes = if changes.iter().any(|delta| delta.weights.is_some()) { consolidate(&changes) } else { changes };
        for change in &changes {
            if self.may_see(relation, change)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a change of a relation may be one of what was read.
    pub fn may_see(&self, relation: RelationId, change: &Delta) -> Result<bool> {
        let parts = match self.0.get(&relation) {
            _ if change.is_empty() => return Ok(false),
            None => return Ok(false),
            Some(Read::Whole) => return Ok(true),
            Some(Read::Some(parts)) => parts,
        };
        for part in parts {
            let sees = match part {
                Part::Keys(columns, hashes) => {
                    let values: Vec<ArrayRef> = columns.iter().map(|&c| change.rows.column(c).clone()).collect();
                    let types: Vec<_> = values.iter().map(|v| v.data_type().clone()).collect();
                    let encoded = KeyEncoder::new(&types)?.encode_rows(&values, change.len());
                    encoded.hashes.iter().any(|hash| hashes.contains(hash))
                }
                // What fails for a row had better not be left out.
                Part::Condition(condition) => {
                    let holds = condition.evaluate(&change.rows).and_then(|holds| holds.into_array(change.len()));
                    let holds = holds.ok();
                    let holds = holds.as_ref().and_then(|holds| holds.as_boolean_opt());
                    holds.is_none_or(|holds| holds.true_count() > 0)
                }
            };
            if sees {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::DataType;

    use super::*;
    use crate::delta::text::{parse, schema};

    fn wanted(column: usize, key: i64) -> Wanted {
        let key: ArrayRef = Arc::new(Int64Array::from(vec![key]));
        let encoder = KeyEncoder::new(&[DataType::Int64]).unwrap();
        Wanted { columns: vec![column], hash: encoder.encode_rows(&[key], 1).hashes[0] }
    }

    #[test]
    fn changes_of_what_was_read() {
        let mut reads = Reads::default();
        reads.key_of(1, &wanted(0, 5));
        let mut more = Reads::default();
        more.key_of(1, &wanted(1, 7));
        more.all_of(2);
        reads.append(&mut more);
        assert!(more.is_empty() && !reads.is_empty());
        let schema = schema("a: Int64, b: Int64");
        let sees = |relation, text: &str| reads.may_see(relation, &parse(&schema, text)).unwrap();
        assert!(sees(1, "-1 | 5 | 1\n+1 | 5 | 2"));
        assert!(sees(1, "+1 | 6 | 7"));
        assert!(!sees(1, "+1 | 7 | 5"));
        assert!(sees(2, "+1 | 7 | 5"));
        assert!(!sees(3, "+1 | 5 | 7"));
    }
}
