//! The person or system on whose behalf a subject calls, as metadata beside its token names them.

use std::fmt;

use crate::domain::Violation;

/// Metadata with the kind of the actor.
pub const ACTOR_TYPE: &str = "actor-type";
/// Metadata with the identifier of the actor.
pub const ACTOR_ID: &str = "actor-id";
/// Maximum characters in the identifier of an actor.
const ACTOR_ID_MAX: usize = 128;

/// Kind of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorType {
    /// A member of staff.
    Staff,
    /// A patient, or somebody on their behalf.
    Patient,
    /// A system by itself.
    System,
}

impl ActorType {
    const ALL: [Self; 3] = [Self::Staff, Self::Patient, Self::System];

    /// Returns the word for it in metadata and in the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Staff => "STAFF",
            Self::Patient => "PATIENT",
            Self::System => "SYSTEM",
        }
    }
}

/// The one on whose behalf a subject calls.
#[derive(Clone, PartialEq, Eq)]
pub struct Actor {
    kind: ActorType,
    id: String,
}

impl fmt::Debug for Actor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Actor")
    }
}

/// Metadata as it was given: none, a value, or what cannot be one, such as two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// It is not there.
    Nothing,
    /// One value of visible ASCII characters and spaces.
    Text(&'a str),
    /// Something else.
    Other,
}

impl Actor {
    /// Returns its kind.
    pub fn kind(&self) -> ActorType {
        self.kind
    }

    /// Parses the metadata of a call; none if there is none.
    ///
    /// # Errors
    ///
    /// The violations of both, when one is there without the other, or is not of its shape.
    pub fn parse(kind: Given, id: Given) -> Result<Option<Self>, Vec<Violation>> {
        if (kind, id) == (Given::Nothing, Given::Nothing) {
            return Ok(None);
        }
        let kind = match kind {
            Given::Text(text) => ActorType::ALL.into_iter().find(|it| it.name() == text),
            Given::Nothing | Given::Other => None,
        };
        let is_id = |text: &str| {
            (1..=ACTOR_ID_MAX).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
        };
        let id = match id {
            Given::Text(text) => Some(text).filter(|text| is_id(text)),
            Given::Nothing | Given::Other => None,
        };
        match (kind, id) {
            (Some(kind), Some(id)) => Ok(Some(Self {
                kind,
                id: id.to_owned(),
            })),
            (kind, id) => Err(violations(kind.is_none(), id.is_none())),
        }
    }

    /// Returns the violations of a call that must name its actor and does not.
    pub fn required() -> Vec<Violation> {
        violations(true, true)
    }

    /// Returns the violations of a call whose subject may not act for others.
    pub fn refused() -> Vec<Violation> {
        let text = "must not be given: the subject lacks the scope actor";
        [ACTOR_TYPE, ACTOR_ID]
            .map(|field| Violation::new(field, text))
            .to_vec()
    }

    /// Returns the actor's name in the history, as in `STAFF:SE2321000131-E1`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.kind.name(), self.id)
    }
}

fn violations(kind: bool, id: bool) -> Vec<Violation> {
    let kind = kind.then(|| Violation::new(ACTOR_TYPE, "must be STAFF, PATIENT or SYSTEM, once"));
    let id = id.then(|| {
        let text = format!("must be 1 to {ACTOR_ID_MAX} visible ASCII characters, once");
        Violation::new(ACTOR_ID, text)
    });
    [kind, id].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(violations: &[Violation]) -> Vec<&str> {
        violations.iter().map(|it| it.field.as_str()).collect()
    }

    #[test]
    fn an_actor_has_a_kind_and_an_identifier() {
        for (kind, name) in [
            ("STAFF", "STAFF:a-1"),
            ("PATIENT", "PATIENT:a-1"),
            ("SYSTEM", "SYSTEM:a-1"),
        ] {
            let actor = Actor::parse(Given::Text(kind), Given::Text("a-1"));
            let actor = actor.expect("good metadata").expect("an actor");
            assert_eq!(actor.name(), name);
            assert_eq!(format!("{actor:?}"), "Actor");
        }
        assert_eq!(Actor::parse(Given::Nothing, Given::Nothing), Ok(None));
    }

    #[test]
    fn metadata_of_another_shape_is_named() {
        let long = "x".repeat(ACTOR_ID_MAX + 1);
        let (staff, id) = (Given::Text("STAFF"), Given::Text("a-1"));
        for (kind, actor_id, expected) in [
            (staff, Given::Nothing, &[ACTOR_ID][..]),
            (Given::Nothing, id, &[ACTOR_TYPE]),
            (Given::Other, Given::Other, &[ACTOR_TYPE, ACTOR_ID]),
            (Given::Text("staff"), id, &[ACTOR_TYPE]),
            (
                Given::Text("NURSE"),
                Given::Text(""),
                &[ACTOR_TYPE, ACTOR_ID],
            ),
            (staff, Given::Text("a 1"), &[ACTOR_ID]),
            (staff, Given::Text("\u{1b}[31mred"), &[ACTOR_ID]),
            (staff, Given::Text("a\nb"), &[ACTOR_ID]),
            (staff, Given::Text("\u{e5}sa"), &[ACTOR_ID]),
            (staff, Given::Text(&long), &[ACTOR_ID]),
        ] {
            let violations = Actor::parse(kind, actor_id).expect_err("bad metadata");
            assert_eq!(fields(&violations), expected, "{kind:?} {actor_id:?}");
        }
        assert_eq!(fields(&Actor::required()), [ACTOR_TYPE, ACTOR_ID]);
        assert_eq!(fields(&Actor::refused()), [ACTOR_TYPE, ACTOR_ID]);
    }
}
