//! Walks along the index on lists, which together have the requests of a page in the order of their first days.

use std::cmp::Ordering;

use sea_orm::sea_query::{Condition, Expr, ExprTrait, SimpleExpr};
use sea_orm::{ColumnTrait, DbBackend};
use uuid::Uuid;

use super::{Part, have_all_open, parts};
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::{Cursor, OrderBy, Query};
use crate::store::entity::booking_request::Column;
use crate::store::query::in_byte_order;

/// A walk along an index: the requests of a group, in one care unit or in all, with or without a first day, in the order of
/// these.
#[derive(Clone, Copy)]
pub struct Walk<'q> {
    /// Part of a group.
    pub part: Part,
    /// Care unit; all when there is none.
    pub unit: Option<&'q HsaId>,
    /// With or without a first day.
    pub first_day: FirstDay,
}

/// The requests that a walk covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstDay {
    /// With one.
    Given,
    /// Without one; they come last.
    Missing,
}

/// Returns the walks that make up a page; `None` when sorting is the better way, or the only one: in another order, when
/// few requests are meant anyway, and when lists are asked for that are not made of groups.
pub fn walks(query: &Query) -> Option<Vec<Walk<'_>>> {
    let parts = parts(query);
    let made_of_groups = |list: &Worklist| match list {
        Worklist::GuaranteeAtRisk => have_all_open(&parts),
        Worklist::All => false,
        Worklist::BookingRequests
        | Worklist::CareInvitations
        | Worklist::FollowUp
        | Worklist::ManualHandling
        | Worklist::SlotIssues
        | Worklist::Declined
        | Worklist::AllInvitations
        | Worklist::AllBookingRequests => true,
    };
    let in_order = query.order_by == OrderBy::StartDate
        && !query.names_its_subject()
        && query.worklists.iter().all(made_of_groups);
    if !in_order {
        return None;
    }
    let units: Vec<Option<&HsaId>> = match query.care_units.named() {
        Some(named) => named.into_iter().map(Some).collect(),
        None => vec![None],
    };
    let mut walks = Vec::new();
    // Requests without a period come last.
    for first_day in [FirstDay::Given, FirstDay::Missing] {
        for part in &parts {
            let of_part = units.iter().map(|unit| Walk {
                part: *part,
                unit: *unit,
                first_day,
            });
            walks.extend(of_part);
        }
    }
    Some(walks)
}

/// The first day and the id of a request in a walk of one care unit; of no request in one that has not begun.
pub type Place = (i32, Uuid);
/// The place before all requests.
pub const BEGIN: Place = (i32::MIN, Uuid::nil());

impl Walk<'_> {
    /// Returns the condition of its requests after a cursor; `None` when there can be none.
    pub fn after(self, backend: DbBackend, after: Option<&Cursor>) -> Option<Condition> {
        let all = Condition::all().add(self.first_day.condition());
        let Some(after) = after else { return Some(all) };
        if let Some(unit) = self.unit {
            let (day, id) = self.place_after(unit, after)?;
            let place = (Expr::val(day), Expr::val(id));
            return Some(all.add(self.first_day.is_after(place)));
        }
        let day = i32::try_from(after.sort_key[0]).ok();
        match (self.first_day, day) {
            (FirstDay::Given, Some(day)) => {
                let day = SimpleExpr::from(day);
                let first = Expr::col(Column::StartDay);
                let from = first.clone().gte(day.clone());
                Some(
                    all.add(from)
                        .add(after_place(backend, vec![first], vec![day], after)),
                )
            }
            // All that have a first day came before.
            (FirstDay::Given, None) => None,
            (FirstDay::Missing, Some(_)) => Some(all),
            (FirstDay::Missing, None) => Some(all.add(after_place(backend, vec![], vec![], after))),
        }
    }

    /// Returns the place behind which its requests of a care unit are after a cursor; `None` when there can be none.
    pub fn place_after(self, unit: &HsaId, after: &Cursor) -> Option<Place> {
        let day = i32::try_from(after.sort_key[0]).ok();
        let order = unit.cmp(&after.key.care_unit);
        match (self.first_day, day, order) {
            (FirstDay::Given, Some(day), Ordering::Less) => Some((day, Uuid::max())),
            (FirstDay::Given, Some(day), Ordering::Equal) => Some((day, after.key.id)),
            (FirstDay::Given, Some(day), Ordering::Greater) => {
                Some((day.saturating_sub(1), Uuid::max()))
            }
            // All that have a first day came before.
            (FirstDay::Given, None, _) => None,
            (FirstDay::Missing, Some(_), _) => Some(BEGIN),
            (FirstDay::Missing, None, Ordering::Less) => None,
            (FirstDay::Missing, None, Ordering::Equal) => Some((BEGIN.0, after.key.id)),
            (FirstDay::Missing, None, Ordering::Greater) => Some(BEGIN),
        }
    }
}

impl FirstDay {
    /// Returns the condition of the requests with or without a first day.
    pub fn condition(self) -> SimpleExpr {
        match self {
            FirstDay::Given => Column::StartDay.is_not_null(),
            FirstDay::Missing => Column::StartDay.is_null(),
        }
    }

    /// Returns the condition of the requests of a care unit after a place.
    pub fn is_after(self, (day, id): (SimpleExpr, SimpleExpr)) -> SimpleExpr {
        let [of_day, of_id] = [Column::StartDay, Column::Id].map(Expr::col);
        match self {
            FirstDay::Given => Expr::tuple([of_day, of_id]).gt(Expr::tuple([day, id])),
            FirstDay::Missing => of_id.gt(id),
        }
    }
}

/// Returns the condition of the requests after these values, and after the key of a cursor where they are the same.
pub fn after_place(
    backend: DbBackend,
    mut columns: Vec<SimpleExpr>,
    mut values: Vec<SimpleExpr>,
    after: &Cursor,
) -> SimpleExpr {
    columns.push(in_byte_order(backend, Expr::col(Column::CareUnit)));
    columns.push(Expr::col(Column::Id));
    values.push(Expr::val(after.key.care_unit.as_str()));
    values.push(Expr::val(after.key.id));
    Expr::tuple(columns).gt(Expr::tuple(values))
}
