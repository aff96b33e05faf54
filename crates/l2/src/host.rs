//! What about this host stands in the way of traffic for announced addresses, although they are answered: judged from the
//! kernel's settings, which the driver reads.

use std::fmt;

use kit::Family;

/// The dummy interface on which kube-proxy in IPVS mode puts the addresses of all Services.
pub const IPVS_INTERFACE: &str = "kube-ipvs0";

/// Settings of the kernel for one interface, as they come into effect: of those for the interface and for all of them, the
/// higher one (`Documentation/networking/ip-sysctl.rst` of Linux).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `net.ipv4.conf.*.arp_ignore`: 0 answers for every address of the host on every interface.
    pub arp_ignore: u8,
    /// `net.ipv4.conf.*.arp_announce`: below 2, the host may ask in the name of any of its addresses.
    pub arp_announce: u8,
    /// `net.ipv4.conf.*.rp_filter`: 1 is strict.
    pub rp_filter: u8,
    /// `net.ipv6.conf.*.disable_ipv6`.
    pub ipv6: Ipv6,
}

/// Whether the kernel speaks IPv6 on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// It does.
    #[default]
    Enabled,
    /// It does not, so there is no link-local address either.
    Disabled,
}

/// How traffic to Services finds their backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceProxy {
    /// kube-proxy with IPVS: the host has [`IPVS_INTERFACE`].
    Ipvs,
    /// Something else, which gives the host no addresses.
    Other,
}

/// Where the answers to clients on other segments leave the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// By the interface in question, or nobody knows.
    Same,
    /// By another interface.
    Other,
}

/// Something that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// The kernels of all nodes answer for the addresses of all Services.
    NoStrictArp,
    /// The kernel drops what comes in by another interface than answers go out.
    StrictReversePath,
    /// The kernel does not speak IPv6 there.
    Ipv6Disabled,
}

impl Finding {
    /// All of them.
    pub const ALL: [Finding; 3] = [Finding::NoStrictArp, Finding::StrictReversePath, Finding::Ipv6Disabled];

    /// Its name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Finding::NoStrictArp => "noStrictARP",
            Finding::StrictReversePath => "strictReversePath",
            Finding::Ipv6Disabled => "ipv6Disabled",
        }
    }

    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Finding::NoStrictArp => {
                "set ipvs.strictARP: true in the configuration of kube-proxy and restart it on every node"
            }
            Finding::StrictReversePath => {
                "set net.ipv4.conf.INTERFACE.rp_filter and net.ipv4.conf.all.rp_filter to 2 (or 0), give the network a \
                 route of its own there, or leave the interface out of the L2Advertisement"
            }
            Finding::Ipv6Disabled => {
                "set net.ipv6.conf.INTERFACE.disable_ipv6 to 0, or leave the interface out of the L2Advertisement"
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Finding::NoStrictArp => {
                "kube-proxy uses IPVS without strict ARP: the kernel of every node answers ARP for the addresses of \
                 Services, whichever node announces them"
            }
            Finding::StrictReversePath => {
                "the kernel drops packets from clients behind the default route, which leads out by another interface: \
                 rp_filter is strict"
            }
            Finding::Ipv6Disabled => "IPv6 is disabled, so IPv6 addresses cannot be answered for",
        })
    }
}

/// What is wrong about an interface that answers for addresses of these families.
pub fn findings(settings: Settings, proxy: ServiceProxy, way_back: WayBack, families: &[Family]) -> Vec<Finding> {
    let (v4, v6) = (families.contains(&Family::V4), families.contains(&Family::V6));
    let is_strict_arp = settings.arp_ignore >= 1 && settings.arp_announce >= 2;
    let judgements = [
        (v4 && proxy == ServiceProxy::Ipvs && !is_strict_arp, Finding::NoStrictArp),
        (v4 && settings.rp_filter == 1 && way_back == WayBack::Other, Finding::StrictReversePath),
        (v6 && settings.ipv6 == Ipv6::Disabled, Finding::Ipv6Disabled),
    ];
    judgements.into_iter().filter(|(is_met, _)| *is_met).map(|(_, finding)| finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Settings = Settings { arp_ignore: 1, arp_announce: 2, rp_filter: 0, ipv6: Ipv6::Enabled };

    #[test]
    fn strict_arp_is_both_settings_and_matters_with_ipvs_only() {
        for arp_ignore in 0..=2 {
            for arp_announce in 0..=2 {
                let settings = Settings { arp_ignore, arp_announce, ..STRICT };
                let found = |proxy, families: &[Family]| findings(settings, proxy, WayBack::Same, families);
                let expected = if arp_ignore >= 1 && arp_announce == 2 { vec![] } else { vec![Finding::NoStrictArp] };
                assert_eq!(found(ServiceProxy::Ipvs, &Family::ALL), expected, "{settings:?}");
                assert_eq!(found(ServiceProxy::Ipvs, &[Family::V6]), []);
                assert_eq!(found(ServiceProxy::Other, &Family::ALL), []);
            }
        }
    }

    #[test]
    fn a_strict_reverse_path_matters_where_answers_leave_by_another_interface() {
        for (rp_filter, way_back, expected) in [
            (0, WayBack::Other, vec![]),
            (1, WayBack::Same, vec![]),
            (1, WayBack::Other, vec![Finding::StrictReversePath]),
            (2, WayBack::Other, vec![]),
        ] {
            let settings = Settings { rp_filter, ..STRICT };
            assert_eq!(findings(settings, ServiceProxy::Other, way_back, &[Family::V4]), expected);
            assert_eq!(findings(settings, ServiceProxy::Other, way_back, &[Family::V6]), []);
        }
    }

    #[test]
    fn disabled_ipv6_matters_when_there_are_ipv6_addresses() {
        let settings = Settings { ipv6: Ipv6::Disabled, ..STRICT };
        let found = |families: &[Family]| findings(settings, ServiceProxy::Other, WayBack::Same, families);
        assert_eq!(found(&Family::ALL), [Finding::Ipv6Disabled]);
        assert_eq!(found(&[Family::V4]), []);
        assert_eq!(found(&[]), []);
    }

    #[test]
    fn findings_say_what_to_do_on_one_line() {
        for finding in Finding::ALL {
            assert!(!finding.hint().contains('\n') && !finding.to_string().contains('\n'));
        }
    }
}
