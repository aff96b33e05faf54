//! Packet sockets (`AF_PACKET`), the filters on them, and multicast membership.
