//! Windows with names: `OVER w`, `OVER (w ORDER BY …)` and `WINDOW w AS (other …)` get the whole of what they mean.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SetExpr, VisitMut, WindowSpec, WindowType,
};

use crate::error::{Error, Result};
use crate::sql::outside::visit_outside_mut;
use crate::sql::parse::fold;

/// Puts in what the names of windows stand for, in a SELECT and its ORDER BY. Errors: 42704 for a name that is not
/// there, 42P20 for a window that says again what the one it is made from says.
pub fn resolve(select: &mut Select) -> Result<()> {
    let mut known: Vec<(String, WindowSpec)> = Vec::new();
    for NamedWindowDefinition(name, definition) in &mut select.named_window {
        let spec = match definition {
            NamedWindowExpr::NamedWindow(other) => found(&known, other)?,
            NamedWindowExpr::WindowSpec(spec) => made(&known, spec.clone())?,
        };
        *definition = NamedWindowExpr::WindowSpec(spec.clone());
        known.push((fold(name), spec));
    }
    spell_out(&mut select.projection, &known)
}

/// The same in the ORDER BY of a query whose SELECT names windows.
pub fn resolve_order(query: &mut Query) -> Result<()> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Ok(()) };
    let Some(order) = query.order_by.as_mut().filter(|_| !select.named_window.is_empty()) else { return Ok(()) };
    resolve(select)?;
    let known: Vec<(String, WindowSpec)> = select
        .named_window
        .iter()
        .filter_map(|NamedWindowDefinition(name, definition)| match definition {
            NamedWindowExpr::WindowSpec(spec) => Some((fold(name), spec.clone())),
            NamedWindowExpr::NamedWindow(_) => None,
        })
        .collect();
    spell_out(order, &known)
}

fn found(known: &[(String, WindowSpec)], name: &Ident) -> Result<WindowSpec> {
    let name = fold(name);
    let spec = known.iter().find(|(other, _)| *other == name).map(|(_, spec)| spec.clone());
    spec.ok_or_else(|| Error::new("42704", format!("window \"{name}\" does not exist")))
}

/// A window with the parts of the one it names, which may not have a frame.
fn made(known: &[(String, WindowSpec)], mut spec: WindowSpec) -> Result<WindowSpec> {
    let Some(name) = spec.window_name.take() else { return Ok(spec) };
    let base = found(known, &name)?;
    let wrong = |what: &str| Err(Error::new("42P20", format!("cannot {what} of window \"{}\"", fold(&name))));
    if !spec.partition_by.is_empty() {
        return wrong("override PARTITION BY clause");
    }
    if !spec.order_by.is_empty() && !base.order_by.is_empty() {
        return wrong("override ORDER BY clause");
    }
    if base.window_frame.is_some() {
        let message = format!("cannot copy window \"{}\" because it has a frame clause", fold(&name));
        return Err(Error::new("42P20", message));
    }
    spec.partition_by = base.partition_by;
    if spec.order_by.is_empty() {
        spec.order_by = base.order_by;
    }
    Ok(spec)
}

/// Puts what named windows are in their places, but not in subqueries, whose windows are their own.
fn spell_out(node: &mut impl VisitMut, known: &[(String, WindowSpec)]) -> Result<()> {
    let visited = visit_outside_mut(node, |expr| {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let spec = match &function.over {
            Some(WindowType::NamedWindow(name)) => found(known, name),
            Some(WindowType::WindowSpec(spec)) if spec.window_name.is_some() => made(known, spec.clone()),
            _ => return ControlFlow::Continue(()),
        };
        match spec {
            Ok(spec) => {
                function.over = Some(WindowType::WindowSpec(spec));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    });
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}
