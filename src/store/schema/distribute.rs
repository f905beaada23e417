//! Distribution of the tables over the nodes of Citus, with all that is of one bucket on one node.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::store::database::probe::ask;
use crate::store::error::OpenError;

/// Tables that are spread by bucket; the others lie where the first does.
const BY_BUCKET: [&str; 6] = [
    "booking_request",
    "notification",
    "history",
    "idempotency_key",
    "care_unit_settings",
    "change_event",
];
/// Small tables that every node has whole.
const EVERYWHERE: [&str; 2] = ["lost_interval", "seaql_migrations"];
/// Tables that stay in one place, and that every node can reach.
const IN_ONE_PLACE: [&str; 3] = ["access_log", "access_log_patient", "access_log_identity"];

/// Distributes the tables that are not yet, and returns their names. The transaction has the lock of migrations.
///
/// # Errors
///
/// [`OpenError::NoCitus`] when the database does not have the extension, and errors of the database, above all when this is not
/// the coordinator.
pub async fn distribute(transaction: &DatabaseTransaction) -> Result<Vec<String>, OpenError> {
    let has_citus = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')";
    if !ask::<bool>(transaction, has_citus).await? {
        return Err(OpenError::NoCitus);
    }
    // Tables that refer to each other are changed over one connection to each node.
    let sequential = "SET LOCAL citus.multi_shard_modify_mode = 'sequential'";
    transaction.execute_unprepared(sequential).await?;
    let [first, rest @ ..] = BY_BUCKET;
    let first = [(
        first,
        format!("create_distributed_table('{first}', 'bucket')"),
    )];
    let rest = rest.map(|table| {
        let beside = format!("colocate_with => '{}'", BY_BUCKET[0]);
        let call = format!("create_distributed_table('{table}', 'bucket', {beside})");
        (table, call)
    });
    let everywhere = EVERYWHERE.map(|it| (it, format!("create_reference_table('{it}')")));
    let in_one_place =
        IN_ONE_PLACE.map(|it| (it, format!("citus_add_local_table_to_metadata('{it}')")));
    let all = first.into_iter().chain(rest);
    let all = all.chain(everywhere).chain(in_one_place);
    let mut done = Vec::new();
    for (table, call) in all {
        let is_known = format!(
            "SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass)"
        );
        if !ask::<bool>(transaction, is_known).await? {
            let call = format!("SELECT {call}");
            transaction.execute_unprepared(&call).await?;
            done.push(table.to_owned());
        }
    }
    Ok(done)
}
