//! Batches whose elements are each answered by themselves: a malformed element spoils no other.

use super::Violations;

/// The elements of a batch, in the order of the call.
#[derive(Debug)]
pub struct Batch<T> {
    field: &'static str,
    elements: Vec<Element<T>>,
}

/// An element, with the name that it gives as it stands in the call.
#[derive(Debug)]
struct Element<T> {
    name: String,
    parsed: Result<T, Violations>,
}

impl<T> Batch<T> {
    /// Parses 1 to `max` elements, each by itself. The paths of their faults begin with `field`.
    ///
    /// # Errors
    ///
    /// A fault when there are none, or more.
    pub(super) fn parse<M>(
        messages: &[M],
        field: &'static str,
        max: usize,
        name: impl Fn(&M) -> String,
        parse: impl Fn(&M, &mut Violations) -> Option<T>,
    ) -> Result<Self, Violations> {
        check_count(messages.len(), field, max)?;
        let element = |message| Element {
            name: name(message),
            parsed: Violations::collect(|violations| parse(message, violations)),
        };
        Ok(Self::new(field, messages.iter().map(element)))
    }

    /// Parses 1 to `max` elements without names, each by itself and as if it were a whole call.
    ///
    /// # Errors
    ///
    /// A fault when there are none, or more.
    pub(super) fn of<M>(
        messages: Vec<M>,
        field: &'static str,
        max: usize,
        parse: impl Fn(M) -> Result<T, Violations>,
    ) -> Result<Self, Violations> {
        check_count(messages.len(), field, max)?;
        let element = |message| Element {
            name: String::new(),
            parsed: parse(message),
        };
        Ok(Self::new(field, messages.into_iter().map(element)))
    }

    fn new(field: &'static str, elements: impl Iterator<Item = Element<T>>) -> Self {
        let placed = |(place, element): (usize, Element<T>)| Element {
            parsed: element.parsed.map_err(|it| it.inside(&path(field, place))),
            ..element
        };
        Self {
            field,
            elements: elements.enumerate().map(placed).collect(),
        }
    }

    /// Returns the well-formed elements, in order, and the batch without them, which waits for their answers.
    pub fn split(self) -> (Vec<T>, Batch<()>) {
        let mut parsed = Vec::with_capacity(self.elements.len());
        let element = |Element { name, parsed: it }| Element {
            name,
            parsed: it.map(|it| parsed.push(it)),
        };
        let (field, elements) = (self.field, self.elements.into_iter());
        let elements = elements.map(element).collect();
        (parsed, Batch { field, elements })
    }
}

impl Batch<()> {
    /// Returns the path of each element, malformed ones too.
    pub fn paths(&self) -> Vec<String> {
        let places = 0..self.elements.len();
        places.map(|place| path(self.field, place)).collect()
    }

    /// Puts the answers in the places of the well-formed elements, whose order they have. Returns each name with its
    /// answer, or with the faults of a malformed element.
    pub fn join<A>(self, answers: Vec<A>) -> Vec<(String, Result<A, Violations>)> {
        let mut answers = answers.into_iter();
        let answer = |Element { name, parsed }| {
            let answer = parsed.map(|()| answers.next().expect("one for each well-formed element"));
            (name, answer)
        };
        self.elements.into_iter().map(answer).collect()
    }
}

fn path(field: &str, place: usize) -> String {
    format!("{field}[{place}]")
}

fn check_count(count: usize, field: &str, max: usize) -> Result<(), Violations> {
    Violations::collect(|violations| {
        add_count_fault(count, field, max, violations);
        Some(())
    })
}

/// Adds the fault of a batch that has none or more than `max` elements.
pub(super) fn add_count_fault(count: usize, field: &str, max: usize, violations: &mut Violations) {
    if !(1..=max).contains(&count) {
        violations.add(field, format!("must be 1 to {max}"));
    }
}
