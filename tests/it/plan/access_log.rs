//! The access log, with some hundred thousand entries over a year of months: what is asked of it, what each call adds,
//! and its purge.

use care_invitation::domain::access::{Access, AccessFilter, Concerned, Concerns};
use care_invitation::domain::calendar::ClockReading;
use care_invitation::store::purge::{Cutoffs, purge};
use chrono::{DurationRound, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::*;

/// Entries, from the beginning of this month on.
const ENTRIES: usize = 200_000;
/// Patients, each of whom is in as many entries.
const PATIENTS: usize = 20_000;
/// Patients who have another number since, and protected identity.
const REPLACED: usize = 10;
/// The most pages that a statement may look at: the entries of two units, each on a page of its own, in the table and
/// in its index. The table has 7,000.
const PAGES_MAX: u64 = 1_800;
/// Seconds from an entry to the next: a year in all.
const STEP: usize = 157;

/// The statements that fill the access log. Its partitions are those of this month and of the coming year.
fn inserts() -> [String; 4] {
    let at = format!(
        "(extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC'))::bigint + i::bigint * {STEP}) * 1000000"
    );
    let chain = Uuid::from_u128(7);
    let hash = "decode(repeat('00', 32), 'hex')";
    [
        format!(
            "INSERT INTO access_log (recorded_at, chain, sequence, care_unit, subject, method, outcome, document, \
             previous_hash, hash) SELECT {at}, '{chain}', i, 'SE2321000131-P' || lpad((i % {UNITS})::text, 12, '0'), \
             'system-' || i % 50, 'BookingRequestService/GetBookingRequest', 0, \
             '[[[\"' || lpad((i % {PATIENTS})::text, 12, '0') || '\",1,null],[]]]', {hash}, {hash} \
             FROM generate_series(1, {ENTRIES}) AS i"
        ),
        format!(
            "INSERT INTO access_log_patient (personal_id, personal_id_type, issuer, recorded_at, chain, sequence) \
             SELECT lpad((i % {PATIENTS})::text, 12, '0'), 1, '', {at}, '{chain}', i \
             FROM generate_series(1, {ENTRIES}) AS i"
        ),
        format!(
            "INSERT INTO access_log_identity SELECT lpad(i::text, 12, '0'), 1, '', lpad((i + {PATIENTS})::text, 12, '0'), 1, '' \
             FROM generate_series(1, {REPLACED}) AS i"
        ),
        format!(
            "INSERT INTO access_log_identity SELECT lpad((i + {PATIENTS})::text, 12, '0'), 1, '', '', 0, '' \
             FROM generate_series(1, {REPLACED}) AS i"
        ),
    ]
}

#[tokio::test]
async fn nothing_that_is_asked_of_the_access_log_reads_it_from_end_to_end() {
    let Some((backend, database)) = filled(&FILLED[..1], &inserts()).await else {
        return;
    };
    for (planning, number) in [("force_custom_plan", 7), ("force_generic_plan", 8)] {
        let (replica, plans, _guard) = observe(&backend, &database, planning).await;
        let check = |call: &str, tables: &[&str]| {
            let mut arrived = plans.arrived.lock().expect("no thread has panicked");
            // Neither the few rows that say which schema it is, nor what a purge does elsewhere.
            let is_asked = |it: &Value| {
                let counts = "SELECT count(*) FROM access_log_";
                let is_count = it["Query Text"]
                    .as_str()
                    .is_some_and(|it| it.starts_with(counts));
                // The entries of a month that is dropped are counted before.
                !is_count && super::tables(it).iter().any(|it| tables.contains(it))
            };
            arrived.retain(is_asked);
            let pages = arrived.iter().map(super::pages).max();
            assert!(
                pages <= Some(PAGES_MAX),
                "{call}, {planning}: {pages:?} pages"
            );
            drop(arrived);
            plans.check(&format!("{call}, {planning}"), tables);
        };
        drive(&replica.store, number, &check).await;
        replica.store.close().await;
        plans.forget();
        purge_some(&backend.url(), number, &check).await;
    }
}

/// An access to a filled request, whose patient is given or not.
fn access(number: usize, patient: Option<PersonalId>, at: Instant) -> Access {
    let key = invited(number);
    Access {
        at,
        subject: "system-7".into(),
        actor: None,
        method: "BookingRequestService/GetBookingRequest".into(),
        trace_id: None,
        concerns: Concerns {
            care_unit: Some(key.care_unit),
            outcome: 0,
            concerned: vec![Concerned {
                patient,
                requests: vec![key.id],
            }],
        },
    }
}

fn patient(number: usize) -> PersonalId {
    let number = format!("{number:012}");
    PersonalId::from_stored(PersonalIdType::Personnummer, None, number)
}

/// Adds entries and lists them in every way.
async fn drive(store: &Store, number: usize, check: &impl Fn(&str, &[&str])) {
    // After the entries that are there, as time goes.
    let now = Utc::now() + TimeDelta::days(363);
    let accesses = vec![access(number, None, now)];
    store.log_access(accesses).await.expect("stored");
    check(
        "log access",
        &["booking_request", "access_log", "access_log_patient"],
    );
    let page = (0..50).map(|it| patient(number + it)).collect();
    let protected = store.protected_among(page).await.expect("read");
    assert!(protected.contains(&patient(number)), "one that is followed");
    check(
        "protected in a page",
        &["booking_request", "access_log_identity"],
    );

    let few = CareUnits::Within(Arc::new(Units {
        named: (number..number + 2).map(unit).collect(),
        ..Units::default()
    }));
    let all = AccessFilter::default;
    let in_time = || AccessFilter {
        from: Some(now - TimeDelta::days(100)),
        until: Some(now - TimeDelta::days(99)),
        ..all()
    };
    let of_patient = || AccessFilter {
        patient: Some(patient(number)),
        ..all()
    };
    let of_subject = || AccessFilter {
        subject: Some(format!("system-{}", number % 50)),
        ..all()
    };
    let of_unit = || AccessFilter {
        care_unit: Some(unit(number)),
        ..all()
    };
    for (what, filter) in [
        ("all", all()),
        ("time", in_time()),
        ("patient", of_patient()),
        ("subject", of_subject()),
        ("unit", of_unit()),
        (
            "patient and time",
            AccessFilter {
                patient: of_patient().patient,
                ..in_time()
            },
        ),
        (
            "subject and time",
            AccessFilter {
                subject: of_subject().subject,
                ..in_time()
            },
        ),
        (
            "unit and time",
            AccessFilter {
                care_unit: of_unit().care_unit,
                ..in_time()
            },
        ),
        (
            "unit and subject",
            AccessFilter {
                care_unit: of_unit().care_unit,
                ..of_subject()
            },
        ),
    ] {
        for seen in [CareUnits::Every, of_organisation(), of_many(), few.clone()] {
            let page = store.access_log(&filter, &seen, None, 5).await;
            if let Some((last, _)) = page.expect("listed").last() {
                let next = store.access_log(&filter, &seen, Some(*last), 5).await;
                next.expect("listed");
            }
            let tables: &[&str] = match filter.patient {
                Some(_) => &["access_log", "access_log_patient"],
                None => &["access_log"],
            };
            check(&format!("access log by {what}"), tables);
        }
    }
}

/// Purges entries up to so many times ten days from now: some months as a whole, and a part of one.
async fn purge_some(url: &str, number: usize, check: &impl Fn(&str, &[&str])) {
    let months = Utc::now()
        .duration_trunc(TimeDelta::days(1))
        .expect("a day")
        + TimeDelta::days(10 * i64::try_from(number).expect("a few"));
    let later = months + TimeDelta::days(6 * 365);
    let cutoffs = Cutoffs::new(later, later - TimeDelta::days(3_000), None).expect("long ago");
    let cutoffs = cutoffs.with_access_log(later, months).expect("long ago");
    let stop = CancellationToken::new();
    let clock = move || ClockReading::Sandbox(later);
    let purged = purge(url, cutoffs, clock, &stop, &mut |_, _, _| ()).await;
    assert!(purged.expect("purged").access_log > 1_000);
    check(
        "purge of the access log",
        &["access_log", "access_log_patient"],
    );
}
