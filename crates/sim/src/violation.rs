//! What must hold, by name, and how it was found not to.

use std::fmt;

/// Something that must hold whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No address is given to two Services that may not share it.
    AddressIsNotGivenTwice,
    /// Every address is in a pool that accepts the Service, and of a family that the Service needs.
    PoolAcceptsTheService,
    /// An address that is still valid stays where it is, unless its Service gets what it wished instead.
    ValidAddressStays,
    /// An invalid configuration changes nothing.
    InvalidConfigurationIsInert,
    /// At rest, a valid configuration is in force everywhere.
    ValidConfigurationIsInForce,
    /// Who loses the API goes on as before.
    LosingTheApiIsInert,
    /// A session ends for its own configuration and for faults of the connection, and for nothing else.
    SessionsAreLeftAlone,
    /// A frame speaks only for an address that is announced, and only where it is.
    FramesAreMeant,
    /// What a speaker says can be carried out as it stands: nothing is begun twice, or ended that was not begun.
    SpeakerIsConsistent,
    /// Every outbox has room for what a core says.
    OutboxIsLargeEnough,
    /// What a core recounts about itself adds up.
    CoreAddsUp,
    /// When nothing happens any more, everything comes to rest.
    ComesToRest,
    /// At rest, each address is answered for by the node that the election says, where the advertisements say, and by
    /// nobody else.
    ElectedNodeAnswers,
    /// At rest, each router has the routes that the advertisements say, from each node, and no others.
    RoutersHaveTheRoutes,
    /// At rest, the statuses that the cluster shows are what the controller means.
    StatusesAreTheLedger,
    /// At rest, addresses that are to be spread evenly are assigned to nodes that can have them, and to none too many.
    AddressesAreSpread,
    /// At rest, the counters of each pool are a recount of the statuses.
    CountersAreARecount,
    /// At rest, there is a reason for every Service that has no address, or is not announced.
    RefusalsHaveReasons,
    /// At rest, nothing is written or announced.
    RestIsQuiet,
    /// Nothing is written again while it may still be on its way, unless something else wrote meanwhile.
    WritesAreNews,
    /// Two that each insist do not keep the API server busy.
    RivalsArePatient,
    /// A restart changes nothing.
    RestartIsInert,
    /// An UPDATE says something new, and one changed route takes one UPDATE.
    UpdatesAreNews,
    /// When the node that answers for an address is lost, the network is told who answers now.
    TakeoverIsTold,
    /// When somebody who does not belong to the cluster claims an address, that is told of within a second.
    ConflictIsTold,
    /// Against such a one the address is kept, and defended once (RFC 5227 section 2.4 (c)).
    DefenceIsMeasured,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 26] = [
        Invariant::AddressIsNotGivenTwice,
        Invariant::PoolAcceptsTheService,
        Invariant::ValidAddressStays,
        Invariant::InvalidConfigurationIsInert,
        Invariant::ValidConfigurationIsInForce,
        Invariant::LosingTheApiIsInert,
        Invariant::SessionsAreLeftAlone,
        Invariant::FramesAreMeant,
        Invariant::SpeakerIsConsistent,
        Invariant::OutboxIsLargeEnough,
        Invariant::CoreAddsUp,
        Invariant::ComesToRest,
        Invariant::ElectedNodeAnswers,
        Invariant::RoutersHaveTheRoutes,
        Invariant::StatusesAreTheLedger,
        Invariant::AddressesAreSpread,
        Invariant::CountersAreARecount,
        Invariant::RefusalsHaveReasons,
        Invariant::RestIsQuiet,
        Invariant::WritesAreNews,
        Invariant::RivalsArePatient,
        Invariant::RestartIsInert,
        Invariant::UpdatesAreNews,
        Invariant::TakeoverIsTold,
        Invariant::ConflictIsTold,
        Invariant::DefenceIsMeasured,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invariant::AddressIsNotGivenTwice => "no address is given to two Services that may not share it",
            Invariant::PoolAcceptsTheService => "every address is in a pool that accepts the Service",
            Invariant::ValidAddressStays => "an address that is still valid never moves",
            Invariant::InvalidConfigurationIsInert => "an invalid configuration changes nothing",
            Invariant::ValidConfigurationIsInForce => "a valid configuration is in force everywhere",
            Invariant::LosingTheApiIsInert => "losing the API changes nothing",
            Invariant::SessionsAreLeftAlone => "nothing but its own configuration and faults ends a session",
            Invariant::FramesAreMeant => "a frame speaks for what is announced alone",
            Invariant::SpeakerIsConsistent => "what a speaker says can be carried out",
            Invariant::OutboxIsLargeEnough => "every outbox has room",
            Invariant::CoreAddsUp => "a core's own recount adds up",
            Invariant::ComesToRest => "the cluster comes to rest",
            Invariant::ElectedNodeAnswers => "the elected node answers, and nobody else",
            Invariant::RoutersHaveTheRoutes => "routers have the routes, and no others",
            Invariant::StatusesAreTheLedger => "statuses are what the controller means",
            Invariant::AddressesAreSpread => "addresses are spread evenly over nodes that can have them",
            Invariant::CountersAreARecount => "pool counters are a recount",
            Invariant::RefusalsHaveReasons => "every refusal has a reason",
            Invariant::RestIsQuiet => "nothing is written at rest",
            Invariant::WritesAreNews => "nothing is written twice in a row",
            Invariant::RivalsArePatient => "two that insist do not keep the API server busy",
            Invariant::RestartIsInert => "a restart changes nothing",
            Invariant::UpdatesAreNews => "an UPDATE says something new, and only once",
            Invariant::TakeoverIsTold => "the network is told of a new owner",
            Invariant::ConflictIsTold => "a claim of a stranger is told of within a second",
            Invariant::DefenceIsMeasured => "an address is defended once against a stranger, and kept",
        })
    }
}

/// Something that must hold does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// How that was seen.
    pub detail: String,
}

impl Violation {
    /// It does not hold, as can be seen from this.
    pub fn new(invariant: Invariant, detail: impl Into<String>) -> Self {
        Violation { invariant, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not true that {}: {}", self.invariant, self.detail)
    }
}

/// Nothing, if the invariant holds; the detail is only made when it does not.
pub(crate) fn hold(condition: bool, invariant: Invariant, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if condition { Ok(()) } else { Err(Violation::new(invariant, detail())) }
}
