//! Capabilities in an OPEN (RFC 5492): what a side can do. Parsed here; what both can do is decided in
//! `negotiation.rs`.

use std::fmt;

use kit::Family;

use super::reader::Reader;

/// An address family with its subsequent one, as on the wire (RFC 4760). Any pair may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AfiSafi {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
}

impl AfiSafi {
    /// IPv4 unicast.
    pub const IPV4_UNICAST: AfiSafi = AfiSafi { afi: 1, safi: 1 };
    /// IPv6 unicast.
    pub const IPV6_UNICAST: AfiSafi = AfiSafi { afi: 2, safi: 1 };

    /// The pair that carries unicast routes of a family.
    pub const fn unicast(family: Family) -> Self {
        match family {
            Family::V4 => AfiSafi::IPV4_UNICAST,
            Family::V6 => AfiSafi::IPV6_UNICAST,
        }
    }

    /// The family whose unicast routes this pair carries.
    pub fn unicast_family(self) -> Option<Family> {
        Family::ALL.into_iter().find(|family| AfiSafi::unicast(*family) == self)
    }
}

impl fmt::Display for AfiSafi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.afi {
            1 => f.write_str("IPv4")?,
            2 => f.write_str("IPv6")?,
            25 => f.write_str("L2VPN")?,
            afi => write!(f, "AFI {afi}")?,
        }
        match self.safi {
            1 => f.write_str(" unicast"),
            2 => f.write_str(" multicast"),
            4 => f.write_str(" labeled-unicast"),
            70 => f.write_str(" EVPN"),
            128 => f.write_str(" VPN"),
            133 => f.write_str(" flowspec"),
            safi => write!(f, " SAFI {safi}"),
        }
    }
}

/// Routes of one family that may have a next hop of another (RFC 8950 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedNextHop {
    /// The routes.
    pub routes: AfiSafi,
    /// The AFI of the next hop.
    pub next_hop_afi: u16,
}

impl ExtendedNextHop {
    /// IPv4 unicast routes over an IPv6 next hop: the one use that matters here.
    pub const IPV4_OVER_IPV6: ExtendedNextHop = ExtendedNextHop { routes: AfiSafi::IPV4_UNICAST, next_hop_afi: 2 };
}

/// A family in the graceful restart capability (RFC 4724 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RestartFamily {
    /// Which routes.
    pub routes: AfiSafi,
    /// The flags as sent; bit 0x80 says that forwarding state was preserved.
    pub flags: u8,
}

/// One capability as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Routes of this family (RFC 4760 section 8).
    Multiprotocol(AfiSafi),
    /// ROUTE-REFRESH messages (RFC 2918).
    RouteRefresh,
    /// Next hops of another family (RFC 8950).
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// Messages of up to 65535 bytes (RFC 8654).
    ExtendedMessage,
    /// Routes survive a restart (RFC 4724, RFC 8538).
    GracefulRestart {
        /// The upper 4 bits: 0x8 restarting, 0x4 NOTIFICATIONs too.
        flags: u8,
        /// Seconds until the session is back; 12 bits.
        restart_time_secs: u16,
        /// The families whose state is kept.
        families: Vec<RestartFamily>,
    },
    /// AS numbers of 4 bytes; the value is the sender's AS (RFC 6793).
    FourOctetAs(u32),
    /// Marked begin and end of a refresh (RFC 7313).
    EnhancedRouteRefresh,
    /// One that is not used here, or whose value has the wrong length for its code.
    Other {
        /// Its code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
}

impl Capability {
    /// The code of IANA's registry.
    pub fn code(&self) -> u8 {
        match self {
            Capability::Multiprotocol(_) => 1,
            Capability::RouteRefresh => 2,
            Capability::ExtendedNextHop(_) => 5,
            Capability::ExtendedMessage => 6,
            Capability::GracefulRestart { .. } => 64,
            Capability::FourOctetAs(_) => 65,
            Capability::EnhancedRouteRefresh => 70,
            Capability::Other { code, .. } => *code,
        }
    }

    /// Reads all capabilities of one optional parameter. `None` when the lengths do not add up.
    pub(super) fn decode_all(value: &[u8], out: &mut Vec<Capability>) -> Option<()> {
        let mut reader = Reader::new(value, 0);
        while !reader.is_empty() {
            let code = reader.u8()?;
            let length = reader.u8()?;
            let value = reader.take(usize::from(length))?;
            out.push(Capability::decode(code, value));
        }
        Some(())
    }

    /// A value of the wrong length is kept as it is and has no effect: RFC 5492 has no error for it, and what the
    /// peer cannot say correctly is not used with it.
    fn decode(code: u8, value: &[u8]) -> Capability {
        let mut reader = Reader::new(value, 0);
        Capability::decode_known(code, &mut reader)
            .filter(|_| reader.is_empty())
            .unwrap_or_else(|| Capability::Other { code, value: value.to_vec() })
    }

    fn decode_known(code: u8, reader: &mut Reader<'_>) -> Option<Capability> {
        match code {
            1 => {
                let afi = reader.u16()?;
                let _reserved = reader.u8()?;
                Some(Capability::Multiprotocol(AfiSafi { afi, safi: reader.u8()? }))
            }
            2 => Some(Capability::RouteRefresh),
            5 => {
                let mut pairs = Vec::new();
                while !reader.is_empty() {
                    // The SAFI takes two bytes here (RFC 8950 section 4).
                    let (afi, safi, next_hop_afi) = (reader.u16()?, reader.u16()?, reader.u16()?);
                    if let Ok(safi) = u8::try_from(safi) {
                        pairs.push(ExtendedNextHop { routes: AfiSafi { afi, safi }, next_hop_afi });
                    }
                }
                Some(Capability::ExtendedNextHop(pairs))
            }
            6 => Some(Capability::ExtendedMessage),
            64 => {
                let head = reader.u16()?;
                let mut families = Vec::new();
                while !reader.is_empty() {
                    let (afi, safi, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
                    families.push(RestartFamily { routes: AfiSafi { afi, safi }, flags });
                }
                let flags = u8::try_from(head >> 12).unwrap_or_default();
                Some(Capability::GracefulRestart { flags, restart_time_secs: head & 0x0fff, families })
            }
            65 => reader.u32().map(Capability::FourOctetAs),
            70 => Some(Capability::EnhancedRouteRefresh),
            _ => None,
        }
    }

    /// Appends code, length and value. A value that is too long for its one byte of length is cut: nothing that is
    /// sent from here comes near.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        match self {
            Capability::Multiprotocol(family) => {
                value.extend_from_slice(&family.afi.to_be_bytes());
                value.extend_from_slice(&[0, family.safi]);
            }
            Capability::RouteRefresh | Capability::ExtendedMessage | Capability::EnhancedRouteRefresh => {}
            Capability::ExtendedNextHop(pairs) => {
                for pair in pairs {
                    value.extend_from_slice(&pair.routes.afi.to_be_bytes());
                    value.extend_from_slice(&u16::from(pair.routes.safi).to_be_bytes());
                    value.extend_from_slice(&pair.next_hop_afi.to_be_bytes());
                }
            }
            Capability::GracefulRestart { flags, restart_time_secs, families } => {
                let head = u16::from(*flags) << 12 | (restart_time_secs & 0x0fff);
                value.extend_from_slice(&head.to_be_bytes());
                for family in families {
                    value.extend_from_slice(&family.routes.afi.to_be_bytes());
                    value.extend_from_slice(&[family.routes.safi, family.flags]);
                }
            }
            Capability::FourOctetAs(asn) => value.extend_from_slice(&asn.to_be_bytes()),
            Capability::Other { value: other, .. } => value.extend_from_slice(other),
        }
        value.truncate(usize::from(u8::MAX));
        out.extend_from_slice(&[self.code(), u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        out.extend_from_slice(&value);
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Multiprotocol(family) => family.fmt(f),
            Capability::RouteRefresh => f.write_str("route refresh"),
            Capability::ExtendedNextHop(pairs) => {
                f.write_str("extended next hop")?;
                pairs.iter().try_for_each(|pair| {
                    let over = AfiSafi { afi: pair.next_hop_afi, safi: 1 };
                    write!(f, " {} over {}", pair.routes, over.unicast_family().map_or("another AFI", family_name))
                })
            }
            Capability::ExtendedMessage => f.write_str("extended message"),
            Capability::GracefulRestart { flags, restart_time_secs, families } => {
                write!(f, "graceful restart {restart_time_secs}s")?;
                if flags & 0x8 != 0 {
                    f.write_str(" restarting")?;
                }
                if flags & 0x4 != 0 {
                    f.write_str(" notification")?;
                }
                families.iter().try_for_each(|family| {
                    let kept = if family.flags & 0x80 != 0 { " (kept)" } else { "" };
                    write!(f, " {}{kept}", family.routes)
                })
            }
            Capability::FourOctetAs(asn) => write!(f, "4-byte AS {asn}"),
            Capability::EnhancedRouteRefresh => f.write_str("enhanced route refresh"),
            Capability::Other { code, value } => {
                match code {
                    9 => f.write_str("role")?,
                    69 => f.write_str("add-path")?,
                    71 => f.write_str("long-lived graceful restart")?,
                    73 => f.write_str("FQDN")?,
                    75 => f.write_str("software version")?,
                    128 => f.write_str("route refresh (old)")?,
                    code => write!(f, "capability {code}")?,
                }
                write!(f, " ({} bytes)", value.len())
            }
        }
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
