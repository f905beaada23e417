//! Rows of new invitations, so many in a commit, by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::database::{Database, Kind};
use crate::rows::{Bundle, Contents, Row, TABLES, postgres, sqlite};
use crate::sample::{Latencies, Sample};

/// How long is written before it counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// How rows are written.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Invitations in a commit.
    pub batch: usize,
    /// Connections that write at once; SQLite has one.
    pub connections: usize,
    /// For how long, in seconds.
    pub seconds: f64,
}

/// Writes copies of invitations that the service has written. The latencies are those of commits,
/// from the beginning of the transaction.
pub async fn create(database: &Database, written: Arc<Contents>, how: How) -> Outcome<Sample> {
    let begin = Instant::now() + WARM_UP.min(Duration::from_secs_f64(how.seconds));
    let end = begin + Duration::from_secs_f64(how.seconds);
    let mut tasks = JoinSet::new();
    match database.kind() {
        Kind::Sqlite => {
            let path = database.path();
            tasks.spawn_blocking(move || {
                let connection = sqlite::open(&path)?;
                let mut batches = Batches::new(&written, how, begin, end);
                in_sqlite(&connection, &mut batches)?;
                Ok(batches.latencies)
            });
        }
        Kind::Postgresql => {
            for _ in 0..how.connections {
                let (url, written) = (database.url(), Arc::clone(&written));
                tasks.spawn(async move {
                    let mut connection = PgConnection::connect(&url).await?;
                    let mut batches = Batches::new(&written, how, begin, end);
                    in_postgres(&mut connection, &mut batches).await?;
                    Ok(batches.latencies)
                });
            }
        }
    }
    let mut latencies = Latencies::default();
    while let Some(ended) = tasks.join_next().await {
        let of_one: Outcome<Latencies> = ended?;
        latencies.add(&of_one?);
    }
    Ok(Sample {
        seconds: how.seconds,
        done: latencies.count() * how.batch as u64,
        latencies,
    })
}

/// The batches of one connection, until the time is over.
struct Batches<'a> {
    written: &'a Contents,
    bundles: Box<dyn Iterator<Item = &'a Bundle> + Send + 'a>,
    how: How,
    begin: Instant,
    end: Instant,
    started: Instant,
    latencies: Latencies,
}

impl<'a> Batches<'a> {
    fn new(written: &'a Contents, how: How, begin: Instant, end: Instant) -> Self {
        Self {
            written,
            bundles: Box::new(written.bundles.values().cycle()),
            how,
            begin,
            end,
            started: begin,
            latencies: Latencies::default(),
        }
    }

    /// The rows of the next commit, by table; none when the time is over.
    fn next(&mut self) -> Option<[Vec<Row>; 3]> {
        if Instant::now() >= self.end {
            return None;
        }
        let mut rows: [Vec<Row>; 3] = Default::default();
        for bundle in self.bundles.by_ref().take(self.how.batch) {
            for (rows, fresh) in rows.iter_mut().zip(self.written.fresh(bundle)) {
                rows.extend(fresh);
            }
        }
        self.started = Instant::now();
        Some(rows)
    }

    fn committed(&mut self) {
        let now = Instant::now();
        if self.begin <= self.started && now <= self.end {
            self.latencies.record(now - self.started);
        }
    }
}

fn in_sqlite(connection: &rusqlite::Connection, batches: &mut Batches<'_>) -> Outcome<()> {
    let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
    let mut commit = connection.prepare("COMMIT")?;
    let mut inserts = Vec::new();
    for table in &batches.written.tables {
        inserts.push(sqlite::insert(connection, table)?);
    }
    while let Some(rows) = batches.next() {
        begin.execute(())?;
        for (insert, rows) in inserts.iter_mut().zip(&rows) {
            for row in rows {
                sqlite::one(insert, row.iter())?;
            }
        }
        commit.execute(())?;
        batches.committed();
    }
    Ok(())
}

async fn in_postgres(connection: &mut PgConnection, batches: &mut Batches<'_>) -> Outcome<()> {
    let tables = batches.written.tables.clone();
    let alone = batches.how.batch == 1;
    let inserts = tables.each_ref().map(|table| match alone {
        true => postgres::insert_one(table),
        false => postgres::insert_set(table),
    });
    while let Some(rows) = batches.next() {
        let mut transaction = connection.begin().await?;
        for place in 0..TABLES.len() {
            let (table, sql) = (&tables[place], inserts[place]);
            let rows: Vec<&Row> = rows[place].iter().collect();
            let insert = match rows[..] {
                [row] if alone => postgres::bind_one(sql, table, row),
                _ => postgres::bind_set(sql, table, &table.all(), &rows),
            };
            insert.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        batches.committed();
    }
    Ok(())
}
