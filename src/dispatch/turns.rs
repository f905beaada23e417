//! The care units in which a subscription has something to claim, which take turns.

use std::collections::{HashSet, VecDeque};

use crate::domain::hsa_id::HsaId;

/// The care units in which something is due, in the order of their turns. Each is there once.
#[derive(Debug, Default)]
pub struct Turns {
    order: VecDeque<HsaId>,
    known: HashSet<HsaId>,
}

impl Turns {
    /// Returns whether nothing is due anywhere.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds care units in which something has just fallen due: before all that have had a turn, which may have many more.
    pub fn add_first(&mut self, care_units: impl IntoIterator<Item = HsaId>) {
        for care_unit in care_units {
            if self.known.insert(care_unit.clone()) {
                self.order.push_front(care_unit);
            }
        }
    }

    /// Adds care units that have had their turn and may have more.
    pub fn add_last(&mut self, care_units: impl IntoIterator<Item = HsaId>) {
        for care_unit in care_units {
            if self.known.insert(care_unit.clone()) {
                self.order.push_back(care_unit);
            }
        }
    }

    /// Takes the care units whose turn it is, at most so many.
    pub fn take(&mut self, count_max: usize) -> Vec<HsaId> {
        let count = count_max.min(self.order.len());
        let taken: Vec<HsaId> = self.order.drain(..count).collect();
        for care_unit in &taken {
            self.known.remove(care_unit);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(number: usize) -> HsaId {
        HsaId::from_stored(format!("SE2321000131-P{number}"))
    }

    #[test]
    fn what_has_just_fallen_due_goes_before_what_has_had_a_turn() {
        let mut turns = Turns::default();
        turns.add_last((0..4).map(unit));
        let taken = turns.take(2);
        assert_eq!(taken, [unit(0), unit(1)]);
        turns.add_last(taken);
        turns.add_first([unit(9), unit(2)]);
        assert_eq!(turns.take(2), [unit(9), unit(2)]);
        assert_eq!(turns.take(9), [unit(3), unit(0), unit(1)]);
        assert!(turns.is_empty());
    }
}
