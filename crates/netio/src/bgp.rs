//! TCP connections of BGP sessions.
