//! A seeded cluster of the real cores in virtual time.
