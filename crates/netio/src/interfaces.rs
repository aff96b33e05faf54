//! Network interfaces as netlink tells them: no rescans.
