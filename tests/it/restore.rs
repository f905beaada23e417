//! What a restored backup, or a failover that lost commits, must not break: the names of messages.

use std::collections::HashSet;

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::grpc::middleware::Limits;

use crate::backend::Backend;
use crate::consumer::{answer, name, sent};
use crate::harness::{Harness, within};
use crate::make;
use crate::make::at;
use crate::worklist_user;

const NOW: &str = "2026-03-02T09:00:00Z";

/// The service as it goes on, and the service on a copy of its database as it was at `now`.
async fn with_restored(harness: Harness, now: &str) -> [Harness; 2] {
    let Harness {
        backend,
        shutdown,
        server,
        ..
    } = harness;
    shutdown.cancel();
    within(server).await.expect("it ends");
    let (original, copy) = within(backend.with_copy()).await;
    let over =
        |backend: Backend| Harness::over(backend, Clock::sandbox(at(now)), Limits::default());
    [over(original).await, over(copy).await]
}

fn unreachable(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: v1::acknowledgement::Outcome::Unreachable.into(),
        ..sent(due)
    }
}

/// Everything that plans a message: a hand-over, a receipt, UNREACHABLE, a new round, a withdrawal. Returns
/// the names of all of them.
async fn lived_through(harness: &Harness, request: &str) -> Vec<String> {
    let first = harness.hand_over_due().await.remove(0);
    worklist_user::report(harness, &name(&first), Receipt::Unread).await;
    harness.hand_over_due().await;
    harness.advance("2026-03-16T08:00:00Z");
    let reminder = harness.lease_due().await.remove(0);
    answer(harness, unreachable(&reminder)).await;
    harness.hand_over_due().await;
    worklist_user::contact(harness, request, v1::ContactOutcome::CallBack).await;
    let invited = harness.invite(make::wire_invite(request)).await;
    invited.expect("a new round");
    harness.hand_over_due().await;
    let cancelled = harness.cancel(make::wire_cancel(request)).await;
    let invitation = cancelled.expect("cancelled").care_invitation;
    let planned = invitation.expect("an invitation").notifications.into_iter();
    planned.map(|it| it.name).collect()
}

#[tokio::test]
async fn a_message_that_is_planned_anew_after_a_restore_has_the_name_that_it_had() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-03-16", "2026-06-12");
    let request = harness.create(make::wire_create(form)).await;
    let request = request.expect("created").name;
    let [original, restored] = with_restored(harness, NOW).await;
    let names = lived_through(&original, &request).await;
    assert_eq!(lived_through(&restored, &request).await, names);
    // Two of the first kind, two first reminders, the second, that of the new round, its reminder, the withdrawal.
    assert_eq!(names.len(), 8);
    let distinct: HashSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
}
