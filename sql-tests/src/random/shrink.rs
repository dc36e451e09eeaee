//! Drops what a failure does not need: delta debugging over the steps of a case (Zeller and Hildebrandt,
//! "Simplifying and Isolating Failure-Inducing Input"), largest pieces first, then one step at a time.

use std::time::Instant;

use super::Case;

/// The smallest case found before the deadline of which `fails` says yes. `fails` is costly: it runs a case.
pub fn shrink(case: &Case, deadline: Instant, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut piece = best.steps.len().div_ceil(2);
    while piece > 0 {
        let mut start = 0;
        let mut smaller = false;
        while start < best.steps.len() {
            if Instant::now() >= deadline {
                return best;
            }
            let end = (start + piece).min(best.steps.len());
            let mut candidate = best.clone();
            candidate.steps.drain(start..end);
            if fails(&candidate) {
                best = candidate;
                smaller = true;
            } else {
                start = end;
            }
        }
        if !smaller || piece > 1 {
            piece /= 2;
        }
    }
    if best.workers > 1 {
        let candidate = Case { workers: 1, ..best.clone() };
        if fails(&candidate) {
            best = candidate;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::random::Step;

    #[test]
    fn keeps_what_is_needed() {
        let steps = (0..40).map(|i| Step::Sql(i.to_string())).collect();
        let case = Case { workers: 3, steps };
        let needs = |c: &Case| ["7", "20", "21"].iter().all(|n| c.steps.contains(&Step::Sql(n.to_string())));
        let small = shrink(&case, Instant::now() + Duration::from_secs(10), needs);
        let left: Vec<String> = small.steps.iter().map(Step::to_string).collect();
        assert_eq!((small.workers, left.join("")), (1, "7;20;21;".to_string()));
    }
}
