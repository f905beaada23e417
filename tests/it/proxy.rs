//! Stands between the service and its database: passes everything on, refuses, swallows, or leads
//! to another server. What an address that is taken over looks like from the service.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::within;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They lead to this server.
    To(SocketAddr),
    /// New ones lead to this server, and those that are open stay where they are.
    NewTo(SocketAddr),
    /// New ones lead to this server, and of those that are open nothing comes through: a firewall has forgotten them.
    Forget(SocketAddr),
    /// Those that are open are cut, new ones refused.
    Cut,
    /// They stay open and nothing comes through; new ones are accepted and never answered. What
    /// was swallowed is lost: the connections are cut when the way changes again.
    Swallow,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (way, ways) = watch::channel(Way::To(target));
        let accepting = tokio::spawn(accept(address, listener, ways));
        Self {
            address,
            way,
            accepting,
        }
    }

    /// From now on connections go this way.
    pub fn turn(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(address: SocketAddr, listener: TcpListener, mut ways: watch::Receiver<Way>) {
    let mut listener = Some(listener);
    loop {
        let way = *ways.borrow_and_update();
        if way == Way::Cut {
            // Without a listener the system refuses.
            listener = None;
            if ways.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            None => bind_again(address).await,
        };
        tokio::select! {
            changed = ways.changed() => if changed.is_err() { return },
            accepted = open.accept() => {
                let (client, _) = accepted.expect("a connection");
                tokio::spawn(carry(client, way, ways.clone()));
            }
        }
        listener = Some(open);
    }
}

/// Carries one connection until its way changes, or one of the two has gone.
async fn carry(mut client: TcpStream, way: Way, mut ways: watch::Receiver<Way>) {
    let mut server = None;
    if let Way::To(target) | Way::NewTo(target) | Way::Forget(target) = way {
        let Ok(open) = TcpStream::connect(target).await else {
            return;
        };
        let server = server.insert(open);
        tokio::select! {
            _ = ways.wait_for(|it| *it != way && !matches!(it, Way::NewTo(_))) => {}
            _ = copy_bidirectional(&mut client, server) => return,
        }
    }
    // Both ends are kept open for as long as everything is swallowed.
    let _ = ways
        .wait_for(|it| !matches!(it, Way::Swallow | Way::Forget(_)))
        .await;
    drop((client, server));
}

/// Listens on the same port again. A connection of another test may have been given it meanwhile.
async fn bind_again(address: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(bound).await
}
