//! What a broken program would do. Each is done on purpose by tests, to see that it is noticed.

/// A defect to put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// An address is answered for even when it is not to be any more.
    ForgetAddressWithdrawals,
    /// An address is answered for on all links, whatever the advertisements say.
    AnswerEverywhere,
    /// A speaker takes its own node for the only one.
    KnowNoOtherNode,
    /// A route is left with the router.
    ForgetRouteWithdrawals,
    /// A session begins anew with each change of a Service.
    ResetSessionsForServices,
    /// An invalid configuration counts as an empty one.
    TakeInvalidConfigurations,
    /// Who loses the API gives up what it announces.
    WithdrawWhenCut,
    /// A controller that starts does not look at what Services have already.
    ForgetStatusesAtStart,
    /// The counters of pools are never written.
    LoseCounters,
    /// Each status is written again and again.
    RepeatWrites,
    /// Everything that is sent to a router is sent twice.
    RepeatUpdates,
    /// The responder is never told the time, so that nobody hears of a new owner.
    NeverAnnounce,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Sabotage; 12] = [
        Sabotage::ForgetAddressWithdrawals,
        Sabotage::AnswerEverywhere,
        Sabotage::KnowNoOtherNode,
        Sabotage::ForgetRouteWithdrawals,
        Sabotage::ResetSessionsForServices,
        Sabotage::TakeInvalidConfigurations,
        Sabotage::WithdrawWhenCut,
        Sabotage::ForgetStatusesAtStart,
        Sabotage::LoseCounters,
        Sabotage::RepeatWrites,
        Sabotage::RepeatUpdates,
        Sabotage::NeverAnnounce,
    ];
}
