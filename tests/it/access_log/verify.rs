//! What a verification finds after somebody has been at the tables, on both databases.

use care_invitation::domain::access::{AccessFilter, ChainHead};
use care_invitation::domain::calendar::ClockReading;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::store::Store;
use care_invitation::store::access_log::verify::{Finding, verify};
use care_invitation::store::purge::{Cutoffs, purge};
use care_invitation::store::schema::Schema;
use chrono::TimeDelta;
use sea_orm::ConnectionTrait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chain::{NOW, filled, verified};
use crate::make::at;
use crate::migration::Empty;

/// What an alteration is found as; the chain comes first.
type Expected = fn(Uuid) -> Vec<Finding>;

async fn execute(database: &Empty, statements: &[&str]) {
    let connection = database.connect().await;
    for statement in statements {
        connection
            .execute_unprepared(statement)
            .await
            .expect(statement);
    }
}

#[tokio::test]
async fn what_was_removed_altered_or_inserted_shows() {
    let cases: [(&str, &[&str], Expected); 9] = [
        ("nothing", &[], |_| vec![]),
        (
            "a row is removed",
            &[
                "DELETE FROM access_log WHERE sequence = 3",
                "DELETE FROM access_log_patient WHERE sequence = 3",
            ],
            |chain| {
                vec![Finding::Removed {
                    chain,
                    first: 3,
                    last: 3,
                }]
            },
        ),
        (
            "a caller is altered",
            &["UPDATE access_log SET subject = 'nobody' WHERE sequence = 3"],
            |chain| vec![Finding::Altered { chain, sequence: 3 }],
        ),
        (
            "a hash is altered",
            &["UPDATE access_log SET hash = previous_hash WHERE sequence = 3"],
            |chain| vec![Finding::Altered { chain, sequence: 3 }],
        ),
        (
            "a time is altered",
            &[
                "UPDATE access_log SET recorded_at = recorded_at + 1 WHERE sequence = 6",
                "UPDATE access_log_patient SET recorded_at = recorded_at + 1 WHERE sequence = 6",
            ],
            |chain| vec![Finding::Altered { chain, sequence: 6 }],
        ),
        (
            "a patient is altered",
            &[
                "UPDATE access_log SET document = replace(document, '198003012385', '191212121212') WHERE sequence = 2",
            ],
            |chain| {
                vec![
                    Finding::Altered { chain, sequence: 2 },
                    Finding::NotFound { chain, sequence: 2 },
                ]
            },
        ),
        (
            "a row is inserted twice",
            &[
                "INSERT INTO access_log SELECT recorded_at + 1, chain, sequence, care_unit, subject, actor, method, outcome, \
               trace_id, '[]', previous_hash, hash FROM access_log WHERE sequence = 4",
            ],
            |chain| {
                vec![
                    Finding::Altered { chain, sequence: 4 },
                    Finding::Inserted { chain, sequence: 4 },
                ]
            },
        ),
        (
            "a patient is hidden",
            &["DELETE FROM access_log_patient WHERE sequence = 5"],
            |chain| vec![Finding::NotFound { chain, sequence: 5 }],
        ),
        (
            "a patient is shown elsewhere",
            &[
                "INSERT INTO access_log_patient SELECT '191212121212', personal_id_type, issuer, recorded_at, chain, sequence \
               FROM access_log_patient WHERE sequence = 5",
            ],
            |_| vec![Finding::FoundElsewhere { count: 1 }],
        ),
    ];
    for (what, statements, expected) in cases {
        for database in Empty::each().await {
            filled(&database, 6).await;
            let before = verified(&database).await;
            let chain = *before.chains.keys().next().expect("a chain");
            execute(&database, statements).await;
            let found = verified(&database).await.findings;
            assert_eq!(found, expected(chain), "{what}");
        }
    }
}

/// SQLite stores values of any type in any column.
#[tokio::test]
async fn a_value_of_a_wrong_type_shows_and_hides_nothing_else() {
    for column in [
        "document = x'ff00'",
        "outcome = 'none'",
        "subject = x'00'",
        "hash = 'text'",
    ] {
        let database = Empty::sqlite();
        filled(&database, 6).await;
        let before = verified(&database).await;
        let chain = *before.chains.keys().next().expect("a chain");
        let alter = format!("UPDATE access_log SET {column} WHERE sequence = 2");
        let statements = [
            alter.as_str(),
            "UPDATE access_log SET subject = 'nobody' WHERE sequence = 5",
        ];
        execute(&database, &statements).await;
        let found = verified(&database).await;
        let altered = |sequence| Finding::Altered { chain, sequence };
        // Whose places an entry has that cannot be read is not known.
        let places = found
            .findings
            .iter()
            .filter(|it| !matches!(it, Finding::FoundElsewhere { count: 1 }));
        let expected = [altered(2), altered(5)];
        assert!(places.eq(&expected), "{column}: {:?}", found.findings);
        assert_eq!((found.rows, found.chains[&chain].last), (6, 6));
    }
}

#[tokio::test]
async fn entries_without_a_place_are_counted() {
    let database = Empty::sqlite();
    filled(&database, 3).await;
    execute(
        &database,
        &[
            "DELETE FROM access_log_patient WHERE sequence = 2",
            "UPDATE access_log SET recorded_at = 'never' WHERE sequence = 2",
        ],
    )
    .await;
    let found = verified(&database).await;
    let chain = *found.chains.keys().next().expect("a chain");
    let expected = [
        Finding::Removed {
            chain,
            first: 2,
            last: 2,
        },
        Finding::WithoutPlace { count: 1 },
    ];
    assert_eq!((found.rows, found.findings.as_slice()), (3, &expected[..]));
}

#[tokio::test]
async fn the_log_is_written_read_and_purged_beside_a_value_of_a_wrong_type() {
    let database = Empty::sqlite();
    filled(&database, 2).await;
    let alter = "UPDATE access_log SET document = x'ff00' WHERE sequence = 2";
    execute(&database, &[alter]).await;
    // The chain goes on after it.
    filled(&database, 1).await;
    let found = verified(&database).await;
    assert_eq!(found.rows, 3);
    assert!(found.chains.values().all(|it| it.last == 3), "{found:?}");
    let store = Store::open(&database.url, Schema::Migrate)
        .await
        .expect("a database");
    let page = store
        .access_log(&AccessFilter::default(), &CareUnits::Every, None, 10)
        .await
        .expect("a page");
    let read: Vec<bool> = page.iter().map(|(_, entry)| entry.is_some()).collect();
    assert_eq!(read, [true, false, true]);
    store.close().await;
    drop(store);
    let later = at(NOW) + TimeDelta::days(6 * 365);
    let cutoffs = Cutoffs::new(later, at(NOW), None).expect("long ago");
    let cutoffs = cutoffs.with_access_log(later, at(NOW) + TimeDelta::days(1));
    let purged = purge(
        &database.url,
        cutoffs.expect("long ago"),
        move || ClockReading::Sandbox(later),
        &CancellationToken::new(),
        &mut |_, _, _| (),
    )
    .await;
    assert_eq!(purged.expect("purged").access_log, 3);
}

#[tokio::test]
async fn a_head_shows_what_is_missing_at_the_end() {
    for database in Empty::each().await {
        filled(&database, 6).await;
        let found = verified(&database).await;
        let (chain, walked) = found.chains.first_key_value().expect("a chain");
        let head = walked.head(*chain);
        let compared = async |heads: &[ChainHead]| {
            let verified = verify(&database.url, heads, &mut |_, _, _| ()).await;
            verified.expect("read").findings
        };
        assert_eq!(compared(&[head]).await, []);
        let other = ChainHead {
            hash: [7; 32],
            ..head
        };
        assert_eq!(
            compared(&[other]).await,
            [Finding::Altered {
                chain: *chain,
                sequence: 6
            }]
        );
        let unknown = ChainHead {
            chain: Uuid::from_u128(9),
            ..head
        };
        let removed = Finding::Removed {
            chain: unknown.chain,
            first: 1,
            last: 6,
        };
        assert_eq!(compared(&[unknown]).await, [removed]);
        execute(
            &database,
            &[
                "DELETE FROM access_log WHERE sequence > 4",
                "DELETE FROM access_log_patient WHERE sequence > 4",
            ],
        )
        .await;
        assert_eq!(compared(&[]).await, [], "nothing shows it but the head");
        let removed = Finding::Removed {
            chain: *chain,
            first: 5,
            last: 6,
        };
        assert_eq!(compared(&[head]).await, [removed]);
    }
}
