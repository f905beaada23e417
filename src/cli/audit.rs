//! The commands on the access log.

use std::error::Error;
use std::io::{self, Write, stdout};

use uuid::Uuid;

use crate::config::VerifyAccessLog;
use crate::domain::access::ChainHead;
use crate::store::access_log::verify::{Verified, verify};
use crate::telemetry::Progress;

/// Exit code when the access log is not as it was written.
pub const ALTERED: u8 = 3;

/// The access log is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("the access log is not as it was written: {0} findings")]
pub struct Altered(usize);

/// Walks the access log, and prints its chains and what is not as it was written.
///
/// # Errors
///
/// [`Altered`]; or the database cannot be opened or read.
pub async fn verify_access_log(url: &str, known: VerifyAccessLog) -> Result<(), Box<dyn Error>> {
    let heads = known.heads.iter().map(|head| ChainHead {
        chain: Uuid::from_u128(head.chain),
        sequence: head.sequence,
        hash: head.hash,
    });
    let heads: Vec<ChainHead> = heads.collect();
    let mut progress = Progress::default();
    let mut show = |what: &'static str, done, total| progress.show(what, done, total);
    let outcome = verify(url, &heads, &mut show).await;
    progress.end();
    let verified = outcome?;
    report(&verified)?;
    match verified.findings.len() {
        0 => Ok(()),
        count => Err(Altered(count).into()),
    }
}

/// Prints a line for each chain and finding, and one for all.
fn report(verified: &Verified) -> io::Result<()> {
    for (chain, walked) in &verified.chains {
        let (first, last, head) = (walked.first, walked.last, walked.head(*chain));
        writeln!(
            stdout(),
            "chain {chain}: entries {first} to {last}, head {head}"
        )?;
    }
    for finding in &verified.findings {
        writeln!(stdout(), "{finding}")?;
    }
    let (rows, chains) = (verified.rows, verified.chains.len());
    writeln!(stdout(), "walked {rows} entries in {chains} chains")
}
