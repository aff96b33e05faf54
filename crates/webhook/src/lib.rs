//! What the API server asks of a webhook, and what it is told (contract 1.4 and 4.4).
//!
//! - [`Question`] is an AdmissionReview as it comes: somebody wants to change an object. [`Reviewer`] judges it together with
//!   all other objects, by the rules of `config`, and [`Answer`] goes back.
//! - [`convert`] answers a ConversionReview: BGPPeers in one version become those of another.
//! - [`trust::next`] says what to do about the certificate that the API server has to trust.
//!
//! Bytes come in and go out; there is no server, no certificate and no clock here.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::needless_raw_string_hashes))]

mod conversion;
mod question;
mod reviewer;
pub mod trust;

pub use conversion::{CONVERSION_PATH, convert};
pub use question::{Question, Unreadable};
pub use reviewer::{Answer, EXPECTED_MAX, EXPECTED_TIME, Reviewer};

/// The kinds that are judged, with the paths at which the API server asks about them (contract 4.4). The paths are names
/// alone: what is asked about stands in the question.
pub const VALIDATION_PATHS: [(api::Kind, &str); 6] = [
    (api::Kind::BFDProfile, "/validate-metallb-io-v1beta1-bfdprofile"),
    (api::Kind::BGPAdvertisement, "/validate-metallb-io-v1beta1-bgpadvertisement"),
    (api::Kind::BGPPeer, "/validate-metallb-io-v1beta2-bgppeer"),
    (api::Kind::Community, "/validate-metallb-io-v1beta1-community"),
    (api::Kind::IPAddressPool, "/validate-metallb-io-v1beta1-ipaddresspool"),
    (api::Kind::L2Advertisement, "/validate-metallb-io-v1beta1-l2advertisement"),
];

/// What a [`Reviewer`] has to be told of: the kinds that are judged, and those that they are judged by. Secrets are not
/// among them: whether one is there is known to the speakers.
pub const KINDS: [api::Kind; 8] = [
    api::Kind::BFDProfile,
    api::Kind::BGPAdvertisement,
    api::Kind::BGPPeer,
    api::Kind::Community,
    api::Kind::IPAddressPool,
    api::Kind::L2Advertisement,
    api::Kind::Namespace,
    api::Kind::Node,
];
