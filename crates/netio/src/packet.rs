//! Packet sockets as streams of frames.
