//! UNNEST. Where it is of the windows of a HOP, rows of one pane, the time between two starts of windows, are in the same
//! windows: equal ones are merged before they are multiplied.

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Unnest};

use super::{Lowering, UnaliasRef, in_view, relaxed};
use crate::error::Result;
use crate::operators::map::MapStep;
use crate::operators::unnest::UnnestSpec;
use crate::plan::NodeKind;
use crate::sql::bind::error_from;
use crate::sql::functions::windows::window_length;

impl Lowering<'_> {
    pub(super) fn unnest(&mut self, unnest: &Unnest) -> Result<usize> {
        let input = match self.hop_panes(unnest)? {
            Some(input) => input,
            None => self.node(&unnest.input)?,
        };
        let mut lists: Vec<usize> = Vec::new();
        for (list, column) in &unnest.list_type_columns {
            if column.depth != 1 || lists.contains(list) || !unnest.struct_type_columns.is_empty() {
                return Err(in_view("UNNEST of nested lists or of structs"));
            }
            if !matches!(self.nodes[input].schema.field(*list).data_type(), DataType::List(_)) {
                return Err(in_view("UNNEST of this type of list"));
            }
            lists.push(*list);
        }
        let output = relaxed(&unnest.schema);
        let spec = UnnestSpec {
            lists: lists.clone(),
            columns: unnest.dependency_indices.clone(),
            keep_nulls: unnest.options.null_handling == datafusion::common::NullHandling::Preserve,
            output: output.clone(),
        };
        let append_only = self.nodes[input].append_only;
        let dealt_by = self.dealt_by[input]
            .as_ref()
            .filter(|d| !lists.iter().any(|list| d.contains(list)))
            .and_then(|d| d.iter().map(|k| spec.columns.iter().position(|c| c == k)).collect());
        Ok(self.push(NodeKind::Unnest(spec), vec![input], output, append_only, dealt_by))
    }

    /// The input of an UNNEST of windows with its rows merged; `None` where that is nothing for it: the windows are not of
    /// whole panes, or the time is used for more.
    ///
    /// ```text
    ///   project k, hop_starts(t)   ─►   project k, end_of_pane(t) AS t; merge equal rows; project k, hop_starts(t)
    /// ```
    /// The end of the pane, its last microsecond, since no promise that was made of the time is lost with it.
    fn hop_panes(&mut self, unnest: &Unnest) -> Result<Option<usize>> {
        let (LogicalPlan::Projection(projection), [(list, _)]) = (unnest.input.as_ref(), &unnest.list_type_columns[..])
        else {
            return Ok(None);
        };
        let Expr::ScalarFunction(starts) = projection.expr[*list].unalias_ref() else { return Ok(None) };
        let [time, slide, size, offset] = &starts.args[..] else { return Ok(None) };
        let (Some(slide_us), Some(size_us)) = (length_us(slide), length_us(size)) else { return Ok(None) };
        let others = projection.expr.iter().enumerate().filter(|(i, _)| i != list);
        let others: Vec<&Column> = others.flat_map(|(_, expr)| expr.column_refs()).collect();
        let is_whole = slide_us > 0 && size_us % slide_us == 0;
        if starts.name() != "mr_hop_starts" || !is_whole || time.column_refs().iter().any(|c| others.contains(c)) {
            return Ok(None);
        }
        let call = |name: &str, args: Vec<Expr>| {
            let function = self.state.scalar_functions().get(name).expect("a function of our own").clone();
            Expr::ScalarFunction(ScalarFunction::new_udf(function, args))
        };
        let (qualifier, field) = projection.schema.qualified_field(*list);
        let start = call("mr_window_start", vec![time.clone(), slide.clone(), offset.clone()]);
        let Some(rest_ns) = (slide_us - 1).checked_mul(1000) else { return Ok(None) };
        let rest = IntervalMonthDayNano::new(0, 0, rest_ns);
        let rest = Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(rest)), None);
        let pane = call("mr_shift", vec![start, rest]);
        let DataType::List(item) = field.data_type() else { return Ok(None) };
        let mut fields: Vec<_> = projection.schema.iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        fields[*list].1 = field.as_ref().clone().with_data_type(item.data_type().clone()).into();
        let panes = DFSchema::new_with_metadata(fields, Default::default()).map_err(error_from)?;
        let column = |i: usize| Expr::Column(panes.qualified_field(i).into());
        let mut below = projection.expr.clone();
        below[*list] = pane.alias_qualified(qualifier.cloned(), field.name());
        let mut above: Vec<Expr> = (0..below.len()).map(column).collect();
        above[*list] = call("mr_hop_starts", vec![column(*list), slide.clone(), size.clone(), offset.clone()]);

        let input = self.node(&projection.input)?;
        let input = self.project(input, projection.input.schema(), &below, relaxed(&panes))?;
        let input = self.map(input, MapStep::Merge, relaxed(&panes));
        Ok(Some(self.project(input, &panes, &above, relaxed(&projection.schema))?))
    }
}

fn length_us(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(length)), _) => window_length(*length).ok(),
        _ => None,
    }
}
