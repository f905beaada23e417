//! The scopes that a subject may have: what it may do, as one word each.

/// Something that a subject may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Scope {
    /// Reading booking requests, their history and their notifications.
    BookingRead = 1,
    /// Creating and changing booking requests.
    BookingWrite = 1 << 1,
    /// Reading worklists.
    WorklistRead = 1 << 2,
    /// Taking due notifications and answering for them.
    NotificationDeliver = 1 << 3,
    /// Changing the settings of care units.
    SettingsWrite = 1 << 4,
    /// Reading the access log.
    AuditRead = 1 << 5,
    /// Seeing the identity numbers of patients with protected identity.
    PatientProtected = 1 << 6,
    /// Seeing and booking as the patient that the token names, and as nobody else.
    PatientSelf = 1 << 7,
    /// Acting for others, who are named beside the token in each call.
    Actor = 1 << 8,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 9] = [
        Self::BookingRead,
        Self::BookingWrite,
        Self::WorklistRead,
        Self::NotificationDeliver,
        Self::SettingsWrite,
        Self::AuditRead,
        Self::PatientProtected,
        Self::PatientSelf,
        Self::Actor,
    ];

    /// Returns the word for it in tokens and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::BookingRead => "booking.read",
            Self::BookingWrite => "booking.write",
            Self::WorklistRead => "worklist.read",
            Self::NotificationDeliver => "notification.deliver",
            Self::SettingsWrite => "settings.write",
            Self::AuditRead => "audit.read",
            Self::PatientProtected => "patient.protected",
            Self::PatientSelf => "patient.self",
            Self::Actor => "actor",
        }
    }

    /// Returns the scope of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u16);

impl Scopes {
    /// Returns the set of all scopes.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Parses names with spaces between them. Names that are not ours are skipped: issuers add their own,
    /// such as `openid`.
    pub fn parse(names: &str) -> Self {
        names.split(' ').filter_map(Scope::of_name).collect()
    }

    /// Returns whether a scope is in the set.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope as u16 != 0
    }

    /// Returns the set without a scope.
    pub fn without(self, scope: Scope) -> Self {
        Self(self.0 & !(scope as u16))
    }

    /// Returns whether a scope is in both sets.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the names of the scopes, in the order of [`Scope::ALL`].
    pub fn names(self) -> Vec<&'static str> {
        let contained = Scope::ALL.into_iter().filter(|it| self.contains(*it));
        contained.map(Scope::name).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let bits = scopes.into_iter().map(|scope| scope as u16);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_with_spaces_between_them() {
        for (text, expected) in [
            ("", &[][..]),
            ("booking.read", &[Scope::BookingRead]),
            (
                "openid actor  worklist.read booking.read.more",
                &[Scope::Actor, Scope::WorklistRead],
            ),
            ("Booking.Read booking.read,worklist.read", &[]),
        ] {
            let scopes = Scopes::parse(text);
            for scope in Scope::ALL {
                assert_eq!(scopes.contains(scope), expected.contains(&scope), "{text}");
            }
        }
    }

    #[test]
    fn every_scope_has_a_bit_and_a_name_of_its_own() {
        let names: Vec<_> = Scope::ALL.iter().map(|it| it.name()).collect();
        let all = Scopes::parse(&names.join(" "));
        assert_eq!(all, Scopes::all());
        assert_eq!(all.0.count_ones(), 9);
        assert_eq!(all.names(), names);
    }

    #[test]
    fn sets_meet_in_a_scope() {
        for (one, other, meet) in [
            ("booking.read actor", "booking.write booking.read", true),
            ("booking.read", "booking.write", false),
            ("", "booking.write", false),
        ] {
            assert_eq!(Scopes::parse(one).meets(Scopes::parse(other)), meet);
        }
        let left = Scopes::parse("booking.read actor").without(Scope::Actor);
        assert_eq!(left.names(), ["booking.read"]);
    }
}
