//! The numbers of columns that count their rows, as statements take them: see [`crate::sequences`].
//!
//! They are no part of a transaction: what it took is gone when it rolls back. TRUNCATE … RESTART IDENTITY is: within a
//! transaction its numbers begin anew at once for itself, and for everyone when it commits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Session;
use crate::catalog::{Identity, RelationId};
use crate::commit::{CatalogEdit, Request};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::sequences::setting;
use crate::sql::statement::IdentityDefinition;
use crate::state::store::CatalogChange;
use crate::waits::Reason;

/// What currval() and lastval() answer.
#[derive(Default)]
pub struct Seen {
    current: HashMap<RelationId, i64>,
    last: Option<RelationId>,
}

impl Seen {
    pub fn note(&mut self, sequence: RelationId, number: i64) {
        self.current.insert(sequence, number);
        self.last = Some(sequence);
    }
    pub fn of(&self, sequence: RelationId) -> Option<i64> {
        self.current.get(&sequence).copied()
    }
    pub fn last(&self) -> Option<i64> {
        self.of(self.last?)
    }
}

pub type SharedSeen = Arc<Mutex<Seen>>;

/// The next `count` numbers of a sequence. Where it is cancelled halfway numbers are skipped.
pub async fn next_numbers(core: &Arc<Core>, sequence: &Identity, count: usize) -> Result<Vec<i64>> {
    let mut numbers = Vec::with_capacity(count);
    loop {
        core.sequences.take(sequence, count - numbers.len(), &mut numbers);
        if numbers.len() == count {
            return Ok(numbers);
        }
        let (tell, told) = std::sync::mpsc::channel();
        let (reserving, of, wanted) = (core.clone(), sequence.clone(), count - numbers.len());
        let edit: CatalogEdit = Box::new(move |catalog| {
            catalog.sequence(of.id).ok_or_else(|| Error::undefined_relation(&of.name))?;
            let (run, mark) = reserving.sequences.reserve(&of, wanted)?;
            let _ = tell.send(run);
            Ok(vec![CatalogChange::Meta { key: setting(of.id), value: Some(mark) }])
        });
        core.ask(|reply| Request::Catalog { edit, rows: Vec::new(), reply }).await?;
        let run = told.try_recv().expect("told before the answer");
        core.sequences.give(sequence.id, run);
    }
}

/// From now on the sequence's next number is `next`.
pub async fn set_next(core: &Arc<Core>, id: RelationId, next: i128) -> Result<()> {
    let setting_anew = core.clone();
    let edit: CatalogEdit = Box::new(move |catalog| {
        if catalog.sequence(id).is_none() {
            return Ok(Vec::new());
        }
        let mark = setting_anew.sequences.set(id, next);
        Ok(vec![CatalogChange::Meta { key: setting(id), value: Some(mark) }])
    });
    core.ask(|reply| Request::Catalog { edit, rows: Vec::new(), reply }).await.map(|_| ())
}

/// `count` numbers from `next` on, which moves on, of a sequence that nobody else takes numbers of.
pub fn numbers_from(sequence: &Identity, next: &mut i128, count: usize) -> Result<Vec<i64>> {
    let step = i128::from(sequence.increment);
    let end = *next + count as i128 * step;
    if count > 0 && !(i128::from(sequence.min)..=i128::from(sequence.max)).contains(&(end - step)) {
        return Err(Error::new("2200H", format!("nextval: reached the end of sequence \"{}\"", sequence.name)));
    }
    let first = std::mem::replace(next, end);
    Ok((0..count).map(|n| (first + n as i128 * step) as i64).collect())
}

/// setval(sequence, value, called): checked, and what comes next.
pub fn next_after(sequence: &Identity, value: i64, called: bool) -> Result<i128> {
    let Identity { name, min, max, .. } = sequence;
    if !(*min..=*max).contains(&value) {
        let message = format!("setval: value {value} is out of bounds for sequence \"{name}\" ({min}..{max})");
        return Err(Error::new("22003", message));
    }
    Ok(i128::from(value) + if called { i128::from(sequence.increment) } else { 0 })
}

/// A sequence as it was declared, for a column of this type. `name` unless the declaration has another.
pub fn sequence_of(definition: &IdentityDefinition, sql_type: &str, id: RelationId, name: String) -> Result<Identity> {
    let (least, most) = match sql_type {
        "smallint" => (i64::from(i16::MIN), i64::from(i16::MAX)),
        "integer" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        "bigint" => (i64::MIN, i64::MAX),
        _ => return Err(Error::new("22023", "identity column type must be smallint, integer, or bigint")),
    };
    let increment = definition.increment.unwrap_or(1);
    if increment == 0 {
        return Err(Error::new("22023", "INCREMENT must not be zero"));
    }
    let (lowest, highest) = if increment > 0 { (1, most) } else { (least, -1) };
    let (min, max) = (definition.min.unwrap_or(lowest), definition.max.unwrap_or(highest));
    for (word, bound) in [("MAXVALUE", max), ("MINVALUE", min)] {
        if !(least..=most).contains(&bound) {
            let message = format!("{word} ({bound}) is out of range for sequence data type {sql_type}");
            return Err(Error::new("22023", message));
        }
    }
    if min >= max {
        return Err(Error::new("22023", format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
    }
    let start = definition.start.unwrap_or(if increment > 0 { min } else { max });
    if start < min {
        return Err(Error::new("22023", format!("START value ({start}) cannot be less than MINVALUE ({min})")));
    }
    if start > max {
        return Err(Error::new("22023", format!("START value ({start}) cannot be greater than MAXVALUE ({max})")));
    }
    let name = definition.name.clone().unwrap_or(name);
    Ok(Identity { kind: definition.kind, id, name, start, increment, min, max, cycle: definition.cycle })
}

impl Session {
    /// The next `count` numbers of a column's sequence.
    pub(super) async fn numbers_of(&mut self, sequence: &Identity, count: usize) -> Result<Vec<i64>> {
        let own = self.transaction.as_mut().and_then(|t| t.restarted.get_mut(&sequence.id));
        let numbers = match own {
            Some(next) => numbers_from(sequence, next, count)?,
            None => {
                let core = self.core.clone();
                let next = next_numbers(&core, sequence, count);
                core.waits.during(self.waiter(), Reason::Commit, None, next).await?
            }
        };
        if let Some(last) = numbers.last() {
            self.seen_numbers.lock().expect("no panic while held").note(sequence.id, *last);
        }
        Ok(numbers)
    }

    /// Sequences begin anew: now or, in a transaction, for everyone when it commits.
    pub(super) async fn restart(&mut self, sequences: Vec<Identity>) -> Result<()> {
        for sequence in sequences {
            match &mut self.transaction {
                Some(transaction) => _ = transaction.restarted.insert(sequence.id, i128::from(sequence.start)),
                None => set_next(&self.core, sequence.id, i128::from(sequence.start)).await?,
            }
        }
        Ok(())
    }

    /// The sequence of a new column, named as Postgres names it.
    pub(super) fn new_sequence(
        &self,
        definition: &IdentityDefinition,
        sql_type: &str,
        schema: &str,
        table: &str,
        column: &str,
        others: &[String],
    ) -> Result<Identity> {
        let catalog = self.core.catalog();
        let plain = crate::catalog::made_name(table, Some(column), "seq");
        let mut names = std::iter::once(plain.clone()).chain((1..).map(|n| format!("{plain}{n}")));
        let free = |name: &String| !catalog.is_taken(schema, name) && !others.contains(name);
        let name = names.find(free).expect("numbers do not end");
        if let Some(named) = &definition.name
            && (catalog.is_taken(schema, named) || others.contains(named))
        {
            return Err(super::ddl::already_exists(named));
        }
        sequence_of(definition, sql_type, self.core.store.next_id()?, name)
    }
}
