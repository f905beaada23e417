//! What the service logs while a test listens.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// The log of everything on the test's own thread. Clones share it.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

/// Listens until it is dropped.
///
/// The second dispatcher takes nothing. While there is one alone, what logs for the first time on
/// another thread, which has none, is taken for something that nobody listens to, everywhere.
pub struct Listening {
    _guard: DefaultGuard,
    _second: Dispatch,
}

impl Log {
    pub fn listen(&self) -> Listening {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || log.clone());
        Listening {
            _guard: tracing::subscriber::set_default(subscriber.finish()),
            _second: Dispatch::new(NoSubscriber::default()),
        }
    }

    /// The lines that say this.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let log = self.0.lock().expect("nobody has failed");
        let lines = str::from_utf8(&log).expect("text").lines();
        lines
            .filter(|it| it.contains(text))
            .map(Into::into)
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody has failed").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
