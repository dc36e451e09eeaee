//! Arrangements that several views read: the rows of a table or view by some of its columns, kept once.
//!
//! ```text
//!   CREATE TABLE users (id … PRIMARY KEY, …)     orders JOIN users ON users.id = orders.buyer     Arranged users by id ◄─┐
//!                                                visits JOIN users ON users.id = visits.visitor   Arranged users by id ◄─┴─ one
//! ```
//!
//! An arrangement is a relation of its own, with a plan of its own. It is offered to joins on the primary key of a table
//! and on the columns of indexes of tables and views; it is made with the first view that reads it and goes with the last one.

use std::collections::BTreeSet;

use super::{Node, NodeKind, Plan};
use crate::catalog::{Relation, RelationId};

/// An arrangement that is there, or will be if a plan reads it.
#[derive(Debug, Clone)]
pub struct Offer {
    pub id: RelationId,
    pub table: RelationId,
    /// Columns of the table, in the order of the arrangement's key.
    pub key: Vec<usize>,
}

/// What a plan may read.
#[derive(Debug, Clone, Default)]
pub struct Offers(pub Vec<Offer>);

impl Offers {
    /// The table's rows by just these columns, in whatever order.
    pub fn find(&self, table: RelationId, key: &[usize]) -> Option<&Offer> {
        let wanted: BTreeSet<&usize> = key.iter().collect();
        let same = |offer: &&Offer| {
            offer.table == table && offer.key.len() == key.len() && offer.key.iter().collect::<BTreeSet<_>>() == wanted
        };
        (wanted.len() == key.len()).then(|| self.0.iter().find(same)).flatten()
    }
}

/// The plan of the arrangement of `table` by the columns `key`: all its columns.
pub fn plan(table: &Relation, key: &[usize]) -> Plan {
    let schema = super::lower::relax(&table.arrow_schema());
    let columns = (0..schema.fields().len()).collect();
    let import = NodeKind::Import { relation: table.id, name: table.name.clone(), columns };
    let exchange = NodeKind::Exchange { key: key.to_vec() };
    let node = |kind, inputs| Node { kind, inputs, schema: schema.clone(), append_only: false };
    Plan {
        nodes: vec![node(import, vec![]), node(exchange, vec![0])],
        output_key: Some(key.to_vec()),
        bounds: Vec::new(),
        keys: Vec::new(),
    }
}
