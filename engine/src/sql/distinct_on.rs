//! DISTINCT ON beside an ORDER BY that says less, or the same in another order: DataFusion wants the one to begin with the
//! other.
//!
//! ```text
//!   SELECT DISTINCT ON (a, b) … ORDER BY b        SELECT DISTINCT ON (b, a) … ORDER BY b, a
//!   SELECT DISTINCT ON (a) … ORDER BY b           as it is: an error
//! ```

use sqlparser::ast::{Distinct, Expr, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Query, SetExpr};

/// Makes them agree where they may.
pub fn agree(query: &mut Query) {
    let Query { body, order_by: Some(OrderBy { kind: OrderByKind::Expressions(order), .. }), .. } = query else {
        return;
    };
    let SetExpr::Select(select) = body.as_mut() else { return };
    let Some(Distinct::On(on)) = &mut select.distinct else { return };
    let mut rest: Vec<Expr> = std::mem::take(on);
    let leading = order.iter().map_while(|item| {
        let at = rest.iter().position(|expr| *expr == item.expr)?;
        Some(rest.remove(at))
    });
    let mut agreed: Vec<Expr> = leading.collect();
    // What comes behind an item that is none of them could not be said first.
    if agreed.len() == order.len() {
        let options = OrderByOptions { asc: None, nulls_first: None };
        let item = |expr: &Expr| OrderByExpr { expr: expr.clone(), options: options.clone(), with_fill: None };
        order.extend(rest.iter().map(item));
    }
    agreed.append(&mut rest);
    *on = agreed;
}
