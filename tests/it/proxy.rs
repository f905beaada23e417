//! Stands between the service and its database: passes everything on, refuses, swallows, leads to another server, holds
//! commits back, or loses an answer. What an address that is taken over looks like from the service.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::within;

/// The statement that commits, as PostgreSQL is sent it.
const COMMIT: &[u8] = b"COMMIT\0";

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

/// What becomes of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Commits {
    /// They pass.
    #[default]
    Pass,
    /// The next one is executed, and its connection is cut before the answer comes.
    CutNext,
    /// They wait.
    Hold,
    /// They wait, and one has come.
    Held,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    commits: watch::Sender<Commits>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (way, ways) = watch::channel(Way::To(target));
        let commits = watch::Sender::default();
        let accepting = tokio::spawn(accept(address, listener, ways, commits.clone()));
        Self {
            address,
            way,
            commits,
            accepting,
        }
    }

    /// Before the server of a database; with the server's address, and the database's through the proxy.
    pub async fn before(url: &str) -> (Self, SocketAddr, String) {
        let (_, rest) = url.split_once('@').expect("a user");
        let (host, _) = rest.split_once('/').expect("a database");
        let mut servers = host.to_socket_addrs().expect("a host and a port");
        let server = servers.next().expect("an address");
        let proxy = Self::start(server).await;
        let url = url.replacen(host, &proxy.address.to_string(), 1);
        (proxy, server, url)
    }

    /// The next commit is executed, and its connection is cut before the answer comes.
    pub fn cut_next_commit(&self) {
        self.commits.send_replace(Commits::CutNext);
    }

    /// Whether that has been done.
    pub fn has_cut_commit(&self) -> bool {
        *self.commits.borrow() != Commits::CutNext
    }

    /// From now on whoever commits waits.
    pub fn hold_commits(&self) {
        self.commits.send_replace(Commits::Hold);
    }

    /// Waits until somebody waits with a commit.
    pub async fn holds_a_commit(&self) {
        let mut commits = self.commits.subscribe();
        let held = within(commits.wait_for(|it| *it == Commits::Held)).await;
        held.expect("the proxy lives");
    }

    /// Passes on the commits that were held back, and those to come.
    pub fn pass_commits_on(&self) {
        self.commits.send_replace(Commits::Pass);
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

async fn accept(
    address: SocketAddr,
    listener: TcpListener,
    mut ways: watch::Receiver<Way>,
    commits: watch::Sender<Commits>,
) {
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
                tokio::spawn(carry(client, way, ways.clone(), commits.clone()));
            }
        }
        listener = Some(open);
    }
}

/// Carries one connection until its way changes, or one of the two has gone.
async fn carry(
    mut client: TcpStream,
    way: Way,
    mut ways: watch::Receiver<Way>,
    commits: watch::Sender<Commits>,
) {
    let mut server = None;
    if let Way::To(target) | Way::NewTo(target) | Way::Forget(target) = way {
        let Ok(open) = TcpStream::connect(target).await else {
            return;
        };
        let server = server.insert(open);
        tokio::select! {
            _ = ways.wait_for(|it| *it != way && !matches!(it, Way::NewTo(_))) => {}
            _ = pass_on(&mut client, server, &commits) => return,
        }
    }
    // Both ends are kept open for as long as everything is swallowed.
    let _ = ways
        .wait_for(|it| !matches!(it, Way::Swallow | Way::Forget(_)))
        .await;
    drop((client, server));
}

/// Passes everything on in both directions, until one of the two has gone or a commit is to be cut: the server gets it, and
/// the client no answer.
async fn pass_on(
    client: &mut TcpStream,
    server: &mut TcpStream,
    commits: &watch::Sender<Commits>,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = ([0; 16_384], [0; 16_384]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let sent = &asked[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                let is_commit = sent.windows(COMMIT.len()).any(|it| it == COMMIT);
                if is_commit {
                    wait_while_held(commits).await;
                }
                server.write_all(sent).await?;
                if is_commit && is_to_be_cut(commits) {
                    // Once it answers, the commit is executed.
                    let read = server.read(&mut answered).await?;
                    assert!(read > 0, "the server has gone");
                    return Ok(());
                }
            }
            read = server.read(&mut answered) => {
                let sent = &answered[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                client.write_all(sent).await?;
            }
        }
    }
}

/// Waits until a commit that has come may pass.
async fn wait_while_held(commits: &watch::Sender<Commits>) {
    commits.send_if_modified(|it| {
        let has_come = *it == Commits::Hold;
        if has_come {
            *it = Commits::Held;
        }
        has_come
    });
    let mut commits = commits.subscribe();
    let passes = |it: &Commits| !matches!(it, Commits::Hold | Commits::Held);
    // It ends with the proxy, too.
    let _ = commits.wait_for(passes).await;
}

/// Whether this commit is the one that is to be cut; the next is not.
fn is_to_be_cut(commits: &watch::Sender<Commits>) -> bool {
    commits.send_if_modified(|it| {
        let is_next = *it == Commits::CutNext;
        if is_next {
            *it = Commits::Pass;
        }
        is_next
    })
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
