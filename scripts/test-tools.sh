#!/bin/sh
# Installs what the end-to-end tests need from Debian or Ubuntu, and nothing that is there already.
#
# The tests start these programs themselves, inside namespaces of their own. The packages' services are neither started
# nor enabled here: the machine runs afterwards what it ran before.
set -eu

# File, then the package that has it.
needed="
/usr/lib/frr/bgpd frr
/usr/sbin/bird bird2
/usr/bin/gobgpd gobgpd
/usr/sbin/nft nftables
/usr/sbin/iptables iptables
/usr/sbin/ipset ipset
/usr/sbin/ip iproute2
/usr/bin/tcpdump tcpdump
/usr/bin/openssl openssl
/usr/bin/curl curl
/usr/bin/prometheus prometheus
/usr/bin/promtool prometheus
/usr/bin/setpriv util-linux
/usr/bin/containerd containerd
/usr/sbin/runc runc
/usr/lib/cni/ptp containernetworking-plugins
/usr/bin/musl-gcc musl-tools
/etc/ssl/certs/ca-certificates.crt ca-certificates
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
"

packages=$(echo "$needed" | while read -r file package; do
    [ -z "$file" ] || [ -e "$file" ] || echo "$package"
done | sort -u)
if [ -z "$packages" ]; then
    exit 0
fi
packages=$(echo "$packages" | tr '\n' ' ')

if ! command -v apt-get >/dev/null; then
    echo "scripts/test-tools.sh: the end-to-end tests need these packages, and there is no apt-get here to install them: $packages" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "scripts/test-tools.sh: run as root, to install: $packages" >&2
    exit 1
fi

# A package's script asks this file whether it may start its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# shellcheck disable=SC2086 # one word for each package
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages >&2; }
install || { apt-get update >&2 && install; }

# Installing also enables the services for the next start of the machine.
if command -v systemctl >/dev/null; then
    for service in frr bird gobgpd nftables prometheus containerd; do
        case " $packages " in
        *" $service"*) systemctl disable --quiet "$service.service" >/dev/null 2>&1 || : ;;
        esac
    done
fi
