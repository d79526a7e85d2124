//! Which racks there are, which of them run a gear, and how the racks of two gears lie to each other.

use std::collections::{BTreeMap, BTreeSet};

use fluxrig_actors::protocol::subject::Name;

use super::RackEntry;

/// Every rack that a scenario can run on: those that it names, and one that stands for each group.
#[derive(Debug)]
pub(crate) struct Universe {
    pub(crate) racks: Vec<Place>,
    /// Which of them a rack's name or a group's name means, in order.
    members: BTreeMap<Name, BTreeSet<usize>>,
}

/// One rack.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` where it only stands for a group.
    pub(crate) name: Option<Name>,
    /// Groups it is of.
    groups: BTreeSet<Name>,
}

impl Universe {
    pub(crate) fn new<'r>(racks: impl Iterator<Item = &'r RackEntry> + Clone) -> Self {
        let groups: Vec<(&Name, &BTreeMap<String, String>)> =
            racks.clone().filter_map(|rack| rack.group.as_ref().map(|group| (group, &rack.matches))).collect();
        let place = |name: Option<&Name>, labels: &BTreeMap<String, String>| Place {
            name: name.cloned(),
            groups: groups
                .iter()
                .filter(|(_, matches)| matches.iter().all(|(key, value)| labels.get(key) == Some(value)))
                .map(|(group, _)| (*group).clone())
                .collect(),
        };
        let named = racks.filter_map(|rack| rack.name.as_ref().map(|name| place(Some(name), &rack.labels)));
        let mut all: Vec<Place> = named.collect();
        all.extend(groups.iter().map(|(_, matches)| place(None, matches)));
        if all.is_empty() {
            all.push(Place { name: None, groups: BTreeSet::new() });
        }
        let mut members: BTreeMap<Name, BTreeSet<usize>> = BTreeMap::new();
        for (idx, place) in all.iter().enumerate() {
            for name in place.name.iter().chain(&place.groups) {
                members.entry(name.clone()).or_default().insert(idx);
            }
        }
        Self { racks: all, members }
    }

    /// Whether `deploy` can mean a rack here.
    pub(crate) fn knows(&self, deploy: &Name) -> bool {
        self.members.contains_key(deploy)
    }

    /// Which racks run a gear; `None` is all of them, as is a name that was refused before.
    pub(crate) fn members(&self, deploy: &Option<Name>) -> Option<&BTreeSet<usize>> {
        let members = deploy.as_ref().and_then(|deploy| self.members.get(deploy));
        members.filter(|members| members.len() < self.racks.len())
    }

    /// Whether two gears can run on one rack.
    pub(crate) fn meet(&self, left: &Option<Name>, right: &Option<Name>) -> bool {
        match (self.members(left), self.members(right)) {
            (Some(left), Some(right)) => !left.is_disjoint(right),
            _ => true,
        }
    }

    /// How the racks of two gears lie to each other.
    pub(crate) fn relation(&self, left: &Option<Name>, right: &Option<Name>) -> Relation {
        match (self.members(left), self.members(right)) {
            (left, right) if left == right => Relation::Together,
            (Some(left), Some(right)) if left.is_disjoint(right) => Relation::Apart,
            _ => Relation::Partly,
        }
    }

    /// The names of the racks that run a gear; of a group without any, none.
    pub(crate) fn names(&self, deploy: &Option<Name>) -> Vec<Name> {
        let members = self.members(deploy);
        let places = self.racks.iter().enumerate();
        let here = places.filter(|(idx, _)| members.is_none_or(|members| members.contains(idx)));
        here.filter_map(|(_, place)| place.name.clone()).collect()
    }

    /// The gears of each rack that differs from the others, and the name of one such rack; `deploys` says where each
    /// gear runs.
    pub(crate) fn subsets(&self, deploys: &[&Option<Name>]) -> BTreeMap<Vec<usize>, Option<Name>> {
        let mut by_name: BTreeMap<&Option<Name>, Vec<usize>> = BTreeMap::new();
        for (idx, deploy) in deploys.iter().enumerate() {
            let is_everywhere = self.members(deploy).is_none();
            by_name.entry(if is_everywhere { &None } else { deploy }).or_default().push(idx);
        }
        // Racks that run the same names run the same gears: only these few are spelled out.
        let names = |place: &Place| -> BTreeSet<Option<Name>> {
            let names = place.name.iter().chain(&place.groups).cloned().map(Some).chain([None]);
            names.filter(|name| by_name.contains_key(name)).collect()
        };
        let distinct: BTreeMap<BTreeSet<Option<Name>>, Option<Name>> =
            self.racks.iter().rev().map(|place| (names(place), place.name.clone())).collect();
        let gears = |names: &BTreeSet<Option<Name>>| {
            let mut gears: Vec<usize> = names.iter().flat_map(|name| by_name[name].iter().copied()).collect();
            gears.sort_unstable();
            gears
        };
        distinct.into_iter().map(|(names, rack)| (gears(&names), rack)).collect()
    }
}

/// How the racks of two gears lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// They are the same: a wire stays inside each.
    Together,
    /// None is both: a wire goes over the bus.
    Apart,
    /// Some are both and some are not: which is meant cannot be said.
    Partly,
}
