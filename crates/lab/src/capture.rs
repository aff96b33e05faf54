//! What passes on a wire, as text: for assertions on who answered, and in the report of a test that failed.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Mac};

use crate::{Host, Process, eventually};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running `tcpdump`. Its text is one of the host's logs, so it is shown when a test fails.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
}

/// Somebody said on the wire where an address is: an ARP reply or request with the address as sender, or a Neighbour
/// Advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Who sent it.
    pub mac: Mac,
    /// To whom: one host, or all.
    pub destination: Mac,
}

impl Capture {
    /// Begins to capture on an interface what passes the filter, in tcpdump's language. Returns when it does.
    pub fn start(host: &Host, interface: &str, filter: &str) -> Result<Capture> {
        let mut command = Command::new("tcpdump");
        // Ethernet addresses, no names, packet and line at once, time as seconds since 1970.
        command.args(["-e", "-n", "--immediate-mode", "-l", "-tt", "-i", interface, filter]);
        let tcpdump = host.spawn(&format!("capture-{interface}"), command).context("is tcpdump installed?")?;
        eventually(START_LIMIT, || {
            let text = tcpdump.log();
            ensure!(text.contains("listening on"), "tcpdump says {text:?}");
            Ok(())
        })?;
        Ok(Capture { tcpdump })
    }

    /// Everything so far, a packet for each line.
    pub fn text(&self) -> String {
        self.tcpdump.log()
    }

    /// Who said so far where an address is, in order.
    pub fn claims(&self) -> Vec<Claim> {
        self.text().lines().filter_map(claim).collect()
    }
}

/// Reads a line such as
/// `1.5 02:00:00:00:03:00 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), length 60: Reply 10.0.0.1 is-at 02:00:00:00:03:00, length 46`.
fn claim(line: &str) -> Option<Claim> {
    let (_time, rest) = line.split_once(' ')?;
    let (ethernet, rest) = rest.split_once(", ")?;
    let (mac, destination) = ethernet.split_once(" > ")?;
    let after = |word: &str| rest.split_once(word).and_then(|(_, text)| text.split([' ', ',']).next());
    let address = match (after("Reply "), after("tell ")) {
        (Some(address), _) | (None, Some(address)) if rest.contains("ARP") => address,
        _ if rest.contains("neighbor advertisement") => after("tgt is ")?,
        _ => return None,
    };
    Some(Claim { address: address.parse().ok()?, mac: mac.parse().ok()?, destination: destination.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::claim;

    fn check(line: &str, expected: Option<(&str, &str, &str)>) {
        let found = claim(line).map(|one| (one.address.to_string(), one.mac.to_string(), one.destination.to_string()));
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn claims_are_replies_gratuitous_requests_and_advertisements() {
        check(
            "1.5 02:00:00:00:03:00 > 02:00:00:00:02:00, ethertype ARP (0x0806), length 60: Reply 10.0.0.1 is-at 02:00:00:00:03:00, length 46",
            Some(("10.0.0.1", "02:00:00:00:03:00", "02:00:00:00:02:00")),
        );
        check(
            "1.5 02:00:00:00:03:00 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), length 42: Request who-has 10.0.0.1 (ff:ff:ff:ff:ff:ff) tell 10.0.0.1, length 28",
            Some(("10.0.0.1", "02:00:00:00:03:00", "ff:ff:ff:ff:ff:ff")),
        );
        check(
            "1.5 02:00:00:00:03:00 > 33:33:00:00:00:01, ethertype IPv6 (0x86dd), length 86: fe80::1 > ff02::1: ICMP6, neighbor advertisement, tgt is fd00::1, length 32",
            Some(("fd00::1", "02:00:00:00:03:00", "33:33:00:00:00:01")),
        );
    }

    #[test]
    fn other_lines_are_no_claims() {
        check("listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes", None);
        check(
            "1.5 02:00:00:00:03:00 > 33:33:ff:00:00:01, ethertype IPv6 (0x86dd), length 86: fd00::2 > ff02::1:ff00:1: ICMP6, neighbor solicitation, who has fd00::1, length 32",
            None,
        );
        check("", None);
    }
}
