//! The incremental plan: nodes in dependency order, every choice already made.
//!
//! [`lower`] makes it of DataFusion's optimized logical plan; `dataflow::render` makes a dataflow of it, one
//! match without conditions; [`explain`] prints it. It knows nothing of Timely, of workers or of state.

pub mod arranged;
pub mod event_time;
pub mod explain;
pub mod keys;
pub mod lower;
pub mod order;
pub mod share;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::catalog::RelationId;
use crate::operators::aggregate::AggregateSpec;
use crate::operators::as_of::AsOfSpec;
use crate::operators::join::JoinSpec;
use crate::operators::map::MapStep;
use crate::operators::recompute::RecomputeSpec;
use crate::operators::session::SessionSpec;
use crate::operators::temporal::{Condition, TemporalSpec};
use crate::operators::top_k::TopKSpec;
use crate::operators::unnest::UnnestSpec;
use crate::time::TimeBound;

#[derive(Clone, Debug)]
pub struct Plan {
    /// Inputs come before their users; the last one is the result. A node may have several users.
    pub nodes: Vec<Node>,
    /// The columns of the result by whose hash its rows are dealt to workers; `None`: as they come
    /// (append-only results only).
    pub output_key: Option<Vec<usize>>,
    /// What watermarks promise of the result.
    pub bounds: Vec<TimeBound>,
    /// Unique keys of the result.
    pub keys: Vec<keys::Key>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: NodeKind,
    pub inputs: Vec<usize>,
    pub schema: SchemaRef,
    /// Never retracts.
    pub append_only: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// The changes of a relation, these columns of it.
    Import {
        relation: RelationId,
        name: String,
        columns: Vec<usize>,
    },
    /// The changes of an arrangement's rows, these columns of them. The join that is its only kind of user reads the rows
    /// themselves there.
    Arranged {
        arrangement: RelationId,
        /// What it is called: `users by id`.
        name: String,
        columns: Vec<usize>,
    },
    /// Rows that were always there.
    Constant(RecordBatch),
    Map(Vec<MapStep>),
    Unnest(UnnestSpec),
    /// To the worker that owns the hash of these columns.
    Exchange {
        key: Vec<usize>,
    },
    Join(Box<JoinSpec>),
    AsOf(Box<AsOfSpec>),
    Aggregate(Box<AggregateSpec>),
    TopK(Box<TopKSpec>),
    Session(Box<SessionSpec>),
    Recompute(Box<RecomputeSpec>),
    Temporal(Box<TemporalSpec>),
    Union,
}

impl Plan {
    pub fn output(&self) -> &Node {
        self.nodes.last().expect("a plan has a node")
    }
    pub fn imports(&self) -> Vec<RelationId> {
        let mut ids: Vec<RelationId> = self
            .nodes
            .iter()
            .filter_map(|n| match n.kind {
                NodeKind::Import { relation, .. } => Some(relation),
                NodeKind::Arranged { arrangement, .. } => Some(arrangement),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
    /// Its result changes as time passes.
    pub fn reads_clock(&self) -> bool {
        let by_clock = |node: &Node| match &node.kind {
            NodeKind::Temporal(spec) => matches!(spec.condition, Condition::Clock { .. }),
            _ => false,
        };
        self.nodes.iter().any(by_clock)
    }
    /// Its rows depend on what there was when others came.
    pub fn looks_up(&self) -> bool {
        self.nodes.iter().any(|node| matches!(&node.kind, NodeKind::Join(spec) if spec.kind.is_lookup()))
    }
    /// Equal for plans whose state is interchangeable.
    pub fn fingerprint(&self) -> u64 {
        use std::hash::{BuildHasher, Hash, Hasher};
        let mut hasher = foldhash::quality::FixedState::with_seed(1).build_hasher();
        explain::explain(self).hash(&mut hasher);
        for node in &self.nodes {
            for field in node.schema.fields() {
                field.data_type().to_string().hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}
