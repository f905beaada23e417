//! The choice of answers to compress. Most clients say that they can read compressed ones without having been asked, so that
//! each small answer would cost time and gain nothing. tonic has no lower limit on the bytes that it compresses.

use http::HeaderMap;

use super::rows::Rows;

/// Header with the compressions that a caller can read.
const READ: &str = "grpc-accept-encoding";
/// Header with the compression of the caller's own messages.
const WRITTEN: &str = "grpc-encoding";

/// Lets an answer be compressed when one of its messages may hold many rows, or the caller compresses too.
pub fn choose(rows: &Rows, headers: &mut HeaderMap) {
    let compresses = headers.get(WRITTEN).is_some_and(|it| it != "identity");
    if !compresses && !rows.are_many {
        headers.remove(READ);
    }
}
