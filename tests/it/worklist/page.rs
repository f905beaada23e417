//! Pages: by key, so that what comes and goes meanwhile causes neither repeats nor gaps among the
//! others; with tokens that belong to their query.

use std::collections::BTreeSet;

use care_invitation::contract::v1::worklist_query::OrderBy;
use care_invitation::contract::v1::{self, Priority, Worklist, WorklistQuery};
use prost::Message;
use tokio::task::JoinSet;
use tonic::Code;

use super::{NOW, create, decided, everything, invitation, page, query, referral_of, request};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

/// Requests on one list whose place differs in every order, and ties in each.
async fn fill(harness: &Harness, count: usize) {
    for i in 0..count {
        let first = format!("2026-05-{:02}", 18 + i % 5);
        let form = decided(
            invitation(&format!("R-{i:02}"), &first, "2026-06-12"),
            &format!("2026-01-{:02}", 10 + i % 7),
        );
        let form = v1::BookingRequest {
            priority: [Priority::Routine, Priority::Urgent, Priority::Emergency][i % 3].into(),
            ..form
        };
        create(harness, form).await;
        if i % 4 == 0 {
            let later = harness.clock.now() + chrono::Duration::minutes(1);
            harness.clock.advance(later).expect("forward");
        }
    }
}

#[tokio::test]
async fn rows_that_come_and_go_cause_neither_repeats_nor_gaps_among_the_others() {
    for order_by in [
        OrderBy::StartDate,
        OrderBy::CreateTime,
        OrderBy::NextNotification,
        OrderBy::Priority,
        OrderBy::CareGuarantee,
    ] {
        let harness = Harness::start(NOW).await;
        fill(&harness, 30).await;
        let list = WorklistQuery {
            order_by: order_by.into(),
            ..query(Worklist::CareInvitations)
        };
        let whole = page(&harness, list.clone(), 0, "").await.expect("a list");
        let names: Vec<_> = whole
            .booking_requests
            .iter()
            .map(|it| it.name.clone())
            .collect();
        assert_eq!(names.len(), 30);

        let (mut seen, mut gone, mut token) = (Vec::new(), BTreeSet::new(), String::new());
        for turn in 0.. {
            let page = page(&harness, list.clone(), 4, &token)
                .await
                .expect("a page");
            seen.extend(page.booking_requests.into_iter().map(|it| it.name));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            if turn >= 4 {
                continue;
            }
            // Of those seen the last goes, on which the token stands, and the first that is left;
            // of those to come the next one goes and the last.
            let known = |name: &&String| names.contains(name) && !gone.contains(*name);
            let to_come: Vec<_> = names
                .iter()
                .filter(known)
                .filter(|it| !seen.contains(it))
                .collect();
            let ends = [
                seen.iter().rfind(known),
                seen.iter().find(known),
                to_come.first().copied(),
                to_come.last().copied(),
            ];
            let ends: BTreeSet<String> = ends.into_iter().flatten().cloned().collect();
            for name in ends {
                harness
                    .cancel(make::wire_cancel(&name))
                    .await
                    .expect("cancelled");
                gone.insert(name);
            }
            // Others come, in front and behind.
            for (place, first) in [("front", "2026-03-09"), ("behind", "2026-06-12")] {
                let form = invitation(&format!("{place}-{turn}"), first, "2026-06-12");
                create(&harness, form).await;
            }
        }
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(
            distinct.len(),
            seen.len(),
            "{order_by:?}: none is seen twice"
        );
        let stayed: Vec<_> = names.iter().filter(|name| !gone.contains(*name)).collect();
        assert!(stayed.len() > 10, "{order_by:?}: most have stayed");
        let of_those: Vec<_> = seen.iter().filter(|name| stayed.contains(name)).collect();
        assert_eq!(
            of_those, stayed,
            "{order_by:?}: those who stayed are seen, in order"
        );
    }
}

#[tokio::test]
async fn pages_of_any_size_make_the_whole_list() {
    let harness = Harness::start(NOW).await;
    fill(&harness, 12).await;
    let list = query(Worklist::CareInvitations);
    let whole = page(&harness, list.clone(), 500, "").await.expect("a list");
    for page_size in [1, 5, 6, 11, 12, 13] {
        let (mut paged, mut pages, mut token) = (Vec::new(), 0, String::new());
        loop {
            let page = page(&harness, list.clone(), page_size, &token)
                .await
                .expect("a page");
            paged.extend(page.booking_requests);
            pages += 1;
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, whole.booking_requests, "{page_size}");
        assert_eq!(
            pages,
            12_usize.div_ceil(usize::try_from(page_size).expect("positive"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_50_unless_told_and_500_at_most() {
    let harness = Harness::start(NOW).await;
    let mut calls = JoinSet::new();
    for i in 0..501 {
        let call = make::wire_create(request(&format!("R-{i}"), "2026-05-18", "2026-06-12"));
        let mut client = harness.requests();
        calls.spawn(async move { client.create_booking_request(call).await });
    }
    let answers = within(calls.join_all()).await;
    assert!(answers.iter().all(Result::is_ok));
    let list = || query(Worklist::BookingRequests);
    for (page_size, length) in [
        (0, 50),
        (1, 1),
        (499, 499),
        (500, 500),
        (501, 500),
        (i32::MAX, 500),
    ] {
        let page = page(&harness, list(), page_size, "").await.expect("a page");
        assert_eq!(page.booking_requests.len(), length, "{page_size}");
        assert!(!page.next_page_token.is_empty(), "{page_size}");
    }
    let first = page(&harness, list(), 500, "").await.expect("a page");
    let rest = page(&harness, list(), 500, &first.next_page_token)
        .await
        .expect("a page");
    assert_eq!(
        (rest.booking_requests.len(), &*rest.next_page_token),
        (1, "")
    );
    for negative in [-1, i32::MIN] {
        let status = page(&harness, list(), negative, "")
            .await
            .expect_err("negative");
        assert_eq!(
            refusal(&status),
            (Code::InvalidArgument, "FIELD_INVALID".into())
        );
        assert_eq!(bad_fields(&status), ["page_size"]);
    }
}

#[tokio::test]
async fn a_page_of_large_requests_ends_before_three_megabytes_and_nothing_is_lost() {
    let harness = Harness::start(NOW).await;
    let text = "\u{1f9d1}".repeat(2_000);
    for i in 0..100 {
        let form = v1::BookingRequest {
            internal_comment: text.clone(),
            patient_instructions: Some(v1::PatientInstructions {
                visit_length: text.clone(),
                supplementary: text.clone(),
                sampling_before_visit: text.clone(),
                sampling_information: text.clone(),
            }),
            ..request(&format!("R-{i}"), "2026-05-18", "2026-06-12")
        };
        create(&harness, form).await;
    }
    let (mut seen, mut pages, mut token) = (BTreeSet::new(), 0, String::new());
    loop {
        let page = page(&harness, query(Worklist::BookingRequests), 500, &token).await;
        let page = page.expect("a page");
        assert!(
            page.encoded_len() <= 3_000_000 + 200,
            "{}",
            page.encoded_len()
        );
        pages += 1;
        seen.extend(page.booking_requests.iter().map(referral_of));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (100, 2));
}

#[tokio::test]
async fn a_page_token_belongs_to_its_query() {
    let harness = Harness::start(NOW).await;
    fill(&harness, 6).await;
    let other_unit = "careUnits/SE2321000131-P2";
    let list = || WorklistQuery {
        care_units: vec![make::wire_unit(), other_unit.into()],
        ..query(Worklist::CareInvitations)
    };
    let first = page(&harness, list(), 2, "").await.expect("a page");
    let token = first.next_page_token;
    let expected = page(&harness, list(), 3, &token)
        .await
        .expect("another size");
    assert_eq!(expected.booking_requests.len(), 3);

    // The same query, spelled otherwise.
    let lower = make::wire_unit().replace(make::CARE_UNIT, &make::CARE_UNIT.to_lowercase());
    for same in [
        WorklistQuery {
            care_units: vec![other_unit.into(), lower, other_unit.into()],
            ..list()
        },
        WorklistQuery {
            order_by: OrderBy::StartDate.into(),
            minimum_priority: Priority::Routine.into(),
            ..list()
        },
    ] {
        let page = page(&harness, same, 3, &token)
            .await
            .expect("the same query");
        assert_eq!(page, expected);
    }

    let others: [fn(&mut WorklistQuery); 16] = [
        |q| q.worklists = vec![Worklist::FollowUp.into()],
        |q| q.worklists.push(Worklist::FollowUp.into()),
        |q| q.states = vec![v1::booking_request::State::Invited.into()],
        |q| q.hold_reasons = vec![v1::HoldReason::CallBack.into()],
        |q| q.booking_id = "B-1".into(),
        |q| q.visit_id = "B-1".into(),
        |q| q.interpreter_language = "ar".into(),
        |q| q.letter_formats = vec![v1::LetterFormat::Braille.into()],
        |q| q.care_units.truncate(1),
        |q| q.visit_kind = v1::VisitKind::NewVisit.into(),
        |q| q.visit_type_codes = vec!["ONH-NY".into()],
        |q| {
            q.personal_id = "198003012385".into();
            q.set_personal_id_type(v1::PersonalIdType::Personnummer);
        },
        |q| {
            q.requested_period = make::wire_constraints("2026-05-18", "2026-06-12").requested_period
        },
        |q| q.minimum_priority = Priority::Urgent.into(),
        |q| q.order_by = OrderBy::CreateTime.into(),
        |q| q.referral_id = "R-01".into(),
    ];
    for (i, alter) in others.into_iter().enumerate() {
        let mut other = list();
        alter(&mut other);
        let status = page(&harness, other, 2, &token)
            .await
            .expect_err("another query");
        let reason = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
        assert_eq!(refusal(&status), reason, "{i}");
    }
}

#[tokio::test]
async fn a_page_token_that_was_altered_is_refused() {
    let harness = Harness::start(NOW).await;
    fill(&harness, 3).await;
    let first = page(&harness, everything(), 1, "").await.expect("a page");
    let token = first.next_page_token;
    let mut bad: Vec<String> = (0..token.len())
        .map(|i| {
            let mut altered = token.clone().into_bytes();
            altered[i] = if altered[i] == b'A' { b'B' } else { b'A' };
            String::from_utf8(altered).expect("still text")
        })
        .collect();
    let history = v1::ListHistoryRequest {
        name: first.booking_requests[0].name.clone(),
        page_size: 1,
        page_token: String::new(),
    };
    harness
        .invite(make::wire_invite(&history.name))
        .await
        .expect_err("invited already");
    harness
        .cancel(make::wire_cancel(&history.name))
        .await
        .expect("cancelled");
    let of_a_history = within(harness.requests().list_history(history))
        .await
        .expect("history");
    bad.push(of_a_history.into_inner().next_page_token);
    bad.extend([
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        format!("{token}A"),
        format!("{token}="),
        format!(" {token}"),
        token.repeat(1_000),
        "x".into(),
        "åäö".into(),
        "\0".into(),
    ]);
    for token in bad {
        assert!(!token.is_empty());
        let status = page(&harness, everything(), 1, &token)
            .await
            .expect_err(&token);
        let reason = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
        assert_eq!(refusal(&status), reason, "{token}");
    }
    // A fault of shape is told before the token is looked at.
    let nowhere = WorklistQuery {
        care_units: vec![],
        ..everything()
    };
    let status = page(&harness, nowhere, 1, "x")
        .await
        .expect_err("no care unit");
    assert_eq!(bad_fields(&status), ["query.care_units"]);
}
