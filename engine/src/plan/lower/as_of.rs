//! ASOF joins.

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use super::{Lowering, relaxed};
use crate::error::Result;
use crate::operators::as_of::{AsOfSide, AsOfSpec};
use crate::plan::NodeKind;
use crate::sql::as_of::{AsOf, check_types};
use crate::sql::bind::error_from;

impl Lowering<'_> {
    pub(super) fn as_of(&mut self, join: &AsOf, schema: &DFSchema) -> Result<usize> {
        let sides = join.sides().map_err(error_from)?;
        let of_left: Vec<&Expr> = sides.keys.iter().map(|(l, _)| *l).chain([sides.order.0]).collect();
        let of_right: Vec<&Expr> = sides.keys.iter().map(|(_, r)| *r).chain([sides.order.1]).collect();
        let mut inputs = Vec::new();
        let mut specs = Vec::new();
        for (plan, exprs) in [(&join.left, of_left), (&join.right, of_right)] {
            let input = self.node(plan)?;
            let (input, mut key) = self.key_columns(input, plan.schema(), &exprs)?;
            let order = key.pop().expect("the order is the last");
            let input = self.exchange(input, key.clone());
            let schema = self.nodes[input].schema.clone();
            check_types(key.iter().chain([&order]).map(|&c| schema.field(c).data_type())).map_err(error_from)?;
            inputs.push(input);
            specs.push(AsOfSide { schema, key, order, width: plan.schema().fields().len() });
        }
        let [left, right] = <[AsOfSide; 2]>::try_from(specs).expect("two sides");
        let output = relaxed(schema);
        // By a key that is a column of the left side.
        let dealt_by = left.key.iter().all(|&k| k < left.width).then(|| left.key.clone());
        let spec = AsOfSpec {
            sides: [left, right],
            back: sides.nearest.is_back(),
            takes_equal: sides.nearest.takes_equal(),
            outer: join.outer,
            output: output.clone(),
            expiry: None,
        };
        Ok(self.push(NodeKind::AsOf(Box::new(spec)), inputs, output, false, dealt_by))
    }
}
