//! What a query says twice is computed once: nodes that do the same with the same inputs become one, with several users.
//!
//! ```text
//!   Join                              Join
//!     Aggregate by k: count(*)          Aggregate by k: count(*)     ◄── computed once
//!       Import t                          Import t
//!     Aggregate by m: max(n)            Aggregate by m: max(n)
//!       Aggregate by k: count(*)          └── of the same
//!         Import t
//! ```

use std::collections::HashMap;
use std::mem::discriminant;

use super::Node;

/// Inputs still come before their users, and the last node is still the result.
pub fn share(nodes: Vec<Node>) -> Vec<Node> {
    let mut shared: Vec<Node> = Vec::with_capacity(nodes.len());
    // By what is cheap to compare: which of the shared nodes could be the same.
    let mut known: HashMap<_, Vec<usize>> = HashMap::new();
    let mut places: Vec<usize> = Vec::with_capacity(nodes.len());
    let last = nodes.len() - 1;
    for (index, mut node) in nodes.into_iter().enumerate() {
        node.inputs.iter_mut().for_each(|input| *input = places[*input]);
        let alike = known.entry((discriminant(&node.kind), node.inputs.clone())).or_default();
        let place = alike.iter().copied().find(|&other| index < last && shared[other] == node).unwrap_or_else(|| {
            alike.push(shared.len());
            shared.push(node);
            shared.len() - 1
        });
        places.push(place);
    }
    shared
}
