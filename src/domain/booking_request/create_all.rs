//! Creates a request, or all members of a series.

use uuid::Uuid;

use crate::domain::booking_request::create::{Create, create, violations};
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::series::{Series, moved};
use crate::domain::{Change, Context, Refusal, Violation};

/// Command to create a request, or those of a series.
#[derive(Clone, Debug)]
pub struct CreateAll {
    /// First request, or the only one.
    pub first: Create,
    /// Days from one period to the next; of no meaning to a single request.
    pub interval_days: u32,
    /// Ids of the members after the first.
    pub others: Vec<Uuid>,
}

impl CreateAll {
    /// Returns the number of requests.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }
}

/// Creates a request, or all of a series, the first one first.
///
/// # Errors
///
/// Errors of [`create`], and [`Refusal::Invalid`] for a period that the interval moves to where it has no
/// acceptable weekday.
pub fn create_all(command: &CreateAll, context: &Context) -> Result<Vec<Change>, Refusal> {
    let CreateAll {
        first,
        interval_days,
        others,
    } = command;
    if others.is_empty() {
        return Ok(vec![create(first, context)?]);
    }
    let faults = repeat_violations(command, context);
    if !faults.is_empty() {
        return Err(Refusal::Invalid(faults));
    }
    let ids = std::iter::once(first.key.id).chain(others.iter().copied());
    let ids: Vec<Uuid> = ids.collect();
    let member = |(place, id): (u32, &Uuid)| {
        let mut member = first.clone();
        member.key.id = *id;
        member.form.constraints = first.form.constraints.as_ref().map(|it| Constraints {
            period: moved(it.period, place * interval_days),
            ..it.clone()
        });
        member.series = Some(Series {
            position: i32::try_from(place + 1).expect("a series has 12 members at most"),
            members: ids.clone(),
        });
        create(&member, context)
    };
    (0..).zip(&ids).map(member).collect()
}

/// Returns the violations of the first request, and of the interval.
fn repeat_violations(command: &CreateAll, context: &Context) -> Vec<Violation> {
    let mut faults = violations(&command.first, context);
    let constraints = command.first.form.constraints.as_ref();
    let lacks_weekday = |place: u32| {
        constraints.is_some_and(|it| {
            let period = moved(it.period, place * command.interval_days);
            !it.weekdays.occur_in(period, period.first)
        })
    };
    if (1..)
        .zip(&command.others)
        .any(|(place, _)| lacks_weekday(place))
    {
        faults.push(Violation::new(
            "repeat.interval_days",
            "moves a period to where none of the weekdays occurs",
        ));
    }
    faults
}
