//! Linux namespaces and processes inside them, for the lab.
