//! Foreign keys within a transaction: each statement is checked when it has ended, against what has been committed and what the
//! transaction itself has changed, as in Postgres. Those that are deferred wait for COMMIT, which checks all of them anyway.
//!
//! ```text
//!   BEGIN; INSERT INTO orders (customer) VALUES (7)      23503 now, unless there is a customer 7
//!   SET CONSTRAINTS ALL DEFERRED                         then not before COMMIT, of keys that are DEFERRABLE
//! ```
//!
//! A key is there if its rows as committed and those that the transaction has added, less those that it has taken away, are more
//! than none. One question to the commit path tells the first of these for all keys of a statement.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::transaction::{OwnKeys, Transaction};
use super::{Outcome, Session};
use crate::catalog::{Catalog, ForeignKey, OnReferenced, ReferenceTiming, Relation, RelationId};
use crate::commit::references::{not_present, still_referenced};
use crate::commit::{Question, Request};
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::error::{Error, Result};
use crate::sql::statement::Name;
use crate::state::arrangement::take;
use crate::state::table::references::{any_null, columns_of};

/// What SET CONSTRAINTS has said in a transaction: of each foreign key, and of all of them.
#[derive(Default)]
pub(super) struct Timings {
    keys: HashMap<RelationId, bool>,
    all: Option<bool>,
}

impl Timings {
    fn is_deferred(&self, key: &ForeignKey) -> bool {
        let said = self.keys.get(&key.id).copied().or(self.all);
        match key.timing {
            ReferenceTiming::Immediate => false,
            timing => said.unwrap_or(timing == ReferenceTiming::Deferred),
        }
    }
}

/// Rows that must be so when the statement has ended.
struct Demand<'a> {
    relation: &'a Arc<Relation>,
    /// The table that refers, where it is another one's rows that have gone.
    child: Option<&'a Arc<Relation>>,
    key: &'a ForeignKey,
    rows: RecordBatch,
    /// How often the transaction has added the key of each row to the table that has it, less how often it has taken it away.
    own: Vec<i64>,
    /// The same of rows that refer to it.
    own_referring: Vec<i64>,
}

impl Session {
    /// 23503 where a statement of a transaction, which has changed these rows, leaves some without what they refer to.
    pub(super) async fn check_references(&mut self, changes: &BTreeMap<RelationId, Vec<Delta>>) -> Result<()> {
        let catalog = self.core.catalog();
        let transaction = self.transaction.as_mut().expect("only in a transaction");
        let (mut demands, mut questions) = (Vec::new(), Vec::new());
        for (id, deltas) in changes {
            let Some(relation) = catalog.get(*id) else { continue };
            let deferred = |key: &&ForeignKey| transaction.timings.is_deferred(key);
            let refers: Vec<&ForeignKey> = relation.foreign_keys.iter().filter(|key| !deferred(key)).collect();
            let referred =
                catalog.referring(*id).filter(|(_, key)| key.on_delete == OnReferenced::Restrict || !deferred(key));
            let referred: Vec<(&Arc<Relation>, &ForeignKey)> = referred.collect();
            if refers.is_empty() && referred.is_empty() {
                continue;
            }
            let net = consolidate(deltas);
            let plus = rows_of(relation, &net, |weight| weight > 0)?;
            let minus = rows_of(relation, &net, |weight| weight < 0)?;
            for key in refers {
                let rows = without_null(&plus, &key.columns);
                let Some(parent) = catalog.get(key.references).filter(|_| rows.num_rows() > 0) else { continue };
                let keys = columns_of(&rows, &key.columns);
                let own = transaction.own_keys_net(parent, &key.referenced, &keys)?;
                questions.push(Question::There { table: parent.id, columns: key.referenced.clone(), keys });
                demands.push(Demand { relation, child: None, key, rows, own, own_referring: Vec::new() });
            }
            for (child, key) in referred {
                let rows = gone_for_good(relation, &key.referenced, &minus, &plus)?;
                if rows.num_rows() == 0 {
                    continue;
                }
                let keys = columns_of(&rows, &key.referenced);
                let own = transaction.own_keys_net(relation, &key.referenced, &keys)?;
                let own_referring = transaction.own_referring_net(child, key, &keys)?;
                let gone = own_referring.iter().map(|net| u32::try_from(-net).unwrap_or(0)).collect();
                let columns = key.referenced.clone();
                questions.push(Question::There { table: relation.id, columns, keys: keys.clone() });
                questions.push(Question::Referred { child: child.id, key: key.clone(), keys, gone });
                demands.push(Demand { relation, child: Some(child), key, rows, own, own_referring });
            }
        }
        if questions.is_empty() {
            return Ok(());
        }
        let mut answers = self.core.ask(|reply| Request::Keys { questions, reply }).await?.into_iter();
        let mut next = || answers.next().expect("an answer to each question");
        for demand in &demands {
            let committed = next();
            let there = |row: usize| i64::from(committed[row]) + demand.own[row] > 0;
            let rows = 0..demand.rows.num_rows();
            match demand.child {
                None => match rows.clone().find(|&row| !there(row)) {
                    Some(row) => return Err(not_present(&catalog, demand.relation, demand.key, &demand.rows, row)),
                    None => {}
                },
                Some(child) => {
                    let referred = next();
                    let referred = |row: usize| referred[row] || demand.own_referring[row] > 0;
                    if let Some(row) = rows.clone().find(|&row| !there(row) && referred(row)) {
                        return Err(still_referenced(demand.relation, child, demand.key, &demand.rows, row));
                    }
                }
            }
        }
        Ok(())
    }

    /// SET CONSTRAINTS { ALL | name, … } { DEFERRED | IMMEDIATE }
    pub(super) async fn set_constraints(&mut self, names: &[Name], deferred: bool) -> Result<Outcome> {
        let done = Ok(Outcome::Done("SET CONSTRAINTS".into()));
        let catalog = self.core.catalog();
        let mut keys = Vec::new();
        for name in names {
            keys.push(found(&catalog, name)?);
        }
        let Some(transaction) = &mut self.transaction else {
            let message = "SET CONSTRAINTS can only be used in transaction blocks";
            self.notice("WARNING", "25P01", message.into());
            return done;
        };
        match names {
            [] => transaction.timings = Timings { keys: HashMap::new(), all: Some(deferred) },
            _ => keys.into_iter().for_each(|id| _ = transaction.timings.keys.insert(id, deferred)),
        }
        if !deferred {
            // What was put off until now.
            let changes = transaction.writes.changes.clone();
            self.check_references(&changes).await?;
        }
        done
    }
}

/// A foreign key that may be deferred, by its name.
fn found(catalog: &Catalog, name: &Name) -> Result<RelationId> {
    let in_schema = |relation: &&Arc<Relation>| name.schema.as_ref().is_none_or(|s| *s == relation.schema_name);
    let relations = catalog.relations.values().filter(in_schema);
    let mut keys = relations.flat_map(|relation| &relation.foreign_keys).filter(|key| key.name == name.name);
    match keys.next() {
        None => Err(Error::undefined_object(format!("constraint \"{}\" does not exist", name.name))),
        Some(key) if key.timing == ReferenceTiming::Immediate => {
            Err(Error::new("42809", format!("constraint \"{}\" is not deferrable", name.name)))
        }
        Some(key) => Ok(key.id),
    }
}

impl Transaction {
    /// How often it has added each of these keys to a table, less how often it has taken it away.
    fn own_keys_net(&mut self, relation: &Relation, columns: &[usize], keys: &[ArrayRef]) -> Result<Vec<i64>> {
        let rows = keys.first().map_or(0, |key| key.len());
        if !self.writes.changes.contains_key(&relation.id) {
            return Ok(vec![0; rows]);
        }
        let all = self.own_keys(relation)?;
        let same = |own: &&OwnKeys| {
            own.columns().len() == columns.len() && own.columns().iter().all(|column| columns.contains(column))
        };
        let Some(own) = all.iter().find(same) else { return Ok(vec![0; rows]) };
        let place = |column: &usize| columns.iter().position(|c| c == column).expect("the same columns");
        let keys: Vec<ArrayRef> = own.columns().iter().map(|column| keys[place(column)].clone()).collect();
        own.net_of(&keys, rows)
    }

    /// The same of rows that refer to these keys.
    fn own_referring_net(&mut self, child: &Relation, key: &ForeignKey, keys: &[ArrayRef]) -> Result<Vec<i64>> {
        let rows = keys.first().map_or(0, |key| key.len());
        let Some(changes) = self.writes.changes.get(&child.id) else { return Ok(vec![0; rows]) };
        let counted = match self.referring.entry((child.id, key.columns.clone())) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert((OwnKeys::new(child, &key.columns)?, 0)),
        };
        let (own, count) = counted;
        changes[*count..].iter().for_each(|delta| drop(own.add(delta)));
        *count = changes.len();
        own.net_of(keys, rows)
    }
}

/// Keys as values of other types, whole numbers of another width: what does not fit is NULL.
pub(super) fn of_types(keys: &[ArrayRef], types: &[DataType]) -> Result<Vec<ArrayRef>> {
    keys.iter().zip(types).map(|(key, to)| cast(key, to).map_err(Error::internal)).collect()
}

fn rows_of(relation: &Relation, deltas: &[Delta], is: fn(i64) -> bool) -> Result<RecordBatch> {
    let of = |delta: &Delta| {
        let rows: Vec<u32> = (0..delta.len()).filter(|&row| is(delta.weight(row))).map(|row| row as u32).collect();
        take(&delta.rows, &rows)
    };
    super::dml::as_batch(&relation.arrow_schema(), &deltas.iter().map(of).collect::<Vec<_>>())
}

fn without_null(rows: &RecordBatch, columns: &[usize]) -> RecordBatch {
    let null = any_null(&columns_of(rows, columns), rows.num_rows());
    take(rows, &(0..rows.num_rows()).filter(|&row| !null[row]).map(|row| row as u32).collect::<Vec<_>>())
}

/// Those rows of `minus` whose key no row of `plus` has.
fn gone_for_good(
    relation: &Relation,
    columns: &[usize],
    minus: &RecordBatch,
    plus: &RecordBatch,
) -> Result<RecordBatch> {
    let minus = without_null(minus, columns);
    if minus.num_rows() == 0 || plus.num_rows() == 0 {
        return Ok(minus);
    }
    let mut new = OwnKeys::new(relation, columns)?;
    new.add(&Delta::inserts(plus.clone()));
    let net = new.net_of(&columns_of(&minus, columns), minus.num_rows())?;
    let gone: Vec<u32> = (0..minus.num_rows()).filter(|&row| net[row] == 0).map(|row| row as u32).collect();
    Ok(take(&minus, &gone))
}
