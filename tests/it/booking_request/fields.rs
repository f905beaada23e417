//! What a call may hold: every bad field is named by its path, all of them at once, and text is
//! kept in one form.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::Origin;
use tonic::{Code, Status};

use super::{NOW, booking, created, record, requested, visit};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

type Create = v1::CreateBookingRequestRequest;

fn form(call: &mut Create) -> &mut v1::BookingRequest {
    call.booking_request.as_mut().expect("a form")
}

fn patient(call: &mut Create) -> &mut v1::Patient {
    form(call).patient.as_mut().expect("a patient")
}

fn constraints(call: &mut Create) -> &mut v1::BookingConstraints {
    form(call).constraints.as_mut().expect("constraints")
}

fn period(call: &mut Create) -> &mut v1::DateInterval {
    let constraints = constraints(call);
    constraints.requested_period.as_mut().expect("a period")
}

fn referral(call: &mut Create) -> &mut v1::Referral {
    match &mut form(call).origin {
        Some(Origin::Referral(referral)) => referral,
        Some(Origin::PreviousVisit(_)) | None => panic!("the smallest form has a referral"),
    }
}

fn instructions(call: &mut Create) -> &mut v1::PatientInstructions {
    form(call).patient_instructions.get_or_insert_default()
}

fn visit_type(call: &mut Create) -> &mut v1::VisitType {
    form(call).visit_type.as_mut().expect("a visit type")
}

fn windows(windows: &[(&str, &str)]) -> Vec<v1::TimeWindow> {
    let windows = windows.iter().map(|(start, end)| v1::TimeWindow {
        start_clock: (*start).into(),
        end_clock: (*end).into(),
    });
    windows.collect()
}

fn assert_invalid(status: &Status, mut fields: Vec<&str>) {
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(status), reason, "{fields:?}");
    let mut named = bad_fields(status);
    named.sort();
    fields.sort_unstable();
    assert_eq!(named, fields);
}

/// A way to spoil a call, and the path of the field that is spoiled.
type Fault = (&'static str, fn(&mut Create));

/// A text of a call: its path, and how it is set.
type Text = (&'static str, fn(&mut Create, String));

/// Faults of which each spoils another field, so that they come together as well as alone.
const FAULTS: &[Fault] = &[
    ("parent", |it| it.parent = "careUnits/1".into()),
    ("request_id", |it| it.request_id = "1".into()),
    ("booking_request.patient.personal_id", |it| {
        patient(it).personal_id = "1".into()
    }),
    ("booking_request.patient.protection", |it| {
        patient(it).protection = 9
    }),
    ("booking_request.patient.inbox_reach", |it| {
        patient(it).inbox_reach = 9
    }),
    ("booking_request.patient.preferred_language", |it| {
        patient(it).preferred_language = "sv_SE".into();
    }),
    ("booking_request.referral.referral_id", |it| {
        referral(it).referral_id.clear()
    }),
    ("booking_request.referral.decision_date", |it| {
        referral(it).decision_date = "2026-02-30".into();
    }),
    ("booking_request.visit_kind", |it| form(it).visit_kind = 0),
    ("booking_request.visit_type.code", |it| {
        visit_type(it).code = "x".repeat(65)
    }),
    ("booking_request.visit_type.display_name", |it| {
        visit_type(it).display_name = "x".repeat(201);
    }),
    ("booking_request.purpose", |it| {
        form(it).purpose = " ".into()
    }),
    ("booking_request.patient_instructions.visit_length", |it| {
        instructions(it).visit_length = "x".repeat(2_001);
    }),
    ("booking_request.patient_instructions.supplementary", |it| {
        instructions(it).supplementary = "x".repeat(2_001);
    }),
    (
        "booking_request.patient_instructions.sampling_before_visit",
        |it| {
            instructions(it).sampling_before_visit = "x".repeat(2_001);
        },
    ),
    (
        "booking_request.patient_instructions.sampling_information",
        |it| {
            instructions(it).sampling_information = "x".repeat(2_001);
        },
    ),
    ("booking_request.internal_comment", |it| {
        form(it).internal_comment = "x".repeat(2_001)
    }),
    ("booking_request.invitation", |it| form(it).summons = false),
    (
        "booking_request.constraints.requested_period.start_date",
        |it| {
            period(it).start_date = "20260518".into();
        },
    ),
    (
        "booking_request.constraints.requested_period.end_date",
        |it| {
            period(it).end_date.clear();
        },
    ),
    ("booking_request.constraints.weekdays[1]", |it| {
        constraints(it).weekdays = vec![1, 8]
    }),
    (
        "booking_request.constraints.time_windows[1].end_clock",
        |it| {
            constraints(it).time_windows = windows(&[("08:00", "10:00"), ("12:00", "12:00")]);
        },
    ),
    ("booking_request.constraints.duration_minutes", |it| {
        constraints(it).duration_minutes = -1;
    }),
    ("booking_request.constraints.performer_ids[1]", |it| {
        constraints(it).performer_ids = vec!["SE2321000131-P1".into(), "Anna".into()];
    }),
    ("booking_request.priority", |it| form(it).priority = 9),
];

/// Faults that exclude one of those above.
const OTHER_FAULTS: &[Fault] = &[
    ("parent", |it| it.parent.clear()),
    ("request_id", |it| it.request_id.clear()),
    ("booking_request", |it| it.booking_request = None),
    ("booking_request.patient", |it| form(it).patient = None),
    ("booking_request.patient.personal_id", |it| {
        patient(it).personal_id.clear()
    }),
    ("booking_request.patient.personal_id_type", |it| {
        patient(it).personal_id_type = 0
    }),
    ("booking_request.origin", |it| form(it).origin = None),
    ("booking_request.previous_visit.visit_id", |it| {
        form(it).origin = Some(visit("", "R-1"))
    }),
    ("booking_request.previous_visit.referral_id", |it| {
        form(it).origin = Some(visit("V-1", "R\n1"));
    }),
    ("booking_request.visit_kind", |it| form(it).visit_kind = 3),
    ("booking_request.visit_type", |it| {
        form(it).visit_type = None
    }),
    ("booking_request.visit_type.code", |it| {
        visit_type(it).code.clear()
    }),
    ("booking_request.purpose", |it| form(it).purpose.clear()),
    ("booking_request.purpose", |it| {
        form(it).purpose = "å".repeat(201)
    }),
    ("booking_request.constraints", |it| {
        form(it).constraints = None
    }),
    ("booking_request.constraints.requested_period", |it| {
        constraints(it).requested_period = None;
    }),
    (
        "booking_request.constraints.requested_period.end_date",
        |it| {
            period(it).end_date = "2026-05-17".into();
        },
    ),
    (
        "booking_request.constraints.requested_period.end_date",
        |it| {
            period(it).end_date = "2027-05-20".into();
        },
    ),
    ("booking_request.constraints.weekdays[0]", |it| {
        constraints(it).weekdays = vec![0]
    }),
    ("booking_request.constraints.time_windows", |it| {
        constraints(it).time_windows = windows(&[("08:00", "08:01"); 15]);
    }),
    (
        "booking_request.constraints.time_windows[0].start_clock",
        |it| {
            constraints(it).time_windows = windows(&[("24:00", "24:00")]);
        },
    ),
    (
        "booking_request.constraints.time_windows[0].end_clock",
        |it| {
            constraints(it).time_windows = windows(&[("08:00", "8:30")]);
        },
    ),
    ("booking_request.constraints.time_windows[1]", |it| {
        constraints(it).time_windows = windows(&[("08:00", "12:00"), ("11:59", "13:00")]);
    }),
    ("booking_request.constraints.duration_minutes", |it| {
        constraints(it).duration_minutes = 4;
    }),
    ("booking_request.constraints.duration_minutes", |it| {
        constraints(it).duration_minutes = 700;
    }),
    ("booking_request.constraints.performer_ids", |it| {
        constraints(it).performer_ids = vec!["SE2321000131-P1".into(); 21];
    }),
];

#[tokio::test]
async fn every_bad_field_is_named_by_its_path() {
    let harness = Harness::start(NOW).await;
    for (field, spoil) in FAULTS.iter().chain(OTHER_FAULTS) {
        let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
        spoil(&mut call);
        let status = harness.create(call).await.expect_err(field);
        assert_invalid(&status, vec![field]);
    }
}

#[tokio::test]
async fn all_bad_fields_are_named_at_once() {
    let harness = Harness::start(NOW).await;
    let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    for (_, spoil) in FAULTS {
        spoil(&mut call);
    }
    let status = harness.create(call).await.expect_err("refused");
    assert_invalid(&status, FAULTS.iter().map(|(field, _)| *field).collect());
}

#[tokio::test]
async fn what_lies_on_a_limit_is_taken() {
    let harness = Harness::start(NOW).await;
    let mut call = make::wire_create(make::wire_form("2026-05-18", "2027-05-19"));
    // Limits count code points in NFC: each å is written as two here.
    form(&mut call).purpose = "a\u{30a}".repeat(200);
    form(&mut call).internal_comment = "å".repeat(2_000);
    instructions(&mut call).supplementary = "\u{1f9d1}".repeat(2_000);
    referral(&mut call).referral_id = "å".repeat(64);
    visit_type(&mut call).code = "x".repeat(64);
    patient(&mut call).preferred_language = "sv-abcdefgh-abcdefgh-abcdefgh-abcde".into();
    let limits = constraints(&mut call);
    limits.time_windows = (0..14)
        .map(|hour| v1::TimeWindow {
            start_clock: format!("{hour:02}:00"),
            end_clock: format!("{:02}:00", hour + 1),
        })
        .collect();
    limits.time_windows[13].end_clock = "24:00".into();
    limits.performer_ids = vec!["SE2321000131-123456789012345678".into(); 20];
    limits.duration_minutes = 480;
    let request = harness.create(call).await.expect("created");
    assert_eq!(request.purpose, "å".repeat(200));
    let kept = request.constraints.expect("constraints");
    assert_eq!((kept.duration_minutes, kept.time_windows.len()), (480, 14));
    assert_eq!(kept.time_windows[13].end_clock, "24:00");
}

#[tokio::test]
async fn what_is_left_out_has_its_default_and_what_is_output_only_is_ignored() {
    let harness = Harness::start(NOW).await;
    let mut form = requested("2026-05-18", "2026-06-12");
    form.name = "mine".into();
    form.state = v1::booking_request::State::Cancelled.into();
    form.etag = "mine".into();
    form.care_guarantee_date = "x".into();
    form.cancel_reason = 99;
    form.allowed_actions = vec![99];
    form.warnings = vec![99];
    form.create_time = Some(make::wire_at("2020-01-01T00:00:00Z"));
    form.care_invitation = Some(v1::CareInvitation::default());
    let request = created(&harness, form).await;
    let prefix = format!("{}/bookingRequests/", make::wire_unit());
    assert!(request.name.starts_with(&prefix), "{}", request.name);
    assert_eq!(request.state(), v1::booking_request::State::Requested);
    assert_eq!(request.care_invitation, None);
    assert_eq!(request.create_time, Some(make::wire_at(NOW)));
    assert_eq!(request.update_time, Some(make::wire_at(NOW)));
    assert_eq!(request.priority(), v1::Priority::Routine);
    let patient = request.patient.expect("a patient");
    assert_eq!(patient.preferred_language, "sv");
    assert_eq!(patient.inbox_reach(), v1::InboxReach::Unspecified);
}

#[tokio::test]
async fn an_hsa_id_is_taken_in_any_case_and_answered_in_capitals() {
    let harness = Harness::start(NOW).await;
    let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    call.parent = call
        .parent
        .replace(make::CARE_UNIT, &make::CARE_UNIT.to_lowercase());
    constraints(&mut call).performer_ids = vec!["se2321000131-p7".into()];
    let request = harness.create(call).await.expect("created");
    assert!(
        request.name.starts_with(&make::wire_unit()),
        "{}",
        request.name
    );
    let performers = &request
        .constraints
        .as_ref()
        .expect("constraints")
        .performer_ids;
    assert_eq!(performers, &["SE2321000131-P7"]);

    // The same request is addressed by either spelling, the id's own included.
    let lower = request
        .name
        .replace(make::CARE_UNIT, &make::CARE_UNIT.to_lowercase());
    let (unit, id) = lower.rsplit_once('/').expect("a name");
    let upper_id = format!("{unit}/{}", id.to_uppercase());
    for name in [&lower, &upper_id] {
        let read = harness.get(name).await.expect("read");
        assert_eq!(
            (&read.name, &read.etag),
            (&request.name, &request.etag),
            "{name}"
        );
    }
    let mut booked = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    booked.performer_id = "Se2321000131-p7".into();
    let booked = harness.book(record(&lower, booked)).await.expect("booked");
    assert_eq!(booked.name, request.name);
    assert_eq!(
        booked.booking.expect("a booking").performer_id,
        "SE2321000131-P7"
    );
}

#[tokio::test]
async fn text_that_comes_in_nfd_is_answered_in_nfc() {
    let harness = Harness::start(NOW).await;
    let nfd = "O\u{308}gon, a\u{30a}terbeso\u{308}k";
    let nfc = "Ögon, återbesök";
    let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    form(&mut call).purpose = nfd.into();
    form(&mut call).internal_comment = nfd.into();
    referral(&mut call).referral_id = nfd.into();
    visit_type(&mut call).code = nfd.into();
    visit_type(&mut call).display_name = nfd.into();
    *instructions(&mut call) = v1::PatientInstructions {
        visit_length: nfd.into(),
        supplementary: nfd.into(),
        sampling_before_visit: nfd.into(),
        sampling_information: nfd.into(),
    };
    let request = harness.create(call).await.expect("created");
    let instructions = request.patient_instructions.expect("instructions");
    let visit_type = request.visit_type.expect("a visit type");
    let Some(Origin::Referral(referral)) = request.origin else {
        panic!("a referral was given");
    };
    for text in [
        request.purpose,
        request.internal_comment,
        referral.referral_id,
        visit_type.code,
        visit_type.display_name,
        instructions.visit_length,
        instructions.supplementary,
        instructions.sampling_before_visit,
        instructions.sampling_information,
    ] {
        assert_eq!(text, nfc);
    }
}

#[tokio::test]
async fn control_characters_are_refused_but_line_feed_and_tab_in_the_longer_texts() {
    let harness = Harness::start(NOW).await;
    let short: &[Text] = &[
        ("booking_request.purpose", |it, text| {
            form(it).purpose = text
        }),
        ("booking_request.referral.referral_id", |it, text| {
            referral(it).referral_id = text
        }),
        ("booking_request.visit_type.code", |it, text| {
            visit_type(it).code = text
        }),
        ("booking_request.visit_type.display_name", |it, text| {
            visit_type(it).display_name = text;
        }),
        ("booking_request.patient.preferred_language", |it, text| {
            patient(it).preferred_language = text;
        }),
    ];
    let long: &[Text] = &[
        ("booking_request.internal_comment", |it, text| {
            form(it).internal_comment = text
        }),
        (
            "booking_request.patient_instructions.visit_length",
            |it, text| {
                instructions(it).visit_length = text;
            },
        ),
        (
            "booking_request.patient_instructions.supplementary",
            |it, text| {
                instructions(it).supplementary = text;
            },
        ),
        (
            "booking_request.patient_instructions.sampling_before_visit",
            |it, text| {
                instructions(it).sampling_before_visit = text;
            },
        ),
        (
            "booking_request.patient_instructions.sampling_information",
            |it, text| {
                instructions(it).sampling_information = text;
            },
        ),
    ];
    let spoiled = |set: fn(&mut Create, String), c: char| {
        let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
        set(&mut call, format!("sv{c}sv"));
        call
    };
    for c in ['\0', '\u{1}', '\u{1b}', '\u{7f}', '\u{85}', '\u{9f}'] {
        for (field, set) in short.iter().chain(long) {
            let status = harness.create(spoiled(*set, c)).await.expect_err(field);
            assert_invalid(&status, vec![field]);
        }
    }
    for c in ['\n', '\r', '\t'] {
        for (field, set) in short {
            let status = harness.create(spoiled(*set, c)).await.expect_err(field);
            assert_invalid(&status, vec![field]);
        }
        for (i, (field, set)) in long.iter().enumerate() {
            let mut call = spoiled(*set, c);
            referral(&mut call).referral_id = format!("R-{i}-{}", u32::from(c));
            let request = harness.create(call).await.expect(field);
            harness.get(&request.name).await.expect("read");
        }
    }
}

#[tokio::test]
async fn the_ends_of_lines_from_a_web_form_become_line_feeds() {
    let harness = Harness::start(NOW).await;
    let (written, kept) = ("ett\r\ntvå\r\rfyra\n\r", "ett\ntvå\n\nfyra\n\n");
    let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    form(&mut call).internal_comment = written.into();
    instructions(&mut call).supplementary = written.into();
    let request = harness.create(call.clone()).await.expect("created");
    let instructed = request.patient_instructions.expect("instructions");
    assert_eq!(request.internal_comment, kept);
    assert_eq!(instructed.supplementary, kept);

    // With the other ends of lines it is the same call.
    form(&mut call).internal_comment = kept.into();
    let again = harness.create(call).await.expect("the same call");
    assert_eq!(again.name, request.name);

    // What is counted is what is kept.
    let mut cancel = make::wire_cancel(&request.name);
    cancel.comment = format!("{}\r\n", "å".repeat(1_999));
    harness.cancel(cancel).await.expect("cancelled");
}

#[tokio::test]
async fn characters_that_cannot_be_seen_are_refused_in_identifiers_and_kept_in_texts() {
    let harness = Harness::start(NOW).await;
    let coded: &[Text] = &[
        ("booking_request.referral.referral_id", |it, text| {
            referral(it).referral_id = text;
        }),
        ("booking_request.previous_visit.visit_id", |it, text| {
            form(it).origin = Some(visit(&text, "R-1"));
            form(it).invitation = false;
        }),
        ("booking_request.previous_visit.referral_id", |it, text| {
            form(it).origin = Some(visit("V-1", &text));
        }),
        ("booking_request.visit_type.code", |it, text| {
            visit_type(it).code = text;
        }),
        ("booking_request.booking.booking_id", |it, text| {
            let booked = booking(&text, "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
            form(it).invitation = false;
            form(it).booking = Some(booked);
        }),
        (
            "booking_request.constraints.performer_ids[0]",
            |it, text| {
                constraints(it).performer_ids = vec![format!("SE2321000131-{text}")];
            },
        ),
        ("parent", |it, text| it.parent.push_str(&text)),
        ("request_id", |it, text| it.request_id.push_str(&text)),
    ];
    // Zero width space, joiner and no-break, soft hyphen, marks and isolates of direction, tag.
    let invisible = [
        '\u{200b}',
        '\u{200d}',
        '\u{feff}',
        '\u{ad}',
        '\u{200f}',
        '\u{2068}',
        '\u{e0041}',
    ];
    for c in invisible {
        for (field, set) in coded {
            let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
            set(&mut call, format!("A{c}1"));
            let status = harness.create(call).await.expect_err(field);
            assert_invalid(&status, vec![field]);
        }
    }
    let said: String = invisible.into_iter().collect();
    let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    form(&mut call).internal_comment = said.clone();
    form(&mut call).purpose = format!("Öron{said}");
    let request = harness.create(call).await.expect("created");
    assert_eq!(request.internal_comment, said);
    assert_eq!(request.purpose, format!("Öron{said}"));

    let name = format!("{}\u{200b}", request.name);
    assert_invalid(
        &harness.get(&name).await.expect_err("no name"),
        vec!["name"],
    );
    let mut book = record(
        &request.name,
        booking("B\u{200d}1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z"),
    );
    book.booking.as_mut().expect("a booking").performer_id = "SE2321000131-P1\u{200e}".into();
    let status = harness.book(book).await.expect_err("refused");
    assert_invalid(&status, vec!["booking.booking_id", "booking.performer_id"]);
}

#[tokio::test]
async fn every_form_of_an_hsa_id_is_a_care_unit_and_a_performer() {
    let harness = Harness::start(NOW).await;
    for id in [
        "SE165565594230-1000",
        "tstnmt2321000156-1003",
        "SE2321000131-a.b_c",
    ] {
        let mut call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
        call.parent = format!("careUnits/{id}");
        constraints(&mut call).performer_ids = vec![id.into()];
        let request = harness.create(call).await.expect(id);
        let capitals = id.to_uppercase();
        let unit = format!("careUnits/{capitals}/");
        assert!(request.name.starts_with(&unit), "{id}");
        let performers = request.constraints.expect("constraints").performer_ids;
        assert_eq!(performers, [capitals]);
    }
}

#[tokio::test]
async fn what_today_forbids_is_named_all_at_once_and_today_is_the_day_in_stockholm() {
    let start = "booking_request.constraints.requested_period.start_date";
    let end = "booking_request.constraints.requested_period.end_date";
    let weekdays = "booking_request.constraints.weekdays";
    let number = "booking_request.patient.personal_id";
    const MONDAY: i32 = v1::DayOfWeek::Monday as i32;
    const FRIDAY: i32 = v1::DayOfWeek::Friday as i32;
    // Born on 3 March 2026.
    const UNBORN: &str = "202603031234";
    const BORN: &str = "198003012385";
    let late = "2026-03-02T22:59:59Z";
    let midnight = "2026-03-02T23:00:00Z";
    for (now, first, last, days, personal_id, fields) in [
        (late, "2026-03-02", "2026-03-02", vec![], BORN, vec![]),
        (
            midnight,
            "2026-03-02",
            "2026-03-03",
            vec![],
            BORN,
            vec![start],
        ),
        (midnight, "2026-03-03", "2026-03-03", vec![], BORN, vec![]),
        (
            midnight,
            "2026-03-02",
            "2026-03-02",
            vec![],
            BORN,
            vec![start, end],
        ),
        // 2 March is a Monday: the only one in the period, and gone at midnight.
        (late, "2026-03-02", "2026-03-08", vec![MONDAY], BORN, vec![]),
        (
            midnight,
            "2026-03-03",
            "2026-03-08",
            vec![MONDAY],
            BORN,
            vec![weekdays],
        ),
        (
            midnight,
            "2026-03-03",
            "2026-03-09",
            vec![MONDAY],
            BORN,
            vec![],
        ),
        (
            midnight,
            "2026-03-03",
            "2026-03-05",
            vec![MONDAY, FRIDAY],
            BORN,
            vec![weekdays],
        ),
        (
            late,
            "2026-03-09",
            "2026-03-13",
            vec![],
            UNBORN,
            vec![number],
        ),
        (midnight, "2026-03-09", "2026-03-13", vec![], UNBORN, vec![]),
        (
            late,
            "2026-03-01",
            "2026-03-05",
            vec![FRIDAY],
            UNBORN,
            vec![start, weekdays, number],
        ),
    ] {
        let harness = Harness::start(now).await;
        let mut call = make::wire_create(make::wire_form(first, last));
        constraints(&mut call).weekdays = days;
        patient(&mut call).personal_id = personal_id.into();
        match harness.create(call).await {
            Ok(_) => assert!(fields.is_empty(), "{now} {first} {last} lacks {fields:?}"),
            Err(status) => assert_invalid(&status, fields),
        }
    }
}

#[tokio::test]
async fn each_call_on_a_request_names_its_bad_fields() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let mut bad = v1::ChangeToInvitationRequest {
        name: "x".into(),
        request_id: String::new(),
        etag: String::new(),
        constraints: Some(make::wire_constraints("", "x")),
        referral_id: "x".repeat(65),
        comment: "\0".into(),
    };
    let period = "constraints.requested_period";
    let (start, end) = (format!("{period}.start_date"), format!("{period}.end_date"));
    let fields = ["name", "request_id", &start, &end, "referral_id", "comment"];
    let status = harness.invite(bad.clone()).await.expect_err("refused");
    assert_invalid(&status, fields.to_vec());
    bad.constraints = Some(v1::BookingConstraints::default());
    let status = harness.invite(bad).await.expect_err("refused");
    let fields = ["name", "request_id", period, "referral_id", "comment"];
    assert_invalid(&status, fields.to_vec());

    let missing = v1::RecordBookingRequest {
        name: request.name.clone(),
        request_id: "7".into(),
        replaces_booking_id: "B\u{0}1".into(),
        ..Default::default()
    };
    let status = harness.book(missing).await.expect_err("refused");
    let fields = vec!["request_id", "booking", "replaces_booking_id"];
    assert_invalid(&status, fields);
    let empty = record("", v1::Booking::default());
    let status = harness.book(empty).await.expect_err("refused");
    let fields =
        ["booking_id", "start_time", "end_time", "source"].map(|it| format!("booking.{it}"));
    let fields = fields.iter().map(String::as_str).chain(["name"]);
    assert_invalid(&status, fields.collect());
    let start = "2026-05-18T08:00:00Z";
    let backwards = v1::Booking {
        source: 7,
        performer_id: "Anna".into(),
        override_reason: "x".repeat(2_001),
        ..booking("B\u{0}1", start, start)
    };
    let status = harness
        .book(record(&request.name, backwards))
        .await
        .expect_err("refused");
    let fields = [
        "booking_id",
        "end_time",
        "source",
        "performer_id",
        "override_reason",
    ];
    let fields = fields.map(|it| format!("booking.{it}"));
    assert_invalid(&status, fields.iter().map(String::as_str).collect());

    let cancel = v1::CancelBookingRequestRequest {
        name: format!("{}/notifications/x", request.name),
        request_id: "{}".into(),
        comment: "x".repeat(2_001),
        ..Default::default()
    };
    let status = harness.cancel(cancel).await.expect_err("refused");
    assert_invalid(&status, vec!["name", "request_id", "reason", "comment"]);
    let untouched = harness.get(&request.name).await.expect("read");
    assert_eq!(untouched, request);
}
