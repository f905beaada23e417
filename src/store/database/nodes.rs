//! The nodes of Citus: which of them are away, and which lack the settings on which the service relies. The settings of a
//! session with one node do not reach the sessions that this node has with others.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement};

use crate::store::Node;
use crate::store::bucket::BUCKETS;
use crate::store::database::postgres::{LOCK_MAX, PLANNER_SETTINGS};
use crate::store::database::probe::ask;

/// Returns the nodes that have shards and cannot be reached. The node that is asked asks the others, over connections of its own.
pub async fn nodes_away(connection: &impl ConnectionTrait) -> Result<Vec<Node>, DbErr> {
    let rows = run_on_nodes(connection, "SELECT 1", "NOT answer.success").await?;
    rows.iter().map(node).collect()
}

/// Warns of nodes on which sessions lack a setting that statements of the service need, and says the statements that set them.
pub async fn warn_of_settings(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let of_planner = PLANNER_SETTINGS.map(|(name, value)| is_set(name, &format!("= '{value}'")));
    let all: Vec<String> = std::iter::once(is_set("lock_timeout", "<> '0'"))
        .chain(of_planner)
        .collect();
    let question = format!("SELECT {}", all.join(" AND "));
    let lacks = "answer.success AND answer.result <> 't'";
    let nodes = run_on_nodes(connection, &question, lacks).await?;
    let nodes: Vec<Node> = nodes.iter().map(node).collect::<Result<_, _>>()?;
    if nodes.is_empty() {
        return Ok(());
    }
    let nodes: Vec<String> = nodes.into_iter().map(|it| it.address).collect();
    let database: String = ask(connection, "SELECT quote_ident(current_database())").await?;
    let wanted = std::iter::once(("lock_timeout", LOCK_MAX)).chain(PLANNER_SETTINGS);
    let statements: Vec<String> = wanted
        .map(|(name, value)| format!("ALTER DATABASE {database} SET {name} = '{value}';"))
        .collect();
    tracing::warn!(
        nodes = nodes.join(" "),
        statements = statements.join(" "),
        "nodes lack settings, so that row locks may hold calls up and plans read whole tables: execute the statements in this \
         database, on the coordinator, which passes them on"
    );
    Ok(())
}

fn is_set(name: &str, condition: &str) -> String {
    format!("current_setting('{name}') {condition}")
}

/// Runs a question on every node that has shards, and returns those whose answer meets a condition.
async fn run_on_nodes(
    connection: &impl ConnectionTrait,
    question: &str,
    condition: &str,
) -> Result<Vec<QueryResult>, DbErr> {
    let question = question.replace('\'', "''");
    let sql = format!(
        "SELECT node.nodename || ':' || node.nodeport, held.buckets \
         FROM run_command_on_all_nodes('{question}') AS answer \
         JOIN pg_dist_node AS node ON node.nodeid = answer.nodeid \
         JOIN (SELECT place.groupid, count(*) AS buckets FROM generate_series(0, {BUCKETS} - 1) AS bucket \
               JOIN pg_dist_placement AS place ON place.shardid = \
                    get_shard_id_for_distribution_column('booking_request', bucket::smallint) \
               GROUP BY place.groupid) AS held ON held.groupid = node.groupid \
         WHERE {condition} ORDER BY 1"
    );
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    connection.query_all_raw(statement).await
}

fn node(row: &QueryResult) -> Result<Node, DbErr> {
    Ok(Node {
        address: row.try_get_by_index(0)?,
        buckets: row.try_get_by_index(1)?,
    })
}
