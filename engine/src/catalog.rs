//! What exists: relations and their SQL. A [`Catalog`] is an immutable picture; a change makes a new
//! one. Ids are never reused.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::time::TimeBound;

pub type RelationId = u32;

/// User objects' ids start here (so that they can serve as Postgres OIDs as they are).
pub const FIRST_USER_ID: RelationId = 16384;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelationKind {
    /// Append-only, its log retained.
    Stream,
    /// INSERT, UPDATE, DELETE.
    Table,
    /// A stored query, inlined where it is used.
    View,
    MaterializedView,
    /// Pushes a relation's changes out; holds no rows.
    Sink,
}

impl RelationKind {
    /// As in messages and command tags: `stream`, `table`, `view`, `materialized view`, `sink`.
    pub fn word(self) -> &'static str {
        match self {
            RelationKind::Stream => "stream",
            RelationKind::Table => "table",
            RelationKind::View => "view",
            RelationKind::MaterializedView => "materialized view",
            RelationKind::Sink => "sink",
        }
    }
}

/// A column: an Arrow field, whose metadata names the SQL type where Arrow alone does not (see
/// [`crate::sql::types`]), and the SQL text of its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// SQL type as text, e.g. `numeric(12,2)`, `timestamp with time zone`, `integer[]`.
    pub sql_type: String,
    pub nullable: bool,
    pub default: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watermark {
    /// Index of the event-time column.
    pub column: usize,
    pub delay_us: i64,
    /// A source (or partition of it) that has been silent for so long no longer holds the watermark back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<i64>,
    /// A row further ahead of the clock than this does not move the watermark.
    #[serde(default = "max_future_us")]
    pub max_future_us: i64,
    #[serde(default)]
    pub late: LateRows,
}

fn max_future_us() -> i64 {
    Watermark::MAX_FUTURE_US
}

impl Watermark {
    /// Unless the stream says otherwise: one hour.
    pub const MAX_FUTURE_US: i64 = 3_600_000_000;
}

/// What becomes of rows that come after the watermark has passed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LateRows {
    /// Counted only.
    #[default]
    Drop,
    /// Kept under this id, with the watermark that they missed, to be seen in `mr_late_rows`.
    Keep(RelationId),
    /// Rows as any other: then the watermark promises nothing.
    Update,
    /// Rows of another stream or table with the same columns.
    Into(RelationId),
}

/// From where on a view takes in a stream: of the rows of the epochs after `after` those of offset `offset` and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamStart {
    pub after: u64,
    /// What earlier versions said instead of `offset`: the rows to leave out, of the first epoch after `after`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// How often rows had been taken out of the stream by then; 0 when none of those after `after`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compactions: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl StreamStart {
    /// All rows of the epochs after `after`.
    pub fn after(after: u64) -> StreamStart {
        StreamStart { after, ..StreamStart::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub id: RelationId,
    /// `public` unless said otherwise.
    pub schema_name: String,
    pub name: String,
    pub kind: RelationKind,
    pub columns: Vec<Column>,
    /// Indices into `columns`; empty when there is none.
    pub primary_key: Vec<usize>,
    /// Columns by which its rows are looked up besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Index>,
    /// The statement that made it, as written.
    pub sql: String,
    /// The query of a view, materialized view or sink.
    pub query: Option<String>,
    pub options: BTreeMap<String, String>,
    pub watermark: Option<Watermark>,
    /// The relations that its query names, directly.
    pub depends_on: Vec<RelationId>,
    /// Session settings under which the query was bound.
    pub time_zone: String,
    /// Schemas in which its query's names are looked up, in order; empty means `public`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search_path: Vec<String>,
    /// The streams that a materialized view takes in from a later row than the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub starts: BTreeMap<RelationId, StreamStart>,
    /// What watermarks promise of a materialized view's columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<TimeBound>,
    /// Of a view: the columns by which its rows are dealt to workers, mostly those of its GROUP BY; rows are looked up by
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dealt_by: Vec<usize>,
    pub owner: String,
    pub comment: Option<String>,
    pub column_comments: BTreeMap<usize, String>,
    #[serde(skip)]
    pub schema: OnceSchema,
}

/// What CREATE INDEX made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub id: RelationId,
    pub name: String,
    /// Indices into the relation's columns.
    pub columns: Vec<usize>,
}

/// The Arrow schema, made from `columns` when first asked for.
#[derive(Debug, Clone, Default)]
pub struct OnceSchema(std::sync::OnceLock<SchemaRef>);
impl PartialEq for OnceSchema {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Relation {
    pub fn arrow_schema(&self) -> SchemaRef {
        self.schema
            .0
            .get_or_init(|| {
                let fields: Vec<Field> = self
                    .columns
                    .iter()
                    .map(|c| {
                        crate::sql::types::field(&c.name, &c.sql_type, c.nullable)
                            .expect("checked when the relation was made")
                    })
                    .collect();
                Arc::new(Schema::new(fields))
            })
            .clone()
    }
    /// Where its query's names are looked up.
    pub fn names_in(&self) -> Vec<String> {
        if self.search_path.is_empty() { vec!["public".into()] } else { self.search_path.clone() }
    }
    /// Streams never retract.
    pub fn append_only(&self) -> bool {
        self.kind == RelationKind::Stream
    }
}

/// All relations at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub relations: BTreeMap<RelationId, Arc<Relation>>,
    /// Names of schemas besides `public`, with their ids.
    pub schemas: BTreeMap<String, u32>,
}

impl Catalog {
    pub fn get(&self, id: RelationId) -> Option<&Arc<Relation>> {
        self.relations.get(&id)
    }
    /// Whether rows are logged under this id: a relation's, or those of the late rows that a stream keeps.
    pub fn has_log(&self, id: RelationId) -> bool {
        let keeps = |r: &Arc<Relation>| r.watermark.as_ref().is_some_and(|w| w.late == LateRows::Keep(id));
        self.relations.contains_key(&id) || self.relations.values().any(keeps)
    }
    pub fn find(&self, schema_name: &str, name: &str) -> Option<&Arc<Relation>> {
        self.relations.values().find(|r| r.name == name && r.schema_name == schema_name)
    }
    /// Relations whose query names `id`, directly.
    pub fn dependants(&self, id: RelationId) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values().filter(move |r| r.depends_on.contains(&id))
    }
}
