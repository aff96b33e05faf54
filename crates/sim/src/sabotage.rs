//! What a broken program would do. Each is done on purpose by tests, to see that it is noticed.

/// A defect to put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// An address is answered for even when it is not to be any more.
    ForgetAddressWithdrawals,
    /// A speaker takes its own node for the only one.
    KnowNoOtherNode,
    /// A speaker does not tell the others what keeps its node from announcing.
    HideHindrances,
    /// Nobody hears that somebody else claims an address.
    HideConflicts,
    /// Whoever claims an address is told otherwise, again and again.
    FightStrangers,
    /// A speaker says everything about addresses twice.
    RepeatAnnouncements,
    /// A speaker never hears of some Services.
    MissServices,
    /// The outbox of a responder has room for one thing.
    TinyOutbox,
    /// A core finds itself broken.
    BreakACore,
    /// A route is left with the router.
    ForgetRouteWithdrawals,
    /// A session begins anew with each change of a Service.
    ResetSessionsForServices,
    /// Everything that is sent to a router is sent twice.
    RepeatUpdates,
    /// The network is told of every address again and again.
    RefreshAllTheTime,
    /// Nothing is said without being asked, so that nobody hears of a new owner.
    NeverAnnounce,
    /// An invalid configuration counts as an empty one.
    TakeInvalidConfigurations,
    /// Once a configuration was invalid, no other one is taken.
    StayInvalid,
    /// Who loses the API gives up what it announces.
    WithdrawWhenCut,
    /// A controller that starts does not look at what Services have already.
    ForgetStatusesAtStart,
    /// No address is assigned to a node.
    NeverSpread,
    /// The counters of pools are never written.
    LoseCounters,
    /// Nothing is ever written.
    NeverWrite,
    /// The counters of pools are written twice in a row.
    WriteTwice,
    /// Each status is written again and again.
    RepeatWrites,
    /// A status that something else wrote is set back at once, each time.
    InsistAtOnce,
}
