//! Batches whose elements are each answered by themselves: a malformed element spoils no other.

use super::Violations;

/// The elements of a batch, in the order of the call.
#[derive(Debug)]
pub struct Batch<T> {
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
        field: &str,
        max: usize,
        name: impl Fn(&M) -> String,
        parse: impl Fn(&M, &mut Violations) -> Option<T>,
    ) -> Result<Self, Violations> {
        Violations::collect(|violations| {
            if !(1..=max).contains(&messages.len()) {
                violations.add(field, format!("must be 1 to {max}"));
            }
            Some(())
        })?;
        let element = |(place, message): (usize, &M)| Element {
            name: name(message),
            parsed: Violations::collect(|violations| {
                violations.within(format!("{field}[{place}]"), |it| parse(message, it))
            }),
        };
        let elements = messages.iter().enumerate().map(element).collect();
        Ok(Self { elements })
    }

    /// Returns the well-formed elements, in order, and the batch without them, which waits for their answers.
    pub fn split(self) -> (Vec<T>, Batch<()>) {
        let mut parsed = Vec::with_capacity(self.elements.len());
        let element = |Element { name, parsed: it }| Element {
            name,
            parsed: it.map(|it| parsed.push(it)),
        };
        let elements = self.elements.into_iter().map(element).collect();
        (parsed, Batch { elements })
    }
}

impl Batch<()> {
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
