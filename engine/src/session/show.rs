//! SHOW, EXPLAIN, VERIFY, and what a statement's parameters and columns will be.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use futures::TryStreamExt;

use super::collected::collect;
use super::plans::Plans;
use super::query::{bind_query, bind_text, output_schema, session_state};
use super::view::{Defined, Definition};
use super::{Outcome, Session};
use crate::catalog::{Relation, RelationKind};
use crate::delta::Delta;
use crate::delta::consolidate::consolidate;
use crate::error::{Error, Result};
use crate::plan::arranged::Offers;
use crate::plan::lower::{Showing, only_final, reads_clock};
use crate::plan::order::close_orders;
use crate::serve::snapshot::{Scan, Snapshot};
use crate::sql::bind::{self, error_from};
use crate::sql::bounds::planning_future;
use crate::sql::context::Settings as BindSettings;
use crate::sql::copy::CopyDirection;
use crate::sql::statement::{Explain, ExplainStage, Name, Show, Statement, StatementKind};
use crate::sql::system_time::reads_arrival;
use crate::time::EpochHeader;

fn text_schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Utf8, true)).collect::<Vec<_>>()))
}

fn text_rows(names: &[&str], rows: Vec<Vec<String>>, tag: &'static str) -> Outcome {
    let schema = text_schema(names);
    let columns: Vec<ArrayRef> = (0..names.len())
        .map(|c| Arc::new(rows.iter().map(|r| Some(r[c].as_str())).collect::<StringArray>()) as ArrayRef)
        .collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("as many columns as names");
    Outcome::Rows { schema, rows: Box::pin(futures::stream::iter([Ok(batch)])), tag }
}

const RELATION_COLUMNS: [&str; 2] = ["schema", "name"];
const CREATE_COLUMNS: [&str; 2] = ["name", "statement"];
const SETTING_COLUMNS: [&str; 3] = ["name", "setting", "description"];

fn show_columns(show: &Show) -> Vec<String> {
    let fixed = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    match show {
        Show::Relations(_) => fixed(&RELATION_COLUMNS),
        Show::CreateStatement(_) => fixed(&CREATE_COLUMNS),
        Show::Watermarks => fixed(&super::event_time::WATERMARK_COLUMNS),
        Show::Setting(None) => fixed(&SETTING_COLUMNS),
        Show::Setting(Some(name)) => vec![super::settings::Settings::title(name)],
    }
}

impl Session {
    pub(super) fn show(&self, show: &Show) -> Result<Outcome> {
        let titles = show_columns(show);
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let catalog = self.core.catalog();
        let rows = match show {
            Show::Relations(kind) => {
                let mut rows: Vec<Vec<String>> = catalog
                    .relations
                    .values()
                    .filter(|r| r.kind == *kind && self.may_see(r))
                    .map(|r| vec![r.schema_name.clone(), r.name.clone()])
                    .collect();
                rows.sort();
                rows
            }
            Show::CreateStatement(name) => {
                let relation = self.relation(name)?;
                vec![vec![relation.name.clone(), relation.sql.clone()]]
            }
            Show::Watermarks => super::event_time::watermarks(&self.core, &catalog),
            Show::Setting(None) => self.settings.all().into_iter().map(|(n, v, d)| vec![n, v, d]).collect(),
            Show::Setting(Some(name)) => vec![vec![self.settings.get(name)?.to_string()]],
        };
        Ok(text_rows(&titles, rows, "SHOW"))
    }

    pub(super) async fn explain(&mut self, explain: &Explain) -> Result<Outcome> {
        let text = self.explained(explain).await?;
        let rows = if explain.json {
            let lines: Vec<&str> = text.lines().collect();
            vec![vec![serde_json::json!([{ "Plan": { "Node Type": "Millrace", "Lines": lines } }]).to_string()]]
        } else {
            text.lines().map(|l| vec![l.to_string()]).collect()
        };
        Ok(text_rows(&["QUERY PLAN"], rows, "EXPLAIN"))
    }

    async fn explained(&mut self, explain: &Explain) -> Result<String> {
        if let Some(view) = &explain.view {
            return self.explained_view(view, explain);
        }
        let statement = &explain.statement;
        match &statement.kind {
            StatementKind::CreateMaterializedView { name, columns, query, options, emit, .. } => {
                if explain.stage == ExplainStage::Parsed {
                    return Ok(crate::sql::parse::text_of(query));
                }
                let definition = Definition { name, columns, query, options, emit: *emit, text: &statement.text };
                let Defined { plan, logical, .. } = self.define_view(&definition)?;
                match explain.stage {
                    ExplainStage::Logical => Ok(logical.display_indent().to_string()),
                    ExplainStage::Optimized => {
                        let state = session_state(&BindSettings { now: None, ..self.bind_settings() }, None)?;
                        Ok(bind::optimize(&state, logical)?.display_indent().to_string())
                    }
                    ExplainStage::Physical => Err(Error::unsupported("EXPLAIN (PHYSICAL) of a materialized view")
                        .hint("A view has an incremental plan: EXPLAIN CREATE MATERIALIZED VIEW shows it.")),
                    _ => Ok(crate::plan::explain::explain_whole(&plan)),
                }
            }
            StatementKind::Query(query) => {
                let scope = self.scope();
                let state = self.state(&scope)?;
                if explain.stage == ExplainStage::Parsed {
                    return Ok(crate::sql::parse::text_of(query));
                }
                let bound = bind_query(&state, &scope, query, &[])?;
                match explain.stage {
                    ExplainStage::Logical => Ok(bound.plan.display_indent().to_string()),
                    ExplainStage::Optimized => Ok(bind::optimize(&state, bound.plan)?.display_indent().to_string()),
                    ExplainStage::Incremental => {
                        crate::plan::lower::check_deterministic(&bound.plan)?;
                        let optimized = bind::optimize(&state, bound.plan)?;
                        let plan = crate::plan::lower::lower(&state, &optimized, Showing::Changes, &Offers::default())?;
                        Ok(crate::plan::explain::explain_whole(&plan))
                    }
                    _ => self.physical(&scope, &state, bound, explain.analyze).await,
                }
            }
            StatementKind::Insert(_) | StatementKind::Update(_) | StatementKind::Delete(_) => {
                let query = match &statement.kind {
                    StatementKind::Update(u) => self.update_query(u, &self.target(&u.table, "update")?)?,
                    StatementKind::Delete(d) => self.delete_query(d, &self.target(&d.table, "delete from")?)?,
                    StatementKind::Insert(i) => match self.insert_query(i)? {
                        Some(query) => query,
                        None => return Ok("Insert default values".into()),
                    },
                    _ => unreachable!("matched above"),
                };
                let scope = self.scope();
                let state = self.state(&scope)?;
                let bound = bind_query(&state, &scope, &query, &[])?;
                Ok(bind::optimize(&state, bound.plan)?.display_indent().to_string())
            }
            _ => Err(Error::unsupported("EXPLAIN of this statement")),
        }
    }

    async fn physical(
        &mut self,
        scope: &super::query::Scope,
        state: &datafusion::execution::SessionState,
        bound: super::query::Bound,
        analyze: bool,
    ) -> Result<String> {
        let relations = super::query::relations_of(&scope.catalog, &bound.plan)?;
        let snapshot = Arc::new(Snapshot::take(&self.core, &relations).await?);
        scope.slot.set(Some(snapshot));
        let optimized = bind::optimize(state, bound.plan)?;
        let planned = state.query_planner().create_physical_plan(&optimized, state);
        let physical = planning_future(planned).await.map_err(error_from);
        scope.slot.set(None);
        let physical = physical?;
        if !analyze {
            return Ok(datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string());
        }
        let context = crate::sql::context::task_context(state, self.environment.clone());
        let mut rows = datafusion::physical_plan::execute_stream(physical.clone(), context).map_err(error_from)?;
        let mut total = 0;
        while let Some(batch) = rows.try_next().await.map_err(error_from)? {
            total += batch.num_rows();
        }
        let plan = datafusion::physical_plan::display::DisplayableExecutionPlan::with_metrics(physical.as_ref());
        Ok(format!("{}rows: {total}", plan.indent(true)))
    }

    /// The difference between a view's rows and the batch answer to its query, at one epoch: no rows when
    /// they are equal.
    pub(super) async fn verify(&mut self, name: &Name) -> Result<Outcome> {
        let relation = self.relation(name)?;
        if relation.kind != RelationKind::MaterializedView {
            return Err(Error::new("42809", format!("\"{}\" is not a materialized view", relation.name)));
        }
        let (schema, difference) = self.difference(&relation).await?;
        if difference.is_none() {
            let message = format!(
                "what \"{}\" looked up when rows came cannot be looked up again, so it is not verified",
                relation.name
            );
            self.notice("NOTICE", "00000", message);
        }
        let mut batches = Vec::new();
        for delta in difference.unwrap_or_default() {
            let weights = delta.weights.clone().unwrap_or_else(|| Int64Array::from_value(1, delta.len()));
            let mut columns: Vec<ArrayRef> = vec![Arc::new(weights)];
            columns.extend(delta.rows.columns().iter().cloned());
            batches.push(RecordBatch::try_new(schema.clone(), columns).map_err(Error::internal));
        }
        Ok(Outcome::Rows { schema, rows: Box::pin(futures::stream::iter(batches)), tag: "VERIFY" })
    }

    /// `None` where the view's rows depend on when they came.
    async fn difference(&self, relation: &Arc<Relation>) -> Result<(SchemaRef, Option<Vec<Delta>>)> {
        let mut settings = BindSettings {
            time_zone: relation.time_zone.clone(),
            sort_reserve_bytes: Some(self.core.memory.sort_reserve_bytes()),
            ..BindSettings::default()
        };
        let mut state = session_state(&settings, None)?;
        let scope = super::query::Scope { system: None, search_path: relation.names_in(), ..self.scope() };
        let names: Vec<String> = relation.columns.iter().map(|c| c.name.clone()).collect();
        let query = relation.query.as_deref().expect("a view has a query");
        let mut plan = bind_text(&state, &scope, query, &names)?;
        let mut fields = vec![Field::new("_diff", DataType::Int64, false)];
        fields.extend(relation.arrow_schema().fields().iter().map(|f| f.as_ref().clone()));
        let shown = Arc::new(Schema::new(fields));
        if reads_arrival(&plan).map_err(error_from)? {
            return Ok((shown, None));
        }
        let mut read = super::query::relations_of(&scope.catalog, &plan)?;
        if !read.iter().any(|r| r.id == relation.id) {
            read.push(relation.clone());
        }
        let (mut snapshot, header) = Snapshot::take_with_header(&self.core, &read).await?;
        if reads_clock(&plan)? {
            // What time it is to the view.
            settings.now = chrono::DateTime::from_timestamp_micros(header.clock_us);
            state = session_state(&settings, None)?;
            plan = bind_text(&state, &scope, query, &names)?;
        }
        self.as_taken_in(relation, &mut snapshot)?;
        let snapshot = Arc::new(snapshot);
        let kept: Scan = snapshot.relations[&relation.id].clone();
        let closed = |plan| {
            let plan = close_orders(plan)?;
            match super::view::showing(relation) {
                Showing::Changes => Ok(plan),
                Showing::Final => only_final(&state, plan, &header),
            }
        };
        let held = self.reservation("the rows of a view");
        let batch = async {
            let (_, rows) = self.run_over(&state, plan, &names, snapshot.clone(), closed).await?;
            collect(rows, &held).await
        };
        let set_aside = self.core.view(relation.id).is_some_and(|view| view.errors() > 0);
        let schema = relation.arrow_schema();
        let conform = |rows: RecordBatch| {
            // The optimizer may settle on another precision of the same numbers.
            let columns = rows.columns().iter().zip(schema.fields());
            let columns = columns
                .map(|(c, f)| arrow::compute::cast(c, f.data_type()))
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(Error::internal)?;
            RecordBatch::try_new_with_options(
                schema.clone(),
                columns,
                &arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows())),
            )
            .map_err(|e| Error::internal(format!("the view's columns are not its query's: {e}")))
        };
        let mut all = Vec::new();
        for rows in crate::serve::table::scan(&kept, relation, &self.core.store) {
            all.push(Delta::inserts(conform(rows?)?));
        }
        match batch.await {
            Ok(batch) if !set_aside => {
                for rows in batch {
                    all.push(Delta::retractions(conform(rows)?));
                }
            }
            // A row that cannot be evaluated: to DataFusion there is no answer then.
            Err(error) if !set_aside && !error.code.starts_with("22") => return Err(error),
            _ => {
                let batch = self.batch_answer(&scope, relation, header.clone(), snapshot).await?;
                for Delta { rows, weights } in batch {
                    all.push(Delta::new(conform(rows)?, weights).negate());
                }
            }
        }
        Ok((shown, Some(consolidate(&all))))
    }

    /// What the view's own operators make of the snapshot.
    async fn batch_answer(
        &self,
        scope: &super::query::Scope,
        relation: &Relation,
        header: Arc<EpochHeader>,
        snapshot: Arc<Snapshot>,
    ) -> Result<Vec<Delta>> {
        // It runs by itself, from the tables.
        let relation = Relation { arrangements: Vec::new(), ..relation.clone() };
        let plan = super::view::plan_query(&self.core, &scope.slot, &relation)?;
        let (catalog, store) = (scope.catalog.clone(), self.core.store.clone());
        let rows = move |id| -> Result<Vec<Delta>> {
            let source = catalog.get(id).ok_or_else(|| Error::undefined_relation(format!("#{id}")))?;
            let batches = crate::serve::table::scan(&snapshot.relations[&id], source, &store);
            batches.map(|rows| rows.map(Delta::inserts)).collect()
        };
        let answer = tokio::task::spawn_blocking(move || crate::dataflow::batch::run(&plan, &header, rows));
        answer.await.map_err(Error::internal)?
    }

    /// The types of a statement's parameters, and its columns.
    pub(super) fn describe(
        &mut self,
        statement: &Statement,
        given: &[Option<FieldRef>],
        plans: &Plans,
    ) -> Result<(Vec<FieldRef>, Option<SchemaRef>)> {
        let (parameters, columns) = self.described(&statement.kind, given, plans)?;
        Ok((bind::text_if_unknown(parameters), columns))
    }

    /// The same; of a parameter nothing where nothing says what it is.
    pub(super) fn described(
        &mut self,
        kind: &StatementKind,
        given: &[Option<FieldRef>],
        plans: &Plans,
    ) -> Result<(Vec<Option<FieldRef>>, Option<SchemaRef>)> {
        let failed = self.transaction.as_ref().is_some_and(|t| t.failed);
        if failed && !super::transaction::allowed_when_failed(kind) {
            return Err(Error::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        if let StatementKind::ChangeWith(change) = kind {
            return self.describe_change_with(change, given);
        }
        if let StatementKind::DeclareCursor { statement, .. } = kind {
            return Ok((self.described(&statement.kind, given, plans)?.0, None));
        }
        let bound = |query: &sqlparser::ast::Query| -> Result<(Vec<Option<FieldRef>>, SchemaRef)> {
            let planned = self.planned(plans, given, || Ok(Cow::Borrowed(query)))?;
            Ok((bind::parameters_known(&planned.plan, given)?, output_schema(&planned.plan, &planned.names)))
        };
        let returning = |table: &Name,
                         alias: &Option<String>,
                         items: &Option<Vec<sqlparser::ast::SelectItem>>,
                         with: &Option<sqlparser::ast::With>,
                         from: &[sqlparser::ast::TableWithJoins]| {
            items.as_ref().map(|items| self.returning_schema(table, alias.as_deref(), items, with, from)).transpose()
        };
        use StatementKind::*;
        let (parameters, columns) = match kind {
            Query(query) | QueryLocking { query, .. } | QueryAsOf { query, .. } => {
                let (parameters, columns) = bound(query)?;
                (parameters, Some(super::origins::with_origins(columns, &plans.origins())))
            }
            Insert(insert) => {
                let parameters = match self.insert_query(insert)? {
                    Some(query) => bound(&query)?.0,
                    None => given.to_vec(),
                };
                let parameters = self.conflict_parameters(insert, parameters)?;
                (parameters, returning(&insert.table, &insert.alias, &insert.returning, &None, &[])?)
            }
            Update(update) => {
                let query = self.update_query(update, &self.target(&update.table, "update")?)?;
                let columns = returning(&update.table, &update.alias, &update.returning, &update.with, &update.from)?;
                (bound(&query)?.0, columns)
            }
            Delete(delete) => {
                let query = self.delete_query(delete, &self.target(&delete.table, "delete from")?)?;
                let columns = returning(&delete.table, &delete.alias, &delete.returning, &delete.with, &delete.using)?;
                (bound(&query)?.0, columns)
            }
            Merge(merge) => (self.merge_parameters(merge, given)?, None),
            Fetch { cursor, is_move: false, .. } => (vec![], Some(self.cursor_schema(cursor)?)),
            Execute { name, .. } => (vec![], self.prepared_named(name)?.columns),
            Show(show) => {
                let titles = show_columns(show);
                let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
                (vec![], Some(text_schema(&titles)))
            }
            Explain(_) => (vec![], Some(text_schema(&["QUERY PLAN"]))),
            Subscribe(subscribe) => (vec![], Some(self.subscribe_schema(subscribe)?)),
            Verify(name) => {
                let relation = self.relation(name)?;
                let mut fields = vec![Field::new("_diff", DataType::Int64, false)];
                fields.extend(relation.arrow_schema().fields().iter().map(|f| f.as_ref().clone()));
                (vec![], Some(Arc::new(Schema::new(fields))))
            }
            Copy(copy) if copy.direction == CopyDirection::ToStdout => (vec![], None),
            _ => (vec![], None),
        };
        Ok((parameters, columns))
    }
}
