//! Unique keys: sets of columns in which no two rows of a node are equal. They follow from tables' primary keys, from
//! GROUP BY and from top-k lists; a DISTINCT of rows that are distinct already keeps no state.
//!
//! ```text
//!   Import t (id, v)                    (id)
//!   Aggregate by k: sum(v)              (k)
//!   Inner join of t and u on t.k = u.id (the keys of t, since a row of t meets one row of u at most)
//! ```

use std::collections::BTreeMap;

use datafusion::physical_expr::expressions::Column;

use super::{Node, NodeKind, Plan};
use crate::catalog::RelationId;
use crate::operators::join::{JoinKind, JoinSpec};
use crate::operators::map::MapStep;
use crate::operators::top_k::Bound;

/// A set of columns, rising. The empty one: there is one row at most.
pub type Key = Vec<usize>;
/// By table, the columns of its primary key.
pub type PrimaryKeys = BTreeMap<RelationId, Key>;

/// Of a node that is known by more keys, the others are forgotten.
const KEYS_MAX: usize = 8;

/// The keys of one node.
pub fn of_node(nodes: &[Node], index: usize, primary_keys: &PrimaryKeys) -> Vec<Key> {
    known(nodes, index, primary_keys, &mut BTreeMap::new())
}

/// `seen`: nodes that have been looked at. One may have several users, each of which asks.
fn known(nodes: &[Node], index: usize, primary_keys: &PrimaryKeys, seen: &mut BTreeMap<usize, Vec<Key>>) -> Vec<Key> {
    if let Some(keys) = seen.get(&index) {
        return keys.clone();
    }
    let keys = minimal(of_kind(nodes, index, primary_keys, seen));
    seen.insert(index, keys.clone());
    keys
}

fn of_kind(nodes: &[Node], index: usize, primary_keys: &PrimaryKeys, seen: &mut BTreeMap<usize, Vec<Key>>) -> Vec<Key> {
    let node = &nodes[index];
    let mut input = |port: usize| known(nodes, node.inputs[port], primary_keys, seen);
    match &node.kind {
        NodeKind::Import { relation, columns, .. } | NodeKind::Arranged { arrangement: relation, columns, .. } => {
            let key = primary_keys.get(relation).filter(|key| !key.is_empty());
            let placed = |key: &Key| key.iter().map(|k| columns.iter().position(|c| c == k)).collect::<Option<Key>>();
            key.and_then(placed).into_iter().collect()
        }
        NodeKind::Constant(rows) if rows.num_rows() <= 1 => vec![vec![]],
        NodeKind::Map(steps) => steps.iter().fold(input(0), |keys, step| through(keys, step)),
        NodeKind::Exchange { .. } | NodeKind::Temporal(_) | NodeKind::AsOf(_) => input(0),
        NodeKind::Join(spec) => of_join(spec, [input(0), input(1)]),
        NodeKind::Aggregate(spec) => vec![(0..spec.group.len()).collect()],
        NodeKind::TopK(spec) => {
            let mut keys = input(0);
            match spec.bound {
                Bound::Rows { fetch: Some(1), .. } | Bound::RowNumber(1) => keys.push(spec.partition.clone()),
                Bound::RowNumber(_) => {
                    keys.push(spec.partition.iter().copied().chain([spec.input.fields().len()]).collect());
                }
                Bound::Rows { .. } | Bound::Rank(_) | Bound::DenseRank(_) => {}
            }
            keys
        }
        NodeKind::Constant(_)
        | NodeKind::Unnest(_)
        | NodeKind::Session(_)
        | NodeKind::Recompute(_)
        | NodeKind::Union => vec![],
    }
}

/// Without keys that hold another one.
fn minimal(mut keys: Vec<Key>) -> Vec<Key> {
    for key in &mut keys {
        key.sort_unstable();
        key.dedup();
    }
    keys.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let mut least: Vec<Key> = Vec::new();
    for key in keys {
        // What holds a key is one too, and says nothing new.
        if !least.iter().any(|known| known.iter().all(|column| key.contains(column))) {
            least.push(key);
        }
    }
    least.truncate(KEYS_MAX);
    least
}

/// Those of the result, by their columns' names.
pub fn of_result(plan: &Plan) -> Vec<Vec<&str>> {
    let names = |key: &Key| key.iter().map(|&c| plan.output().schema.field(c).name().as_str()).collect();
    plan.keys.iter().map(names).collect()
}

/// What becomes of keys by a step that drops, moves or computes columns.
fn through(keys: Vec<Key>, step: &MapStep) -> Vec<Key> {
    let place = |column: usize| match step {
        MapStep::Filter(_) => Some(column),
        // Equal rows are one row with a weight, of the same meaning.
        MapStep::Merge => Some(column),
        MapStep::Select(columns, _) => columns.iter().position(|c| *c == column),
        MapStep::Project(computed, _) => {
            computed.iter().position(|e| e.downcast_ref::<Column>().is_some_and(|c| c.index() == column))
        }
    };
    keys.into_iter().filter_map(|key| key.into_iter().map(place).collect()).collect()
}

fn of_join(spec: &JoinSpec, keys: [Vec<Key>; 2]) -> Vec<Key> {
    use JoinKind::*;
    let width = spec.sides[0].schema.fields().len();
    let [left, right] = keys;
    // Whether a row of the other side meets one row of this one at most.
    let is_one =
        |keys: &[Key], side: usize| keys.iter().any(|key| key.iter().all(|c| spec.sides[side].key.contains(c)));
    let moved = |keys: &[Key]| -> Vec<Key> { keys.iter().map(|key| key.iter().map(|c| c + width).collect()).collect() };
    match spec.kind {
        LeftSemi | LeftAnti | LeftMark => left,
        RightSemi | RightAnti | RightMark => right,
        Inner | Left | Right | Lookup | LeftLookup => {
            let mut all = Vec::new();
            let (ones, left_whole, right_whole) =
                ([is_one(&left, 0), is_one(&right, 1)], spec.kind != Right, matches!(spec.kind, Inner | Right));
            // Rows without a match have NULL in the other side's columns, more than one perhaps.
            if ones[1] && left_whole {
                all.extend(left.iter().cloned());
            }
            if ones[0] && right_whole {
                all.extend(moved(&right));
            }
            for key in &left {
                all.extend(moved(&right).into_iter().map(|other| key.iter().copied().chain(other).collect()));
            }
            all
        }
        Full => vec![],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::operators::join::SideSpec;

    #[test]
    fn keys_of_joins() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]));
        let of = |kind, keys: [&[&[usize]]; 2]| {
            let side =
                |key| SideSpec { schema: schema.clone(), key: vec![key], append_only: false, expiry: None, kept: None };
            let spec = JoinSpec {
                kind,
                sides: [side(1), side(0)],
                nulls_equal: false,
                filter: None,
                filter_columns: vec![],
                output: schema.clone(),
            };
            of_join(&spec, keys.map(|keys| keys.iter().map(|key| key.to_vec()).collect()))
        };
        // l.b = r.a, l.a and r.a unique: a row of the left meets one of the right at most, not the other way round.
        assert_eq!(of(JoinKind::Inner, [&[&[0]], &[&[0]]]), [vec![0], vec![0, 2]]);
        assert_eq!(of(JoinKind::Left, [&[&[0]], &[&[0]]]), [vec![0], vec![0, 2]]);
        assert_eq!(of(JoinKind::Right, [&[&[0]], &[&[0]]]), [vec![0, 2]]);
        assert_eq!(of(JoinKind::Full, [&[&[0]], &[&[0]]]), Vec::<Key>::new());
        assert_eq!(of(JoinKind::Inner, [&[&[0]], &[&[1]]]), [vec![0, 3]]);
        assert_eq!(of(JoinKind::Right, [&[&[1]], &[&[1]]]), [vec![3], vec![1, 3]]);
        assert_eq!(of(JoinKind::LeftSemi, [&[&[0]], &[]]), [vec![0]]);
    }
}
