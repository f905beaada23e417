//! Counts that are kept: what is counted once, and what makes it be counted again.

use care_invitation::contract::v1;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

use crate::harness::{Harness, within};
use crate::make;

/// The requests of a list, as they are counted.
async fn counted(harness: &Harness, list: v1::Worklist) -> i64 {
    let count = make::wire_count(vec![make::wire_unit()]);
    let answer = within(harness.worklists().count_worklists(count)).await;
    let counts = answer.expect("counted").into_inner().counts;
    let of_list = counts.iter().find(|it| it.worklist() == list);
    of_list.expect("every list").count
}

async fn create(harness: &Harness, referral: &str) -> String {
    let form = v1::BookingRequest {
        origin: Some(make::wire_referral(referral)),
        ..make::wire_form("2026-04-06", "2026-06-12")
    };
    let created = harness.create(make::wire_create(form)).await;
    created.expect("created").name
}

/// Takes all requests out of their lists, beside the service, or puts them back into the list of invitations.
async fn alter(database: &DatabaseConnection, group: &str) {
    let sql = format!("UPDATE booking_request SET worklist_group = {group}");
    database.execute_unprepared(&sql).await.expect("altered");
}

#[tokio::test]
async fn what_nothing_has_changed_is_not_counted_again() {
    let harness = Harness::start("2026-03-02T09:00:00Z").await;
    let first = create(&harness, "R-1").await;
    create(&harness, "R-2").await;
    let list = v1::Worklist::CareInvitations;
    let database = Database::connect(harness.backend.url()).await;
    let database = database.expect("a connection");
    // A replica gives nothing that is kept before it has followed the others.
    let kept = async {
        loop {
            alter(&database, "2").await;
            let before = counted(&harness, list).await;
            alter(&database, "NULL").await;
            if counted(&harness, list).await == before {
                return;
            }
        }
    };
    within(kept).await;
    alter(&database, "2").await;
    let cancelled = harness.cancel(make::wire_cancel(&first)).await;
    cancelled.expect("cancelled");
    assert_eq!(counted(&harness, list).await, 1, "a commit changes it");
    database.close().await.expect("closed");
}

#[tokio::test]
async fn what_time_moves_is_counted_again() {
    let harness = Harness::start("2026-03-02T09:00:00Z").await;
    create(&harness, "R-1").await;
    assert_eq!(counted(&harness, v1::Worklist::FollowUp).await, 0);
    // The day after the last of the period begins.
    harness.advance("2026-06-12T22:00:00Z");
    assert_eq!(counted(&harness, v1::Worklist::FollowUp).await, 1);
    assert_eq!(counted(&harness, v1::Worklist::CareInvitations).await, 0);
}
