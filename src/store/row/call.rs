//! Calls that may be repeated, and where they are remembered: on the history row that they wrote,
//! or, when they changed nothing, in a table of their own.

use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use super::set::{Column, Kind, Set, Table};
use crate::domain::booking_request::RequestKey;
use crate::domain::hsa_id::HsaId;
use crate::store::Call;
use crate::store::error::Error;

/// The table of calls that changed nothing, for writing sets of rows.
pub const TABLE: Table = Table {
    name: "quiet_call",
    key: &[
        ("care_unit", Kind::Text),
        ("actor", Kind::Text),
        ("request_id", Kind::Uuid),
    ],
    mutable: &[],
    fixed: &[
        ("content_hash", Kind::Bytes),
        ("booking_request", Kind::Uuid),
    ],
};

/// A call that changed nothing, on a request or on none, as a row of a set.
pub fn values(scope: &HsaId, call: &Call, request: Option<&RequestKey>) -> Vec<Value> {
    vec![
        scope.as_str().into(),
        call.caller.clone().into(),
        call.id.into(),
        call.hash.to_vec().into(),
        request.map(|request| request.id).into(),
    ]
}

/// A call that was carried out before.
pub struct Repeat {
    /// Its place among those asked for.
    pub place: usize,
    /// The hash of the content then.
    pub hash: Vec<u8>,
    /// The request on which it was, if it was on one.
    pub request: Option<RequestKey>,
}

/// Which of these calls, each in its care unit, were carried out before.
pub async fn repeats(
    connection: &impl ConnectionTrait,
    calls: &[(HsaId, Call)],
) -> Result<Vec<Repeat>, Error> {
    const COLUMNS: &[Column] = &[
        ("place", Kind::Integer),
        ("care_unit", Kind::Text),
        ("actor", Kind::Text),
        ("request_id", Kind::Uuid),
    ];
    let mut set = Set::new(COLUMNS.to_vec());
    for (place, (care_unit, call)) in (0_i64..).zip(calls) {
        set.push([
            place.into(),
            care_unit.as_str().into(),
            call.caller.clone().into(),
            call.id.into(),
        ]);
    }
    let among = |table: &str| {
        format!(
            "SELECT k.place AS place, c.content_hash AS content_hash, \
             c.booking_request AS booking_request FROM k CROSS JOIN {table} AS c \
             WHERE c.care_unit = k.care_unit AND c.actor = k.actor \
             AND c.request_id = k.request_id",
        )
    };
    let (history, quiet) = (among("history"), among(TABLE.name));
    let sql = |calls: &str| format!("WITH k AS {calls} {history} UNION ALL {quiet}");
    let found = set.query(connection, sql).await?;
    found
        .iter()
        .map(|row| {
            let place: i64 = row.try_get("", "place")?;
            let place = usize::try_from(place).map_err(Error::broken)?;
            let (care_unit, _) = calls
                .get(place)
                .ok_or_else(|| Error::broken("a place outside the set"))?;
            let id: Option<Uuid> = row.try_get("", "booking_request")?;
            Ok(Repeat {
                place,
                hash: row.try_get("", "content_hash")?,
                request: id.map(|id| RequestKey {
                    care_unit: care_unit.clone(),
                    id,
                }),
            })
        })
        .collect()
}
