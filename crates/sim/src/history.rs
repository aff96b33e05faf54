//! Random histories: what is done to a cluster, and how much time passes before each step.
//!
//! A history depends on its seed alone, and not on what becomes of its steps: so steps can be left out of one to find
//! those that matter.

mod objects;

use kit::{Duration, Family, Rng};

use crate::cluster::{Claim, Manner};
use crate::names::{Lan, NODES_MAX, NodeId, ProcessId, RouterName};
use crate::step::{Exit, PodState, Step};
use objects::{APPS, NAMESPACES};

/// Steps of a history between two rests, at most.
const STEPS_TO_REST: u64 = 20;

/// Steps, each after some time.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The steps, in order.
    pub steps: Vec<(Duration, Step)>,
}

impl History {
    /// The history of a seed: a cluster is set up, then all sorts of things happen to it, with three rests.
    pub fn of_seed(seed: u64) -> Self {
        let mut writer = Writer { rng: Rng::new(seed ^ 0x5ca1_ab1e), steps: Vec::new() };
        writer.set_up();
        for _ in 0..3 {
            let steps = writer.rng.below(STEPS_TO_REST).saturating_add(4);
            for _ in 0..steps {
                writer.something();
            }
            writer.step(Step::Rest);
        }
        // These are made up on their own, so that the other histories stay what they are.
        if seed % 3 == 1 {
            writer.rng = Rng::new(seed ^ 0x57_4a_46_e5);
            writer.strangers();
        }
        if seed % 5 == 2 {
            writer.rng = Rng::new(seed ^ 0x5a_4a_7e_d0);
            writer.sharers();
        }
        History { steps: writer.steps }
    }
}

/// Makes up a history.
struct Writer {
    rng: Rng,
    steps: Vec<(Duration, Step)>,
}

impl Writer {
    fn step(&mut self, step: Step) {
        let span = self.pause();
        self.steps.push((span, step));
    }

    fn at_once(&mut self, step: Step) {
        self.steps.push((Duration::ZERO, step));
    }

    /// Most things happen close to each other, so that they meet.
    fn pause(&mut self) -> Duration {
        let most_ms = match self.rng.below(10) {
            0..=2 => 0,
            3..=5 => 100,
            6..=7 => 1_500,
            8 => 8_000,
            _ => 30_000,
        };
        Duration::from_micros(self.rng.below(Duration::from_millis(most_ms).as_micros().saturating_add(1)))
    }

    fn pick<T: Copy>(&mut self, items: &[T], otherwise: T) -> T {
        self.rng.pick(items).copied().unwrap_or(otherwise)
    }

    fn node(&mut self) -> NodeId {
        NodeId(u8::try_from(self.rng.below(NODES_MAX.into())).unwrap_or(0).saturating_add(1))
    }

    fn process(&mut self) -> ProcessId {
        if self.rng.one_in(3) { ProcessId::Controller } else { ProcessId::Speaker(self.node()) }
    }

    fn router(&mut self) -> RouterName {
        self.pick(&RouterName::ALL, RouterName::East)
    }

    /// A span of up to this many seconds, in milliseconds.
    fn seconds(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.rng.below(most.saturating_mul(1_000)).saturating_add(1))
    }

    /// What every cluster begins with: namespaces, pods, something to give out and ways to announce it.
    fn set_up(&mut self) {
        for namespace in NAMESPACES {
            let step = objects::namespace(&mut self.rng, namespace);
            self.at_once(step);
            for app in APPS {
                self.pods_of(namespace, app);
            }
        }
        let first = objects::set_up(&mut self.rng);
        for object in first {
            self.at_once(Step::Put(Box::new(object)));
        }
        for _ in 0..3 {
            let step = objects::service(&mut self.rng);
            self.at_once(step);
        }
    }

    fn pods_of(&mut self, namespace: &str, app: &str) {
        let count = self.rng.below(4);
        let states = [PodState::Ready, PodState::Ready, PodState::Unknown, PodState::NotReady, PodState::Terminating];
        let pods = (0..count).map(|_| (self.node(), self.pick(&states, PodState::Ready))).collect();
        let (namespace, app) = (namespace.to_owned(), app.to_owned());
        self.step(Step::Pods { namespace, app, pods });
    }

    /// Something happens.
    fn something(&mut self) {
        match self.rng.below(100) {
            0..=29 => {
                let step = objects::service(&mut self.rng);
                self.step(step);
            }
            30..=35 => {
                let step = objects::service_deletion(&mut self.rng);
                self.step(step);
            }
            36..=41 => {
                let (namespace, app) = (self.pick(&NAMESPACES, "x"), self.pick(&APPS, "web"));
                self.pods_of(namespace, app);
            }
            42..=59 => self.configuration(),
            60..=62 => {
                let namespace = self.pick(&NAMESPACES, "x");
                let step = objects::namespace(&mut self.rng, namespace);
                self.step(step);
            }
            63..=69 => {
                let node = self.node();
                let step = objects::node(&mut self.rng, node);
                self.step(step);
            }
            70..=73 => self.foreign(),
            74..=79 => self.process_fault(),
            80..=85 => self.machine(),
            _ => self.network_fault(),
        }
    }

    /// The configuration is edited. What is made invalid is mostly repaired a little later.
    fn configuration(&mut self) {
        let edit = objects::edit(&mut self.rng);
        let repair = edit.repair;
        self.step(edit.step);
        if let Some(repair) = repair.filter(|_| !self.rng.one_in(4)) {
            for _ in 0..self.rng.below(3) {
                let step = objects::service(&mut self.rng);
                self.step(step);
            }
            self.step(repair);
        }
    }

    fn foreign(&mut self) {
        let span = self.seconds(40);
        let step = match self.rng.below(6) {
            0..=1 => objects::foreign_counters(&mut self.rng),
            2 => objects::rival(&mut self.rng, span),
            _ => objects::foreign_status(&mut self.rng),
        };
        self.step(step);
    }

    /// Here and there somebody claims an address that is not its own, or memberlist does not get through.
    fn strangers(&mut self) {
        for (pause, step) in std::mem::take(&mut self.steps) {
            self.steps.push((pause, step));
            if !self.rng.one_in(5) {
                continue;
            }
            let span = self.seconds(30);
            let step = if self.rng.one_in(3) {
                Step::Block(self.node(), span)
            } else {
                let every = Duration::from_millis(self.rng.below(4_000).saturating_add(100));
                let (lan, manner) = (self.pick(&Lan::ALL, Lan::Front), self.pick(&Manner::ALL, Manner::Tells));
                Step::Stranger(Claim { lan, address: objects::address(&mut self.rng), manner, every }, span)
            };
            self.step(step);
        }
    }

    /// Here and there a Service asks for an address that another one has among others.
    fn sharers(&mut self) {
        for (pause, step) in std::mem::take(&mut self.steps) {
            self.steps.push((pause, step));
            if self.rng.one_in(3) {
                let step = objects::sharer(&mut self.rng);
                self.step(step);
            }
        }
    }

    fn process_fault(&mut self) {
        let process = self.process();
        let exit = self.pick(&[Exit::Ordered, Exit::Crash], Exit::Crash);
        let span = self.seconds(40);
        let step = match self.rng.below(6) {
            0..=2 => Step::Restart(process, exit),
            3..=4 => Step::Cut(process, span),
            _ => Step::CutAll(span),
        };
        self.step(step);
    }

    fn machine(&mut self) {
        let node = self.node();
        let step = match self.rng.below(6) {
            0..=1 => Step::Join(node),
            2 => Step::Leave(node),
            3 => Step::PowerOff(node),
            _ => Step::PowerOn(node),
        };
        self.step(step);
    }

    fn network_fault(&mut self) {
        let (node, router, span) = (self.node(), self.router(), self.seconds(20));
        let lan = self.pick(&Lan::ALL, Lan::Front);
        let protocol = self.pick(&l2::Protocol::ALL, l2::Protocol::Arp);
        let family = self.pick(&Family::ALL, Family::V4);
        let step = match self.rng.below(13) {
            0..=1 => Step::Unplug(node, lan, span),
            2 => Step::Vanish(node, span),
            10 => Step::SwapMac(node, lan),
            11..=12 => Step::LoseWay(node, family, span),
            3 => Step::KillSocket(node, lan, protocol),
            4 => Step::Lose(span),
            5 => Step::Break(node, router),
            6 => Step::Stall(node, router, span.times(3)),
            7 => Step::RouterDown(router, span),
            _ => Step::Ask(objects::address(&mut self.rng)),
        };
        self.step(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_history_and_another_seed_another() {
        assert_eq!(History::of_seed(7), History::of_seed(7));
        assert_ne!(History::of_seed(7), History::of_seed(8));
    }
}
