//! The program itself beside a PostgreSQL whose clock is wrong. It is the server's clock that libfaketime moves, because it
//! cannot be loaded into a program that brings its own allocator; the two are as far apart either way.

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use super::{due_later, due_now, unavailable};
use crate::cluster::Cluster;
use crate::consumer::leasing_for;
use crate::harness::within;
use crate::program::{Program, command, create, lease_due};
use crate::replica::healthy;

type Events = Streaming<v1::StreamDueNotificationsResponse>;

/// Opens a stream of what is due, whose leases outlast the test.
async fn open(channel: &Channel) -> Result<Events, Status> {
    let mut client = NotificationServiceClient::new(channel.clone());
    let opened = within(client.stream_due_notifications(leasing_for(600))).await?;
    Ok(opened.into_inner())
}

/// Reads a stream to its end.
async fn end(mut events: Events) -> Status {
    loop {
        match within(events.message()).await {
            Ok(said) => assert!(said.is_some(), "it was not to end with OK"),
            Err(status) => return status,
        }
    }
}

/// The program is not ready, opens no stream and takes no call.
async fn refuses(channel: &Channel) {
    healthy(channel, "", NotServing).await;
    unavailable(&open(channel).await.expect_err("no stream"));
    let created = create(channel, due_now()).await;
    unavailable(&created.expect_err("no request"));
}

#[tokio::test]
async fn the_program_sends_nothing_while_the_database_has_another_time() {
    let Some(cluster) = Cluster::with_clock_moved_by("-2h").await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let mut command = command(folder.path(), &["--migrate"]);
    command.env("CARE_INVITATION_DATABASE_URL", cluster.url("postgres"));
    let program = Program::run(command, folder.path().join("log")).await;
    let channel = program.channel().await;
    refuses(&channel).await;

    cluster.move_clock("+0");
    healthy(&channel, "", Serving).await;
    let request = create(&channel, due_now()).await.expect("created");
    create(&channel, due_later()).await.expect("created");
    let mut events = open(&channel).await.expect("a stream");
    let said = within(events.message()).await.expect("open");
    let Some(Event::Due(due)) = said.expect("no end").event else {
        panic!("a message was to come");
    };
    assert_eq!(due.booking_request, request.name);
    for by in ["+3d", "+2h", "-2h"] {
        cluster.move_clock(by);
        unavailable(&end(events).await);
        refuses(&channel).await;
        cluster.move_clock("+0");
        healthy(&channel, "", Serving).await;
        let due = lease_due(&channel).await;
        assert!(due.is_empty(), "after {by}: {}", due.len());
        events = open(&channel).await.expect("a stream");
    }
}
