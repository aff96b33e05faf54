//! The neighbour table of a host: which MAC address answers for an address.

use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::Result;
use futures::TryStreamExt as _;
use kit::Mac;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

pub use rtnetlink::packet_route::neighbour::NeighbourState;

use super::Host;

/// What a host believes about an address on its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Who answered for it last; `None` when nobody did.
    pub mac: Option<Mac>,
    /// How sure the host is.
    pub state: NeighbourState,
}

impl Host {
    /// The neighbour table, both families.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        let netlink = self.netlink();
        self.run(async move || {
            let messages: Vec<_> = Box::pin(netlink.neighbours().get().execute()).try_collect().await?;
            Ok(messages.iter().filter_map(read).collect())
        })
    }

    /// The MAC address that the host holds for an address, if it knows one.
    pub fn neighbour_mac(&self, address: IpAddr) -> Result<Option<Mac>> {
        Ok(self.neighbours()?.into_iter().find(|one| one.address == address).and_then(|one| one.mac))
    }

    /// Makes the host forget what it knows about an address, so that it asks again.
    pub fn forget_neighbour(&self, address: IpAddr) -> Result<()> {
        self.forget(move |message| address_of(message) == Some(address))
    }

    /// Makes the host forget all that it found out by asking.
    pub(super) fn forget_neighbours(&self) -> Result<()> {
        self.forget(|message| !matches!(message.header.state, NeighbourState::Noarp | NeighbourState::Permanent))
    }

    fn forget(&self, which: impl Fn(&NeighbourMessage) -> bool + Send + 'static) -> Result<()> {
        let netlink = self.netlink();
        self.run(async move || {
            let messages: Vec<_> = Box::pin(netlink.neighbours().get().execute()).try_collect().await?;
            for message in messages.into_iter().filter(which) {
                match netlink.neighbours().del(message).execute().await {
                    // The kernel forgot it meanwhile.
                    Err(rtnetlink::Error::NetlinkError(error)) if error.to_io().kind() == ErrorKind::NotFound => {}
                    done => done?,
                }
            }
            Ok(())
        })
    }
}

fn read(message: &NeighbourMessage) -> Option<Neighbour> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
        _ => None,
    });
    Some(Neighbour { address: address_of(message)?, mac, state: message.header.state })
}

fn address_of(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}
