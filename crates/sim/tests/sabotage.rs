//! Each check can fail: defects that are put in on purpose are found, each by the check that is for it.

#![allow(clippy::expect_used, clippy::panic, missing_docs, reason = "a test may panic, also in its helpers")]

use sim::{Cluster, Invariant, KeepsTrace, Plan, Sabotage, Tampering};

/// Seeds that are tried until a defect shows.
const SEEDS: u64 = 300;

/// Runs seeds with a defect until the check that is for it finds it.
fn check(sabotage: Sabotage, invariant: Invariant) {
    let finds = |seed: u64| {
        let result = Plan::of_seed(seed).with(sabotage).run(KeepsTrace::No);
        result.is_err_and(|failure| failure.violation.invariant == invariant)
    };
    assert!((0..SEEDS).any(finds), "{sabotage:?} is not found to break that {invariant}");
}

#[test]
fn every_defect_is_found() {
    for sabotage in Sabotage::ALL {
        let invariant = match sabotage {
            Sabotage::ForgetAddressWithdrawals | Sabotage::AnswerEverywhere => Invariant::FramesAreMeant,
            Sabotage::KnowNoOtherNode => Invariant::ElectedNodeAnswers,
            Sabotage::ForgetRouteWithdrawals => Invariant::RoutersHaveTheRoutes,
            Sabotage::ResetSessionsForServices => Invariant::SessionsAreLeftAlone,
            Sabotage::TakeInvalidConfigurations => Invariant::InvalidConfigurationIsInert,
            Sabotage::WithdrawWhenCut => Invariant::LosingTheApiIsInert,
            Sabotage::ForgetStatusesAtStart => Invariant::RestartIsInert,
            Sabotage::LoseCounters => Invariant::CountersAreARecount,
            Sabotage::RepeatWrites => Invariant::RestIsQuiet,
            Sabotage::RepeatUpdates => Invariant::UpdatesAreNews,
            Sabotage::NeverAnnounce => Invariant::TakeoverIsTold,
        };
        check(sabotage, invariant);
    }
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
    let result = tampered(tampering).rest();
    let found = result.expect_err("it is noticed");
    assert_eq!(found.invariant, invariant, "{tampering:?}: {found}");
}

#[test]
fn a_second_host_that_answers_is_found() {
    check_tampering(Tampering::SecondAnswer, Invariant::ElectedNodeAnswers);
}

#[test]
fn an_address_in_the_status_of_two_services_is_found() {
    check_tampering(Tampering::DoubleAddress, Invariant::StatusesAreTheLedger);
}

#[test]
fn a_route_that_a_router_lost_is_found() {
    check_tampering(Tampering::LostRoute, Invariant::RoutersHaveTheRoutes);
}

#[test]
fn wrong_counters_are_found() {
    check_tampering(Tampering::WrongCounters, Invariant::CountersAreARecount);
}
