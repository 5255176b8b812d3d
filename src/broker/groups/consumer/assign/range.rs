//! Owns the `range` assignor: each topic's partitions are cut into ranges, one for each member that subscribes to it.
//!
//! Members stand in the same order for every topic, so topics with as many partitions are cut alike, and members that
//! join them by key find both sides of a key in one place. Static members come first, in the order of their instance
//! ids: they keep their ranges when they come back under other member ids.

use std::collections::BTreeMap;

use super::super::super::group::Name;
use super::super::member::Partitions;
use super::Spec;

pub(super) fn assign(spec: &Spec<'_>) -> BTreeMap<Name, Partitions> {
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|i| {
        let member = &spec.members[*i];
        (member.instance.is_none(), member.instance, member.id)
    });
    let mut parts = vec![Partitions::new(); spec.members.len()];
    for (topic, count) in &spec.topics {
        let takers: Vec<usize> = order.iter().copied().filter(|i| spec.subscribes(*i, topic)).collect();
        let Some(each) = count.checked_div(takers.len() as i32) else { continue };
        let mut extra = count % takers.len() as i32;
        let mut next = 0;
        for taker in takers {
            let end = next + each + i32::from(extra > 0);
            extra -= 1;
            if end > next {
                parts[taker].insert(*topic, (next..end).collect());
            }
            next = end;
        }
    }
    spec.result(parts)
}
