//! Due messages claimed and acknowledged by hand, with the changes that the service makes to its
//! rows when it does so.
//!
//! What changes is not known here: some messages are taken through their steps by the service, and
//! the differences between the steps are done to all.

use std::sync::Arc;
use std::time::Instant;

use sea_orm::sqlx::{self, Connection, PgConnection, Row as _};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Outcome;
use crate::database::{Database, Kind};
use crate::rows::{Bundle, Cell, Contents, HISTORY, Key, MESSAGE, REQUEST, Row, Table};
use crate::rows::{postgres, sqlite};
use crate::sample::Sample;

/// How long a message is not due again, in microseconds: longer than any run.
const LEASE: i64 = 3_600_000_000;

/// How many messages are claimed and acknowledged together, and over how many connections.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// In a claim.
    pub claim: usize,
    /// In an acknowledgement.
    pub acknowledge: usize,
    /// Connections at work at once; SQLite has one.
    pub connections: usize,
}

/// What the service does to the rows of a message that is due and delivered.
pub struct Steps {
    tables: [Table; 3],
    /// Columns that a claim sets, those of the message that an acknowledgement sets, and those of
    /// the request.
    claim: Vec<usize>,
    settle: Vec<usize>,
    request: Vec<usize>,
    /// The channel of the messages, and rows as they are once leased and once delivered.
    channel: i64,
    examples: Vec<Example>,
}

/// The rows of one message that the service has delivered.
struct Example {
    leased: Row,
    settled: Row,
    request: Row,
    new_messages: Vec<Row>,
    new_history: Vec<Row>,
}

impl Steps {
    /// The steps as these requests show them: due, leased, delivered. All are alike in what
    /// happens to them.
    pub fn between(due: &Contents, leased: &Contents, delivered: &Contents) -> Outcome<Self> {
        let tables = due.tables.clone();
        let mut examples = Vec::new();
        let (mut claim, mut settle, mut request) = (Vec::new(), Vec::new(), Vec::new());
        let mut channel = None;
        for (key, before) in &due.bundles {
            let (Some(leased), Some(after)) = (leased.bundles.get(key), delivered.bundles.get(key))
            else {
                return Err("a request is gone".into());
            };
            note(&mut claim, &before[MESSAGE][0], &leased[MESSAGE][0]);
            note(&mut settle, &leased[MESSAGE][0], &after[MESSAGE][0]);
            note(&mut request, &leased[REQUEST][0], &after[REQUEST][0]);
            if let Cell::Integer(code) = before[MESSAGE][0][tables[MESSAGE].place("channel")] {
                channel = Some(code);
            }
            examples.push(Example::of(before, leased, after));
        }
        Ok(Self {
            tables,
            claim,
            settle,
            request,
            channel: channel.ok_or("nothing was delivered")?,
            examples,
        })
    }

    /// What is to be written for message number `number`, of this request.
    fn rows(&self, number: usize, key: &Key) -> Example {
        let example = &self.examples[number % self.examples.len()];
        let [requests, messages, history] = &self.tables;
        let new = |table: &Table, rows: &[Row]| {
            let row = |row: &Row| fresh(table, &table.with_key(row, key), &table.all());
            rows.iter().map(row).collect()
        };
        let mut leased = messages.with_key(&example.leased, key);
        // The example's own lease may have run out by now.
        leased[messages.place("claimable_at")] = Cell::Integer(now() + LEASE);
        Example {
            leased: fresh(messages, &leased, &self.claim),
            settled: messages.with_key(&example.settled, key),
            request: requests.with_key(&example.request, key),
            new_messages: new(messages, &example.new_messages),
            new_history: new(history, &example.new_history),
        }
    }

    /// The statement that finds due messages.
    fn due_sql(&self, [channel, now, limit]: [&str; 3]) -> String {
        let [unit, id] = self.tables[MESSAGE].key;
        let key = self.tables[MESSAGE].names(&[unit, id]).join(", ");
        format!(
            "SELECT {key} FROM notification WHERE channel = {channel} AND claimable_at <= {now} \
             ORDER BY claimable_at LIMIT {limit}"
        )
    }
}

/// Notes the columns that differ.
fn note(changed: &mut Vec<usize>, before: &Row, after: &Row) {
    for (place, (before, after)) in before.iter().zip(after).enumerate() {
        if before != after && !changed.contains(&place) {
            changed.push(place);
        }
    }
}

/// The row with new ids in these columns, its key aside.
fn fresh(table: &Table, row: &Row, places: &[usize]) -> Row {
    let mut row = row.clone();
    for &place in places {
        if matches!(row[place], Cell::Uuid(_)) && !table.key.contains(&place) {
            row[place] = Cell::Uuid(Uuid::new_v4());
        }
    }
    row
}

impl Example {
    fn of(before: &Bundle, leased: &Bundle, after: &Bundle) -> Self {
        let beyond = |table: usize| after[table][before[table].len()..].to_vec();
        Self {
            leased: leased[MESSAGE][0].clone(),
            settled: after[MESSAGE][0].clone(),
            request: after[REQUEST][0].clone(),
            new_messages: beyond(MESSAGE),
            new_history: beyond(HISTORY),
        }
    }
}

/// Claims and acknowledges until nothing is due.
pub async fn deliver(database: &Database, steps: Arc<Steps>, how: How) -> Outcome<Sample> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    match database.kind() {
        Kind::Sqlite => {
            let path = database.path();
            tasks.spawn_blocking(move || in_sqlite(&sqlite::open(&path)?, &steps, how));
        }
        Kind::Postgresql => {
            for _ in 0..how.connections {
                let (url, steps) = (database.url(), Arc::clone(&steps));
                tasks.spawn(async move {
                    in_postgres(&mut PgConnection::connect(&url).await?, &steps, how).await
                });
            }
        }
    }
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        let of_one: Outcome<u64> = ended?;
        done += of_one?;
    }
    Ok(Sample {
        seconds: begin.elapsed().as_secs_f64(),
        done,
        ..Sample::default()
    })
}

/// Now, as the tables hold instants.
fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

fn in_sqlite(connection: &rusqlite::Connection, steps: &Steps, how: How) -> Outcome<u64> {
    let [requests, messages, history] = &steps.tables;
    let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
    let mut commit = connection.prepare("COMMIT")?;
    let mut due = connection.prepare(&steps.due_sql(["?1", "?2", "?3"]))?;
    let mut claim = sqlite::update(connection, messages, &steps.claim)?;
    let mut settle = sqlite::update(connection, messages, &steps.settle)?;
    let mut request = sqlite::update(connection, requests, &steps.request)?;
    let mut new_message = sqlite::insert(connection, messages)?;
    let mut new_history = sqlite::insert(connection, history)?;
    let mut done = 0;
    loop {
        begin.execute(())?;
        let limit = i64::try_from(how.claim)?;
        let key = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Key> {
            Ok((row.get(0)?, Uuid::from_bytes(row.get(1)?)))
        };
        let keys = due.query_map((steps.channel, now(), limit), key)?;
        let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
        let rows = keys.iter().enumerate();
        let rows: Vec<Example> = rows.map(|(at, key)| steps.rows(done + at, key)).collect();
        for row in &rows {
            let places = steps.claim.iter().copied().chain(messages.unique());
            sqlite::one(&mut claim, places.map(|place| &row.leased[place]))?;
        }
        commit.execute(())?;
        if rows.is_empty() {
            return Ok(u64::try_from(done)?);
        }
        for rows in rows.chunks(how.acknowledge) {
            begin.execute(())?;
            for row in rows {
                let places = steps.request.iter().copied().chain(requests.unique());
                sqlite::one(&mut request, places.map(|place| &row.request[place]))?;
                for new in &row.new_messages {
                    sqlite::one(&mut new_message, new.iter())?;
                }
                let places = steps.settle.iter().copied().chain(messages.unique());
                sqlite::one(&mut settle, places.map(|place| &row.settled[place]))?;
                for new in &row.new_history {
                    sqlite::one(&mut new_history, new.iter())?;
                }
            }
            commit.execute(())?;
        }
        done += rows.len();
    }
}

async fn in_postgres(connection: &mut PgConnection, steps: &Steps, how: How) -> Outcome<u64> {
    let [requests, messages, history] = &steps.tables;
    let due = steps.due_sql(["$1::int2", "$2", "$3"]) + " FOR UPDATE SKIP LOCKED";
    let due = postgres::text(due);
    let claim = (postgres::update_set(messages, &steps.claim), &steps.claim);
    let settle = (postgres::update_set(messages, &steps.settle), &steps.settle);
    let request = (
        postgres::update_set(requests, &steps.request),
        &steps.request,
    );
    let new_message = postgres::insert_set(messages);
    let new_history = postgres::insert_set(history);
    let mut done = 0;
    loop {
        let mut transaction = connection.begin().await?;
        let limit = i64::try_from(how.claim)?;
        let found = sqlx::query(due)
            .bind(i16::try_from(steps.channel)?)
            .bind(now())
            .bind(limit);
        let found = found.fetch_all(&mut *transaction).await?;
        let mut rows = Vec::new();
        for (at, row) in found.iter().enumerate() {
            rows.push(steps.rows(done + at, &(row.try_get(0)?, row.try_get(1)?)));
        }
        let leased: Vec<&Row> = rows.iter().map(|it| &it.leased).collect();
        update(&mut transaction, claim, messages, &leased).await?;
        transaction.commit().await?;
        if rows.is_empty() {
            return Ok(u64::try_from(done)?);
        }
        for rows in rows.chunks(how.acknowledge) {
            let mut transaction = connection.begin().await?;
            let changed: Vec<&Row> = rows.iter().map(|it| &it.request).collect();
            update(&mut transaction, request, requests, &changed).await?;
            let new: Vec<&Row> = rows.iter().flat_map(|it| &it.new_messages).collect();
            let insert = postgres::bind_set(new_message, messages, &messages.all(), &new);
            insert.execute(&mut *transaction).await?;
            let settled: Vec<&Row> = rows.iter().map(|it| &it.settled).collect();
            update(&mut transaction, settle, messages, &settled).await?;
            let new: Vec<&Row> = rows.iter().flat_map(|it| &it.new_history).collect();
            let insert = postgres::bind_set(new_history, history, &history.all(), &new);
            insert.execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        done += rows.len();
    }
}

/// Updates a set of rows; it must meet each.
async fn update(
    connection: &mut PgConnection,
    (sql, set): (&'static str, &Vec<usize>),
    table: &Table,
    rows: &[&Row],
) -> Outcome<()> {
    let places = [&set[..], &table.unique()].concat();
    let update = postgres::bind_set(sql, table, &places, rows);
    match update.execute(connection).await?.rows_affected() {
        met if met == u64::try_from(rows.len())? => Ok(()),
        met => Err(format!("a raw statement met {met} rows, not {}", rows.len()).into()),
    }
}
