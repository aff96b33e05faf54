//! The kernel's IPv4 neighbour table, as `/proc/net/arp` shows it: whom this host talks to, and at which station.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};

use kit::Mac;

/// Of a larger table the rest is not read: some ten thousand neighbours.
const TABLE_MAX: u64 = 1 << 20;

/// The addresses that the kernel has found at a station.
pub fn at(mac: Mac) -> io::Result<Vec<IpAddr>> {
    let mut table = Vec::new();
    fs::File::open("/proc/net/arp")?.take(TABLE_MAX).read_to_end(&mut table)?;
    Ok(addresses(&String::from_utf8_lossy(&table), mac))
}

/// Reads lines such as `10.0.0.1  0x1  0x2  02:00:00:00:00:01  *  eth0`, below a line with titles.
fn addresses(table: &str, mac: Mac) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address: Ipv4Addr = words.next()?.parse().ok()?;
        let found: Mac = words.nth(2)?.parse().ok()?;
        (found == mac).then_some(IpAddr::V4(address))
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_station_are_found_and_nonsense_is_not() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x2         02:00:00:00:00:01     *        eth0
10.0.0.2         0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.3         0x1         0x2         02:00:00:00:00:01     *        eth1
10.0.0.4         0x1
nonsense";
        let mac = |n| Mac([2, 0, 0, 0, 0, n]);
        let expected: Vec<IpAddr> = ["10.0.0.1", "10.0.0.3"].map(|text| text.parse().unwrap()).into();
        assert_eq!(addresses(table, mac(1)), expected);
        assert_eq!(addresses(table, mac(2)), Vec::<IpAddr>::new());
    }
}
