//! The nodes of a database that is spread over several: the log names those that are away. The others are served meanwhile, so
//! that this replica is ready as long as one of them is there.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::cause;
use crate::store::{Node, Store};

/// Interval between two questions.
const INTERVAL: Duration = Duration::from_secs(1);

/// The nodes that are away, as the log has last said.
#[derive(Debug, Default, PartialEq, Eq)]
enum Away {
    /// None.
    #[default]
    Nobody,
    /// These.
    These(Vec<Node>),
    /// It is not known, for this reason.
    Unknown(String),
}

/// Asks for the nodes at intervals until `shutdown` is cancelled, and logs each change. The receiver shows false while no node can be
/// reached. Asks nothing where there is one server.
pub fn watch(store: Store, shutdown: CancellationToken) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(true);
    tokio::spawn(async move { shutdown.run_until_cancelled(run(store, sender)).await });
    receiver
}

async fn run(store: Store, any_there: watch::Sender<bool>) {
    let mut said = Away::default();
    loop {
        let away = match store.nodes_away().await {
            Ok(None) => return,
            Ok(Some(away)) if away.is_empty() => Away::Nobody,
            Ok(Some(away)) => Away::These(away),
            Err(error) => Away::Unknown(cause(&error)),
        };
        let is_any_there = match &away {
            Away::These(away) => away.iter().map(|it| it.buckets).sum::<i64>() < Node::BUCKETS,
            Away::Nobody | Away::Unknown(_) => true,
        };
        any_there.send_replace(is_any_there);
        if away != said {
            log(&away);
            said = away;
        }
        sleep(INTERVAL).await;
    }
}

fn log(away: &Away) {
    match away {
        Away::Nobody => tracing::info!("every node of the database answers"),
        Away::These(nodes) => {
            for Node { address, buckets } in nodes {
                tracing::warn!(
                    node = address,
                    buckets,
                    "a node of the database is away: calls about the care units in its buckets are refused, and their notifications wait"
                );
            }
        }
        Away::Unknown(cause) => tracing::warn!(cause, "the nodes of the database cannot be asked"),
    }
}
