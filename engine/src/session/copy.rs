//! COPY: rows in and out in bulk.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use bytes::Bytes;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;

use super::plans::Plans;
use super::{Outcome, Session};
use crate::catalog::{Relation, RelationKind};
use crate::connectors::copy::{Aside, CopyDecoder, CopyEncoder};
use crate::error::{Error, Result};
use crate::sql::bind::error_from;
use crate::sql::copy::{Copy, CopyFormat, CopySource, ForceQuote, OnError};
use crate::sql::statement::Name;
use crate::sql::text::{Style, Zone};

/// A COPY FROM is one epoch, so all of it is in memory until it is committed: so much of rows, as columns, at most.
/// (Checking, logging and indexing them takes about three times as much again.)
const COPY_IN_BYTES_MAX: usize = 1 << 30;

/// Encoded rows are sent in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// COPY … FROM STDIN under way: [`CopyIn::push`] the bytes as they come, then give it back to
/// [`Session::finish_copy`]; dropping it abandons all.
pub struct CopyIn {
    pub columns: usize,
    pub format: CopyFormat,
    relation: Arc<Relation>,
    named: Vec<usize>,
    decoder: CopyDecoder,
    rows: Vec<arrow::array::RecordBatch>,
    /// That the rows take.
    bytes: usize,
    /// For them, of what statements may take.
    held: MemoryReservation,
}

impl CopyIn {
    pub fn push(&mut self, bytes: Bytes) -> Result<()> {
        for batch in self.decoder.push(&bytes)? {
            self.bytes += batch.get_array_memory_size();
            self.rows.push(batch);
        }
        let bytes = self.bytes + self.decoder.pending_bytes();
        let hint = "Nothing of it was written. Divide the data and use several COPY commands.";
        if bytes > COPY_IN_BYTES_MAX {
            let message = format!("COPY into \"{}\" is too large to be committed as one", self.relation.name);
            return Err(Error::new("54000", message)
                .detail(format!("Its rows take more than {} MB of memory.", COPY_IN_BYTES_MAX >> 20))
                .hint(hint));
        }
        self.held.try_resize(bytes).map_err(|error| error_from(error).hint(hint))
    }
}

impl Session {
    pub(super) fn style(&self) -> Result<Style> {
        let zone = Zone::parse(self.settings.value("timezone"))?;
        Ok(Style { zone, now_us: Some(self.now_us()) })
    }

    pub(super) fn copy_in(&mut self, copy: &Copy) -> Result<Outcome> {
        let CopySource::Relation { name, columns } = &copy.source else {
            return Err(Error::new("42601", "COPY FROM needs a table or a stream"));
        };
        let relation = self.copy_target(name)?;
        if matches!(copy.on_error, OnError::SetAside { .. }) {
            self.check_rejects(&relation)?;
        }
        let named = copied_columns(&relation, columns)?;
        let schema = Arc::new(relation.arrow_schema().project(&named).expect("columns of the relation"));
        let decoder = CopyDecoder::new(schema, &copy.format).with_style(self.style()?).for_relation(&relation.name);
        let decoder = decoder.in_latin1(copy.latin1).with_aside(Aside::new(copy.on_error));
        Ok(Outcome::CopyIn(CopyIn {
            columns: named.len(),
            format: copy.format.clone(),
            relation,
            named,
            decoder,
            rows: Vec::new(),
            bytes: 0,
            held: self.reservation("the rows of COPY"),
        }))
    }

    /// What COPY FROM may write to.
    pub(super) fn copy_target(&self, name: &Name) -> Result<Arc<Relation>> {
        let relation = self.relation(name)?;
        let writable = matches!(relation.kind, RelationKind::Stream | RelationKind::Table)
            && !relation.options.contains_key("connector");
        match writable {
            true => Ok(relation),
            false => Err(Error::new("42809", format!("cannot copy to {} \"{}\"", relation.kind.word(), relation.name))),
        }
    }

    /// Commits a COPY FROM; returns the number of rows.
    pub async fn finish_copy(&mut self, copy: CopyIn) -> Result<u64> {
        let CopyIn { relation, named, format, decoder, mut rows, held: _held, .. } = copy;
        let result = match decoder.finish() {
            Ok((last, None)) => {
                rows.extend(last);
                self.insert_batches(&relation, &named, rows).await
            }
            Ok((last, Some(aside))) => {
                rows.extend(last);
                self.insert_with_rejected(&relation, &named, rows, aside, &format).await
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.note_failure();
        }
        result
    }

    pub(super) async fn copy_out(&mut self, copy: &Copy) -> Result<Outcome> {
        let outcome = match &copy.source {
            CopySource::Relation { name, columns } => {
                let relation = self.relation(name)?;
                let named = copied_columns(&relation, columns)?;
                let list: Vec<String> = named.iter().map(|&i| super::dml::quoted(&relation.columns[i].name)).collect();
                let text = format!(
                    "SELECT {} FROM {}.{}",
                    list.join(", "),
                    super::dml::quoted(&relation.schema_name),
                    super::dml::quoted(&relation.name)
                );
                let query = crate::sql::parse::query(&text)?;
                self.select(&query, &Plans::default(), &[]).await?
            }
            CopySource::Statement(statement) => {
                let statement: Arc<_> = Arc::new((**statement).clone());
                Box::pin(self.run(&statement, &Plans::default(), &[])).await?
            }
        };
        let Outcome::Rows { schema, rows, .. } = outcome else {
            return Err(Error::new("0A000", "COPY query must return rows"));
        };
        let columns = schema.fields().len();
        let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let quoted = quoted_columns(copy, &fields)?;
        let encoder = CopyEncoder::new(Arc::new(Schema::new(fields)), &copy.format).with_style(self.style()?);
        let encoder = encoder.in_latin1(copy.latin1).quoting(quoted);
        let header = Bytes::from(encoder.header()?);
        let body = futures::stream::unfold(Some((rows, encoder)), |state| async move {
            let (mut rows, mut encoder) = state?;
            let mut out = Vec::new();
            loop {
                match rows.next().await {
                    None => {
                        out.extend(encoder.trailer());
                        return Some((Ok(Bytes::from(out)), None));
                    }
                    Some(Err(error)) => return Some((Err(error), None)),
                    Some(Ok(batch)) => {
                        if let Err(error) = encoder.encode(&batch, &mut out) {
                            return Some((Err(error), None));
                        }
                        // A subscription's rows go out as they come.
                        if !out.is_empty() {
                            return Some((Ok(Bytes::from(out)), Some((rows, encoder))));
                        }
                    }
                }
            }
        });
        let data = futures::stream::once(async move { Ok(header) }).chain(body).flat_map(pieces);
        Ok(Outcome::CopyOut { columns, format: copy.format.clone(), data: Box::pin(data) })
    }
}

fn pieces(bytes: Result<Bytes>) -> impl futures::Stream<Item = Result<Bytes>> + Send {
    let pieces: Vec<Result<Bytes>> = match bytes {
        Err(error) => vec![Err(error)],
        Ok(bytes) => (0..bytes.len().div_ceil(PIECE_BYTES))
            .map(|i| Ok(bytes.slice(i * PIECE_BYTES..bytes.len().min((i + 1) * PIECE_BYTES))))
            .collect(),
    };
    futures::stream::iter(pieces)
}

/// The columns that FORCE_QUOTE names. Errors: 42703, 42701.
fn quoted_columns(copy: &Copy, fields: &[Field]) -> Result<Vec<bool>> {
    let ForceQuote::Columns(names) = &copy.force_quote else { return Ok(vec![true; fields.len()]) };
    let mut quoted = vec![false; fields.len()];
    for name in names {
        let missing = || Error::new("42703", format!("column \"{name}\" does not exist"));
        let column = fields.iter().position(|field| field.name() == name).ok_or_else(missing)?;
        if std::mem::replace(&mut quoted[column], true) {
            return Err(Error::new("42701", format!("column \"{name}\" specified more than once")));
        }
    }
    Ok(quoted)
}

/// The columns of a COPY: without those that are generated, which may not be named. Errors: 42P10.
pub(super) fn copied_columns(relation: &Relation, names: &[String]) -> Result<Vec<usize>> {
    let mut named = super::dml::named_columns(relation, names)?;
    let generated = |at: &usize| relation.columns[*at].generated.is_some();
    if let Some(at) = named.iter().find(|at| !names.is_empty() && generated(at)) {
        let message = format!("column \"{}\" is a generated column", relation.columns[*at].name);
        return Err(Error::new("42P10", message).detail("Generated columns cannot be used in COPY."));
    }
    named.retain(|at| !generated(at));
    Ok(named)
}
