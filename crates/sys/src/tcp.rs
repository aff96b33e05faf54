//! Socket options of TCP for routing: MD5 signatures (RFC 2385), TTL, binding to devices.
