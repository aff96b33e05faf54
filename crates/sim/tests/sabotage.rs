//! Each check can fail: for each thing that must hold a defect is put in on purpose, and found.

#![allow(clippy::expect_used, clippy::panic, missing_docs, reason = "a test may panic, also in its helpers")]

use sim::{Cluster, Invariant, KeepsTrace, Plan, Sabotage, Tampering};

/// Seeds that are tried until a defect shows.
const SEEDS: u64 = 400;

/// How it is shown that a check can fail.
enum Shown {
    /// A program with this defect breaks it.
    By(Sabotage),
    /// A cluster that was at rest breaks it when it was tampered with like this.
    After(Tampering),
    /// By books that no controller would write: see `ledger.rs` beside this file.
    InBooks,
}

/// Every invariant is here: one without a defect that breaks it is not checked.
fn shown(invariant: Invariant) -> Shown {
    match invariant {
        Invariant::AddressIsNotGivenTwice | Invariant::PoolAcceptsTheService | Invariant::ValidAddressStays => {
            Shown::InBooks
        }
        Invariant::InvalidConfigurationIsInert => Shown::By(Sabotage::TakeInvalidConfigurations),
        Invariant::ValidConfigurationIsInForce => Shown::By(Sabotage::StayInvalid),
        Invariant::LosingTheApiIsInert => Shown::By(Sabotage::WithdrawWhenCut),
        Invariant::SessionsAreLeftAlone => Shown::By(Sabotage::ResetSessionsForServices),
        Invariant::FramesAreMeant => Shown::By(Sabotage::ForgetAddressWithdrawals),
        Invariant::SpeakerIsConsistent => Shown::By(Sabotage::RepeatAnnouncements),
        Invariant::OutboxIsLargeEnough => Shown::By(Sabotage::TinyOutbox),
        Invariant::CoreAddsUp => Shown::By(Sabotage::BreakACore),
        Invariant::ComesToRest => Shown::By(Sabotage::NeverWrite),
        Invariant::ElectedNodeAnswers => Shown::By(Sabotage::KnowNoOtherNode),
        Invariant::RoutersHaveTheRoutes => Shown::By(Sabotage::ForgetRouteWithdrawals),
        Invariant::StatusesAreTheLedger => Shown::After(Tampering::DoubleAddress),
        Invariant::AddressesAreSpread => Shown::By(Sabotage::NeverSpread),
        Invariant::CountersAreARecount => Shown::By(Sabotage::LoseCounters),
        Invariant::RefusalsHaveReasons => Shown::By(Sabotage::MissServices),
        Invariant::RestIsQuiet => Shown::By(Sabotage::RepeatWrites),
        Invariant::WritesAreNews => Shown::By(Sabotage::WriteTwice),
        Invariant::RivalsArePatient => Shown::By(Sabotage::InsistAtOnce),
        Invariant::RestartIsInert => Shown::By(Sabotage::ForgetStatusesAtStart),
        Invariant::UpdatesAreNews => Shown::By(Sabotage::RepeatUpdates),
        Invariant::TakeoverIsTold => Shown::By(Sabotage::NeverAnnounce),
        Invariant::ConflictIsTold => Shown::By(Sabotage::HideConflicts),
        Invariant::DefenceIsMeasured => Shown::By(Sabotage::FightStrangers),
    }
}

/// The first seed under which the defect breaks this invariant, and no other one before it.
fn seed_that_breaks(sabotage: Sabotage, invariant: Invariant) -> Option<u64> {
    (0..SEEDS).find(|seed| {
        let result = Plan::of_seed(*seed).with(sabotage).run(KeepsTrace::No);
        result.is_err_and(|failure| failure.violation.invariant == invariant)
    })
}

/// The first cluster that has something to tamper with, tampered with.
fn tampered(tampering: Tampering) -> Cluster {
    let cluster = |seed: u64| {
        let mut cluster = Plan::of_seed(seed).run(KeepsTrace::No).ok()?;
        cluster.tamper(tampering).then_some(cluster)
    };
    (0..SEEDS).find_map(cluster).unwrap_or_else(|| panic!("there is a cluster for {tampering:?}"))
}

fn check_tampering(tampering: Tampering, invariant: Invariant) {
    let found = tampered(tampering).rest().expect_err("it is noticed");
    assert_eq!(found.invariant, invariant, "{tampering:?}: {found}");
}

#[test]
fn for_every_invariant_there_is_a_defect_that_breaks_it() {
    for invariant in Invariant::ALL {
        match shown(invariant) {
            Shown::By(sabotage) => {
                let seed = seed_that_breaks(sabotage, invariant);
                assert!(seed.is_some(), "{sabotage:?} does not break that {invariant}");
            }
            Shown::After(tampering) => check_tampering(tampering, invariant),
            Shown::InBooks => {}
        }
    }
}

#[test]
fn a_second_host_that_answers_is_found() {
    check_tampering(Tampering::SecondAnswer, Invariant::ElectedNodeAnswers);
}

#[test]
fn a_hindrance_that_the_others_do_not_hear_of_is_found() {
    let seed = seed_that_breaks(Sabotage::HideHindrances, Invariant::ElectedNodeAnswers);
    assert!(seed.is_some(), "all is well although nobody says what hinders it");
}

#[test]
fn two_owners_that_do_not_hear_of_each_other_are_found() {
    let seed = seed_that_breaks(Sabotage::HideConflicts, Invariant::ElectedNodeAnswers);
    assert!(seed.is_some(), "all is well although nobody hears that another node has the address, too");
}

#[test]
fn addresses_that_are_told_of_all_the_time_are_found() {
    let seed = seed_that_breaks(Sabotage::RefreshAllTheTime, Invariant::RestIsQuiet);
    assert!(seed.is_some(), "all is well although the network is never left alone");
}

#[test]
fn a_route_that_a_router_lost_is_found() {
    check_tampering(Tampering::LostRoute, Invariant::RoutersHaveTheRoutes);
}

#[test]
fn wrong_counters_are_found() {
    check_tampering(Tampering::WrongCounters, Invariant::CountersAreARecount);
}
