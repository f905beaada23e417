//! What SQLite knows nothing of: several replicas of which one dies or stands still, and a database that goes away.

use std::time::Duration;

use care_invitation::store::schema::migrate;
use tokio::time::sleep;

use super::{Run, life, settings};
use crate::backend::Backend;
use crate::cluster::Cluster;
use crate::model::rng::Rng;
use crate::proxy::{Proxy, Way};

/// Processes over one database.
const REPLICAS: u64 = 3;
/// How long one stands still: longer than the leases of ten seconds, which last half of one under load.
const STOPPED: Duration = Duration::from_millis(900);
/// How long connections stay cut.
const CUT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_wrong_when_replicas_are_killed_or_stand_still() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let (seed, kills) = settings();
    let count = usize::try_from(REPLICAS).expect("a small number");
    let run = Run::start(count, Some(backend.url()), seed, 0).await;
    let mut rng = Rng::new(seed);
    for kill in 0..kills {
        life(&mut rng).await;
        let replica = usize::try_from(rng.below(REPLICAS)).expect("a small number");
        if kill % 2 == 0 {
            run.servers.kill(replica).await;
            run.servers.start_again(replica).await;
        } else {
            run.servers.stop(replica).await;
            sleep(STOPPED).await;
            run.servers.go_on(replica).await;
        }
    }
    run.end(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_wrong_when_the_database_restarts_or_is_cut_off() {
    let Some(mut database) = Cluster::alone().await else {
        return;
    };
    let proxy = Proxy::start(database.address).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.address);
    migrate(&url).await.expect("migrated");
    let (seed, kills) = settings();
    let run = Run::start(2, Some(url), seed, 0).await;
    let mut rng = Rng::new(seed);
    for kill in 0..kills {
        life(&mut rng).await;
        if kill % 2 == 0 {
            database.restart().await;
        } else {
            proxy.turn(Way::Cut);
            sleep(CUT).await;
            proxy.turn(Way::To(database.address));
        }
    }
    run.end(0).await;
}
