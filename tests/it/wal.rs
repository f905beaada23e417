//! The log of SQLite is taken into the database while others write.

use std::time::Duration;

use care_invitation::store::Store;
use care_invitation::store::schema::Schema;
use sea_orm::{ConnectionTrait, Database, DbErr, Statement};

use crate::harness::within;
use crate::store::{form, insert};
use crate::store_fixtures::call;

#[tokio::test]
async fn what_is_committed_comes_into_the_file_beside_the_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let [file, copy] = ["test.db", "copy.db"].map(|name| folder.path().join(name));
    let url = format!("sqlite://{}", file.display());
    let store = Store::open(&url, Schema::Migrate).await.expect("opened");
    let log = store.clone();
    let keeping = tokio::spawn(async move { log.run_wal_checkpointer().await });

    let arrived = async {
        for number in 0.. {
            insert(&store, call(), form(number)).await.expect("created");
            tokio::time::sleep(Duration::from_millis(20)).await;
            std::fs::copy(&file, &copy).expect("copied");
            // What is copied while it is being written may be no database at all.
            let url = format!("sqlite://{}", copy.display());
            if requests(&url).await.is_ok_and(|requests| requests > 0) {
                return;
            }
        }
    };
    within(arrived).await;
    keeping.abort();
}

/// How many requests a database holds.
async fn requests(url: &str) -> Result<i64, DbErr> {
    let connection = Database::connect(url).await?;
    let count = "SELECT count(*) AS requests FROM booking_request";
    let count = Statement::from_string(connection.get_database_backend(), count);
    let row = connection.query_one_raw(count).await;
    connection.close().await?;
    let row = row?.ok_or(DbErr::RecordNotFound(String::new()))?;
    row.try_get("", "requests")
}
