//! The kernel's settings for an interface, read from `/proc/sys/net` of the network namespace that this thread is in.

use std::fs;
use std::path::{Path, PathBuf};

use l2::host::{Ipv6, Settings};

/// Reads the settings of an interface. What cannot be read is taken for the kernel's default: a kernel without IPv6 has none
/// of it, and an interface can go at any time.
pub fn read(interface: &str) -> Settings {
    read_below(Path::new("/proc/sys/net"), interface)
}

fn read_below(root: &Path, interface: &str) -> Settings {
    let of = |family: &str, owner: &str, name: &str| number(&root.join(family).join("conf").join(owner).join(name));
    let higher = |name: &str| of("ipv4", interface, name).unwrap_or(0).max(of("ipv4", "all", name).unwrap_or(0));
    // Nothing to read means that the kernel has no IPv6 at all. `all` sets the interfaces when it is written, and says
    // nothing about them afterwards.
    let ipv6 = match of("ipv6", interface, "disable_ipv6") {
        Some(0) => Ipv6::Enabled,
        Some(_) | None => Ipv6::Disabled,
    };
    Settings {
        arp_ignore: higher("arp_ignore"),
        arp_announce: higher("arp_announce"),
        rp_filter: higher("rp_filter"),
        ipv6,
    }
}

fn number(file: &PathBuf) -> Option<u8> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_of_interface_and_all_counts_and_what_is_missing_is_the_default() {
        let root = std::env::temp_dir().join(format!("settings-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("ipv4/conf/all/arp_ignore", "1\n");
        write("ipv4/conf/eth0.5/arp_ignore", "0\n");
        write("ipv4/conf/eth0.5/arp_announce", "2\n");
        write("ipv4/conf/all/arp_announce", "0\n");
        write("ipv4/conf/eth0.5/rp_filter", "nonsense\n");
        write("ipv6/conf/eth0.5/disable_ipv6", "0\n");
        write("ipv6/conf/all/disable_ipv6", "1\n");
        let expected = Settings { arp_ignore: 1, arp_announce: 2, rp_filter: 0, ipv6: Ipv6::Enabled };
        assert_eq!(read_below(&root, "eth0.5"), expected);
        write("ipv6/conf/eth0.5/disable_ipv6", "1\n");
        assert_eq!(read_below(&root, "eth0.5").ipv6, Ipv6::Disabled);
        assert_eq!(read_below(&root, "gone").ipv6, Ipv6::Disabled);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn this_host_can_be_read() {
        assert!(read("lo").rp_filter <= 2);
    }
}
