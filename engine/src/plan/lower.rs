//! From DataFusion's optimized logical plan to the incremental plan.
//!
//! One arm per SQL construct. What cannot be maintained is refused here, with 0A000 and its name, before
//! anything is made.

mod aggregate;
mod arranged;
mod as_of;
mod extremes;
mod recompute;
mod session;
mod temporal;
mod top_k;
mod unnest;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Distinct, Expr, Join, LogicalPlan, TableScan, Volatility};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::arranged::Offers;
use super::keys::PrimaryKeys;
use super::share::share;
use super::{Node, NodeKind, Plan, event_time, keys};
use crate::blocking::wait_for;
use crate::catalog::{RelationId, RelationKind};
use crate::error::{Error, Result};
use crate::operators::evaluate::Expression;
use crate::operators::join::{JoinKind, JoinSpec, SideSpec};
use crate::operators::map::MapStep;
use crate::serve::log::LogTable;
use crate::serve::table::RelationTable;
use crate::sql::as_of::AsOf;
use crate::sql::bind::error_from;
use crate::sql::context::task_context;
use crate::sql::functions::{SERIES_ROWS, names_of_catalog};
use crate::sql::system_time;
use crate::time::{EpochHeader, TimeBound};

/// As many rows of a series are kept as rows of a view's plan.
const SERIES_ROWS_MAX: usize = 1_000_000;

/// Refuses what no incremental plan can hold: volatile functions, and those that read the clock outside of WHERE.
pub fn check_deterministic(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        let is_condition = match node {
            LogicalPlan::Filter(_) => true,
            LogicalPlan::Join(join) => join.join_type == JoinType::Inner,
            _ => false,
        };
        node.apply_expressions(|e| {
            if !is_condition && temporal::reads_clock(e) {
                refused = Some(temporal::misplaced());
            }
            e.apply(|e| {
                if let Some(word) = temporal::word_of_today(e) {
                    refused = Some(
                        Error::unsupported(format!("'{word}' as a time in a materialized view"))
                            .hint("Write now(), or current_date and what is before or after it."),
                    );
                }
                if let Some(catalog) = names_of_catalog(e) {
                    refused = Some(Error::unsupported(format!("a cast to {catalog} in a materialized view")));
                }
                if let Expr::ScalarFunction(f) = e {
                    let (name, volatility) = (f.func.name(), f.func.signature().volatility);
                    if volatility == Volatility::Volatile {
                        refused =
                            Some(Error::unsupported(format!("volatile function {name}() in a materialized view")));
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(error_from)?;
    refused.map_or(Ok(()), Err)
}

/// Whether a plan names the clock.
pub fn reads_clock(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|e| {
            found |= temporal::reads_clock(e);
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map_err(error_from)?;
    Ok(found)
}

/// The relations that a plan reads, by id, each once.
pub fn relations_read(plan: &LogicalPlan) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            if let Ok(provider) = source_as_provider(&scan.source) {
                if let Some(table) = provider.downcast_ref::<RelationTable>() {
                    ids.push(table.relation().id);
                }
                if let Some(table) = provider.downcast_ref::<LogTable>() {
                    ids.push(table.relation().id);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(error_from)?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// When a view shows its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Showing {
    Changes,
    /// Once, when no change can come to them any more.
    Final,
}

/// Makes the incremental plan. `offers`: arrangements that it may read.
pub fn lower(state: &SessionState, plan: &LogicalPlan, showing: Showing, offers: &Offers) -> Result<Plan> {
    let mut lowering = Lowering { offers, ..Lowering::new(state) };
    let mut output = match showing {
        Showing::Changes => lowering.node(plan)?,
        Showing::Final => lowering.held_back(plan)?.0,
    };
    let names: SchemaRef = relaxed(plan.schema());
    if *lowering.nodes[output].schema != *names {
        let columns = (0..names.fields().len()).collect();
        output = lowering.map(output, MapStep::Select(columns, names.clone()), names);
    }
    // A row and its retraction must meet on one worker.
    if !lowering.nodes[output].append_only && lowering.dealt_by[output].is_none() {
        let all = (0..lowering.nodes[output].schema.fields().len()).collect();
        output = lowering.exchange(output, all);
    }
    assert_eq!(output, lowering.nodes.len() - 1, "the result is the last node");
    let imported = |relation| lowering.bounds.get(&relation).cloned().unwrap_or_default();
    event_time::expire(&mut lowering.nodes, &imported);
    let mut bounds = event_time::bounds(&lowering.nodes, &imported).pop().expect("one for each node");
    bounds.retain(|bound| event_time::is_time(plan.schema().field(bound.column).data_type()));
    let keys = keys::of_node(&lowering.nodes, output, &lowering.primary_keys);
    Ok(Plan { output_key: lowering.dealt_by[output].clone(), nodes: share(lowering.nodes), bounds, keys })
}

/// The plan of which only rows are left that a view which shows final rows shows, at the watermarks of an epoch.
pub fn only_final(state: &SessionState, plan: LogicalPlan, epoch: &EpochHeader) -> Result<LogicalPlan> {
    let mut lowering = Lowering::new(state);
    let (_, closing, depth) = lowering.held_back(&plan)?;
    temporal::with_final_rows(plan, depth, &closing, epoch).map_err(error_from)
}

struct Lowering<'a> {
    state: &'a SessionState,
    nodes: Vec<Node>,
    /// Per node: the columns whose hash decides which worker has a row; `None` when nothing in the row does.
    dealt_by: Vec<Option<Vec<usize>>>,
    /// What watermarks promise of the relations that are read.
    bounds: BTreeMap<RelationId, Vec<TimeBound>>,
    primary_keys: PrimaryKeys,
    offers: &'a Offers,
}

static NO_OFFERS: Offers = Offers(Vec::new());

/// The Arrow schema of a plan node. Everything may be NULL: DataFusion's promises about that are for its
/// own optimizer.
fn relaxed(schema: &DFSchema) -> SchemaRef {
    relax(schema.as_arrow())
}

pub(super) fn relax(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(
        schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<Field>>(),
    ))
}

impl<'a> Lowering<'a> {
    fn new(state: &'a SessionState) -> Self {
        Lowering {
            state,
            nodes: Vec::new(),
            dealt_by: Vec::new(),
            bounds: BTreeMap::new(),
            primary_keys: PrimaryKeys::new(),
            offers: &NO_OFFERS,
        }
    }

    fn push(
        &mut self,
        kind: NodeKind,
        inputs: Vec<usize>,
        schema: SchemaRef,
        append_only: bool,
        dealt_by: Option<Vec<usize>>,
    ) -> usize {
        self.nodes.push(Node { kind, inputs, schema, append_only });
        self.dealt_by.push(dealt_by);
        self.nodes.len() - 1
    }

    fn expression(&self, expr: &Expr, schema: &DFSchema) -> Result<Expression> {
        if let Some(name) = unsupported_in(expr) {
            return Err(in_view(name));
        }
        if temporal::reads_clock(expr) {
            return Err(temporal::misplaced());
        }
        self.state.create_physical_expr(expr.clone(), schema).map_err(error_from)
    }

    fn node(&mut self, plan: &LogicalPlan) -> Result<usize> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            // Rows of a view have no order.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input),
            LogicalPlan::Filter(filter) => {
                if let Some(numbered) = self.numbered_rows(filter)? {
                    return Ok(numbered);
                }
                let input = self.node(&filter.input)?;
                self.filter(input, filter.input.schema(), &filter.predicate)
            }
            LogicalPlan::Projection(projection) => {
                let input = self.node(&projection.input)?;
                self.project(input, projection.input.schema(), &projection.expr, relaxed(&projection.schema))
            }
            LogicalPlan::Aggregate(aggregate) => match &aggregate.group_expr[..] {
                [Expr::GroupingSet(sets)] => self.grouping_sets(aggregate, sets),
                _ => self.aggregate(aggregate),
            },
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.node(input)?;
                let schema = self.nodes[input].schema.clone();
                let group = (0..schema.fields().len()).collect();
                Ok(self.aggregate_node(input, group, Vec::new(), schema))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|i| self.node(i)).collect::<Result<Vec<_>>>()?;
                let schema = relaxed(&union.schema);
                let inputs: Vec<usize> = inputs.into_iter().map(|i| self.renamed(i, &schema)).collect::<Result<_>>()?;
                let append_only = inputs.iter().all(|&i| self.nodes[i].append_only);
                Ok(self.push(NodeKind::Union, inputs, schema, append_only, None))
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::EmptyRelation(empty) => {
                let schema = relaxed(&empty.schema);
                let rows = usize::from(empty.produce_one_row);
                let columns =
                    schema.fields().iter().map(|f| arrow::array::new_null_array(f.data_type(), rows)).collect();
                self.constant(schema, columns, rows)
            }
            LogicalPlan::Values(values) => {
                let schema = relaxed(&values.schema);
                let one_row = RecordBatch::try_new_with_options(
                    Arc::new(Schema::empty()),
                    vec![],
                    &RecordBatchOptions::new().with_row_count(Some(1)),
                )
                .expect("no columns");
                let mut columns: Vec<ArrayRef> = Vec::new();
                for c in 0..schema.fields().len() {
                    let cells = values
                        .values
                        .iter()
                        .map(|row| {
                            let e = self.expression(&row[c], &DFSchema::empty())?;
                            let value = e.evaluate(&one_row).and_then(|v| v.into_array(1)).map_err(error_from)?;
                            arrow::compute::cast(&value, schema.field(c).data_type()).map_err(|e| error_from(e.into()))
                        })
                        .collect::<Result<Vec<_>>>()?;
                    let cells: Vec<&dyn Array> = cells.iter().map(|a| a.as_ref()).collect();
                    columns.push(arrow::compute::concat(&cells).expect("cast to one type"));
                }
                self.constant(schema, columns, values.values.len())
            }
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::RecursiveQuery(_) if system_time::reads_arrival(plan).map_err(error_from)? => {
                Err(in_view("FOR SYSTEM_TIME AS OF PROCTIME() in WITH RECURSIVE"))
            }
            LogicalPlan::RecursiveQuery(_) => self.whole(plan),
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<AsOf>() {
                Some(join) => self.as_of(join, plan.schema()),
                None => Err(in_view(&plan.display().to_string())),
            },
            LogicalPlan::Subquery(_) => Err(in_view("this kind of subquery")),
            other => Err(in_view(&other.display().to_string())),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<usize> {
        let provider = source_as_provider(&scan.source).map_err(error_from)?;
        let Some(table) = provider.downcast_ref::<RelationTable>() else { return self.series(scan) };
        if scan.fetch.is_some() {
            return Err(in_view("LIMIT"));
        }
        let relation = table.relation();
        let schema = relation.arrow_schema();
        let columns = scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let projected = relax(&schema.project(&columns).expect("a projection of the relation's schema"));
        let kind = NodeKind::Import { relation: relation.id, name: relation.name.clone(), columns };
        self.bounds.insert(relation.id, event_time::of_relation(relation));
        if relation.kind == RelationKind::Table {
            self.primary_keys.insert(relation.id, relation.primary_key.clone());
        }
        let mut node = self.push(kind, vec![], projected, table.append_only(), None);
        for filter in &scan.filters {
            node = self.filter(node, &scan.projected_schema, filter)?;
        }
        Ok(node)
    }

    /// `generate_series` of whole numbers that are written out: rows that were always there.
    fn series(&mut self, scan: &TableScan) -> Result<usize> {
        if !scan.table_name.table().starts_with(SERIES_ROWS) {
            return Err(in_view(&format!("reading {}, a system relation or table function,", scan.table_name)));
        }
        let plan = LogicalPlan::TableScan(scan.clone());
        let context = task_context(self.state, self.state.runtime_env().clone());
        let rows = async {
            let physical = self.state.query_planner().create_physical_plan(&plan, self.state).await?;
            let (mut batches, mut count) = (Vec::new(), 0);
            let mut stream = execute_stream(physical, context)?;
            while let Some(batch) = stream.next().await.transpose()? {
                count += batch.num_rows();
                batches.push(batch);
                if count > SERIES_ROWS_MAX {
                    break;
                }
            }
            Ok((batches, count))
        };
        let (batches, count) = wait_for(rows).map_err(error_from)?;
        if count > SERIES_ROWS_MAX {
            let message = format!("a series of more than {SERIES_ROWS_MAX} rows in a materialized view");
            return Err(Error::new("54000", message));
        }
        let schema = relaxed(plan.schema());
        let columns = (0..schema.fields().len()).map(|c| {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(c).as_ref()).collect();
            match parts.is_empty() {
                true => arrow::array::new_empty_array(schema.field(c).data_type()),
                false => arrow::compute::concat(&parts).expect("batches of one schema"),
            }
        });
        let columns = columns.collect();
        self.constant(schema, columns, count)
    }

    /// Adds a step, to the input's own chain where it has one.
    fn map(&mut self, input: usize, step: MapStep, schema: SchemaRef) -> usize {
        let dealt_by = match (&step, &self.dealt_by[input]) {
            (MapStep::Filter(_) | MapStep::Merge, d) => d.clone(),
            (_, None) => None,
            (MapStep::Select(columns, _), Some(d)) => d.iter().map(|k| columns.iter().position(|c| c == k)).collect(),
            (MapStep::Project(expressions, _), Some(d)) => d
                .iter()
                .map(|k| {
                    expressions.iter().position(|e| {
                        e.downcast_ref::<datafusion::physical_expr::expressions::Column>()
                            .is_some_and(|c| c.index() == *k)
                    })
                })
                .collect(),
        };
        if input == self.nodes.len() - 1 {
            if let NodeKind::Map(steps) = &mut self.nodes[input].kind {
                steps.push(step);
                self.nodes[input].schema = schema;
                self.dealt_by[input] = dealt_by;
                return input;
            }
        }
        let append_only = self.nodes[input].append_only;
        self.push(NodeKind::Map(vec![step]), vec![input], schema, append_only, dealt_by)
    }

    fn project(&mut self, input: usize, input_schema: &DFSchema, exprs: &[Expr], schema: SchemaRef) -> Result<usize> {
        let expressions = exprs.iter().map(|e| self.expression(e, input_schema)).collect::<Result<Vec<_>>>()?;
        let plain: Option<Vec<usize>> = expressions
            .iter()
            .map(|e| e.downcast_ref::<datafusion::physical_expr::expressions::Column>().map(|c| c.index()))
            .collect();
        let step = match plain {
            Some(columns) => MapStep::Select(columns, schema.clone()),
            None => MapStep::Project(expressions, schema.clone()),
        };
        Ok(self.map(input, step, schema))
    }

    /// The same rows under another schema of the same types.
    fn renamed(&mut self, input: usize, schema: &SchemaRef) -> Result<usize> {
        if self.nodes[input].schema == *schema {
            return Ok(input);
        }
        for (a, b) in self.nodes[input].schema.fields().iter().zip(schema.fields()) {
            if a.data_type() != b.data_type() {
                return Err(Error::internal(format!("a union of {} and {}", a.data_type(), b.data_type())));
            }
        }
        let columns = (0..schema.fields().len()).collect();
        // A node of its own: the input may be a chain that ends in another branch's schema.
        let append_only = self.nodes[input].append_only;
        let dealt_by = self.dealt_by[input].clone();
        Ok(self.push(
            NodeKind::Map(vec![MapStep::Select(columns, schema.clone())]),
            vec![input],
            schema.clone(),
            append_only,
            dealt_by,
        ))
    }

    fn exchange(&mut self, input: usize, key: Vec<usize>) -> usize {
        if self.dealt_by[input].as_ref() == Some(&key) {
            return input;
        }
        let (schema, append_only) = (self.nodes[input].schema.clone(), self.nodes[input].append_only);
        self.push(NodeKind::Exchange { key: key.clone() }, vec![input], schema, append_only, Some(key))
    }

    fn constant(&mut self, schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<usize> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch =
            RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("columns of the schema");
        Ok(self.push(NodeKind::Constant(batch), vec![], schema, true, None))
    }

    fn join(&mut self, join: &Join) -> Result<usize> {
        if join.null_aware {
            return self.not_in(join);
        }
        if let Some(rows) = self.rows_at_extreme(join)? {
            return Ok(rows);
        }
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            JoinType::LeftSemi => JoinKind::LeftSemi,
            JoinType::RightSemi => JoinKind::RightSemi,
            JoinType::LeftAnti => JoinKind::LeftAnti,
            JoinType::RightAnti => JoinKind::RightAnti,
            JoinType::LeftMark => JoinKind::LeftMark,
            JoinType::RightMark => JoinKind::RightMark,
        };
        let plans = [&join.left, &join.right];
        let mut inputs = Vec::new();
        let mut keys: [Vec<usize>; 2] = [vec![], vec![]];
        let mut widths = Vec::new();
        let (on, arranged) = self.arranged_sides(join, kind);
        let mut kept = [None, None];
        for port in 0..2 {
            let width = plans[port].schema().fields().len();
            if let Some(side) = &arranged[port] {
                let (input, key, spec) = self.arranged_side(side, relaxed(plans[port].schema()));
                kept[port] = Some(spec);
                inputs.push(input);
                keys[port] = key;
                widths.push(width);
                continue;
            }
            let input = self.node(plans[port])?;
            let exprs: Vec<&Expr> = on.iter().map(|(l, r)| if port == 0 { l } else { r }).collect();
            let (input, key) = self.key_columns(input, plans[port].schema(), &exprs)?;
            let input = self.exchange(input, key.clone());
            inputs.push(input);
            keys[port] = key;
            widths.push(width);
        }
        let schemas: Vec<SchemaRef> = inputs.iter().map(|&i| self.nodes[i].schema.clone()).collect();
        let (temporal, lasting) = temporal::split(join.filter.as_ref());
        let (kind, lasting) = match at_arrival(lasting) {
            (true, rest) => (self.look_up(kind, &inputs, &keys)?, rest),
            (false, rest) => (kind, rest),
        };
        if !temporal.is_empty() && kind != JoinKind::Inner {
            return Err(temporal::misplaced());
        }
        let (filter, filter_columns) = self.join_filter(join, lasting.as_ref(), schemas[0].fields().len())?;
        let filter = filter.map(|filter| (filter, filter_columns));
        let inputs = [inputs[0], inputs[1]];
        let nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        let node = self.join_node(kind, inputs, keys, filter, nulls_equal)?;
        if let NodeKind::Join(spec) = &mut self.nodes[node].kind {
            spec.sides.iter_mut().zip(kept).for_each(|(side, kept)| side.kept = kept);
        }
        let output = self.nodes[node].schema.clone();
        // Without the columns that were only computed for the key.
        let named = relaxed(&join.schema);
        let mut columns = Vec::new();
        let mut offset = 0;
        for port in 0..2 {
            if kind.keeps(port) {
                columns.extend(offset..offset + widths[port]);
                offset += schemas[port].fields().len();
            }
        }
        if matches!(kind, JoinKind::LeftMark | JoinKind::RightMark) {
            columns.push(offset);
        }
        let mut node = node;
        if columns.len() != output.fields().len() || *named != *output {
            node = self.map(node, MapStep::Select(columns, named.clone()), named);
        }
        for condition in temporal {
            node = self.filter(node, &join.schema, &condition)?;
        }
        Ok(node)
    }

    /// The kind of a join whose left rows meet the right ones as they are when they come.
    fn look_up(&self, kind: JoinKind, inputs: &[usize], keys: &[Vec<usize>; 2]) -> Result<JoinKind> {
        let what = "FOR SYSTEM_TIME AS OF PROCTIME()";
        if !self.nodes[inputs[0]].append_only {
            let error = Error::unsupported(format!("{what} after rows that can be taken back"));
            return Err(error.hint("The left side must be a stream, or what only filters or joins streams. Join the relation itself: the result then follows its changes."));
        }
        match kind {
            _ if keys[0].is_empty() => Err(Error::unsupported(format!("{what} without an equality between the sides"))),
            JoinKind::Inner => Ok(JoinKind::Lookup),
            JoinKind::Left => Ok(JoinKind::LeftLookup),
            _ => Err(Error::unsupported(format!("{what} in this kind of join"))),
        }
    }

    /// Of inputs that are dealt by the keys. `filter`: with the columns of left ++ right that it reads.
    fn join_node(
        &mut self,
        kind: JoinKind,
        inputs: [usize; 2],
        keys: [Vec<usize>; 2],
        filter: Option<(Expression, Vec<usize>)>,
        nulls_equal: bool,
    ) -> Result<usize> {
        let schemas = inputs.map(|i| self.nodes[i].schema.clone());
        for (&l, &r) in keys[0].iter().zip(&keys[1]) {
            let (l, r) = (schemas[0].field(l).data_type(), schemas[1].field(r).data_type());
            if l != r {
                return Err(Error::unsupported(format!("a join of {l} with {r}")));
            }
        }
        let mut fields: Vec<Field> = Vec::new();
        for (port, schema) in schemas.iter().enumerate() {
            if kind.keeps(port) {
                fields.extend(schema.fields().iter().map(|f| f.as_ref().clone()));
            }
        }
        if matches!(kind, JoinKind::LeftMark | JoinKind::RightMark) {
            fields.push(Field::new("mark", DataType::Boolean, true));
        }
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let append_only_inputs = inputs.iter().all(|&i| self.nodes[i].append_only);
        let append_only = kind.is_lookup()
            || append_only_inputs && matches!(kind, JoinKind::Inner | JoinKind::LeftSemi | JoinKind::RightSemi);
        let dealt_by = match kind {
            JoinKind::Full => None,
            JoinKind::Right => Some(keys[1].iter().map(|k| k + schemas[0].fields().len()).collect()),
            JoinKind::RightSemi | JoinKind::RightAnti | JoinKind::RightMark => Some(keys[1].clone()),
            _ => Some(keys[0].clone()),
        };
        let side = |port: usize| SideSpec {
            schema: schemas[port].clone(),
            key: keys[port].clone(),
            append_only: self.nodes[inputs[port]].append_only,
            expiry: None,
            kept: None,
        };
        let (filter, filter_columns) = filter.map_or((None, vec![]), |(filter, columns)| (Some(filter), columns));
        let spec =
            JoinSpec { kind, sides: [side(0), side(1)], nulls_equal, filter, filter_columns, output: output.clone() };
        Ok(self.push(NodeKind::Join(Box::new(spec)), inputs.to_vec(), output, append_only, dealt_by))
    }

    /// The key's columns; expressions that are not columns are computed and added at the end.
    fn key_columns(&mut self, input: usize, schema: &DFSchema, exprs: &[&Expr]) -> Result<(usize, Vec<usize>)> {
        let compiled = exprs.iter().map(|e| self.expression(e, schema)).collect::<Result<Vec<_>>>()?;
        let width = schema.fields().len();
        let mut fields: Vec<Field> = self.nodes[input].schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut all: Vec<Expression> = fields
            .iter()
            .enumerate()
            .map(|(i, f)| Arc::new(datafusion::physical_expr::expressions::Column::new(f.name(), i)) as Expression)
            .collect();
        let mut key = Vec::new();
        for (expr, e) in exprs.iter().zip(compiled) {
            match e.downcast_ref::<datafusion::physical_expr::expressions::Column>() {
                Some(column) => key.push(column.index()),
                None => {
                    let data_type = e.data_type(schema.as_arrow()).map_err(error_from)?;
                    key.push(fields.len());
                    fields.push(Field::new(expr.schema_name().to_string(), data_type, true));
                    all.push(e);
                }
            }
        }
        if fields.len() == width {
            return Ok((input, key));
        }
        let schema = Arc::new(Schema::new(fields));
        Ok((self.map(input, MapStep::Project(all, schema.clone()), schema), key))
    }

    /// The join's further condition over just the columns that it names, counted in left ++ right, where
    /// the left is `left_width` columns wide.
    fn join_filter(
        &self,
        join: &Join,
        filter: Option<&Expr>,
        left_width: usize,
    ) -> Result<(Option<Expression>, Vec<usize>)> {
        let Some(filter) = filter else { return Ok((None, vec![])) };
        let (left, right) = (join.left.schema(), join.right.schema());
        let mut columns: Vec<usize> = Vec::new();
        let mut fields = Vec::new();
        let mut names: Vec<Column> = filter.column_refs().into_iter().cloned().collect();
        names.sort();
        for name in &names {
            let (index, (qualifier, field)) = if let Ok(i) = left.index_of_column(name) {
                (i, left.qualified_field(i))
            } else {
                let i = right.index_of_column(name).map_err(error_from)?;
                (i + left_width, right.qualified_field(i))
            };
            columns.push(index);
            fields.push((qualifier.cloned(), field.clone()));
        }
        let schema = DFSchema::new_with_metadata(fields, Default::default()).map_err(error_from)?;
        Ok((Some(self.expression(filter, &schema)?), columns))
    }
}

trait UnaliasRef {
    fn unalias_ref(&self) -> &Expr;
}
impl UnaliasRef for Expr {
    fn unalias_ref(&self) -> &Expr {
        match self {
            Expr::Alias(alias) => alias.expr.unalias_ref(),
            e => e,
        }
    }
}

/// What an expression may not hold once the optimizer is done.
fn unsupported_in(expr: &Expr) -> Option<&'static str> {
    let mut found = None;
    expr.apply(|e| {
        found = found.or(match e {
            Expr::ScalarSubquery(_) => Some("this scalar subquery"),
            Expr::Exists(_) | Expr::InSubquery(_) => Some("EXISTS or IN (subquery) in this place"),
            Expr::OuterReferenceColumn(..) => Some("this correlated subquery"),
            Expr::WindowFunction(_) => Some("a window function (OVER)"),
            _ => None,
        });
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("looking does not fail");
    found
}

fn in_view(what: &str) -> Error {
    Error::unsupported(format!("{what} in a materialized view"))
}

/// Whether a join's condition says that left rows meet the right ones as they are when they come, and the rest of it.
fn at_arrival(condition: Option<Expr>) -> (bool, Option<Expr>) {
    let is_mark = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if call.name() == system_time::AT_ARRIVAL);
    let parts = condition.iter().flat_map(split_conjunction).cloned();
    let (marks, rest): (Vec<Expr>, Vec<Expr>) = parts.partition(is_mark);
    (!marks.is_empty(), conjunction(rest))
}
