//! Subscripts behind a column that is named with its table, which sqlparser takes for fields of the table.

use sqlparser::ast::{AccessExpr, Expr};

/// `t.a[1]`: the name of the table goes with that of the column.
pub fn with_table(root: Box<Expr>, mut chain: Vec<AccessExpr>) -> (Box<Expr>, Vec<AccessExpr>) {
    let mut name = match root.as_ref() {
        Expr::Identifier(table) => vec![table.clone()],
        Expr::CompoundIdentifier(parts) => parts.clone(),
        _ => return (root, chain),
    };
    let dots = chain.iter().take_while(|access| matches!(access, AccessExpr::Dot(Expr::Identifier(_)))).count();
    let only_subscripts = chain[dots..].iter().all(|access| matches!(access, AccessExpr::Subscript(_)));
    if dots == 0 || dots == chain.len() || !only_subscripts {
        return (root, chain);
    }
    for access in chain.drain(..dots) {
        if let AccessExpr::Dot(Expr::Identifier(part)) = access {
            name.push(part);
        }
    }
    (Box::new(Expr::CompoundIdentifier(name)), chain)
}
