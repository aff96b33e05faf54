//! How a network interface is named between programs and the kernel.

use std::fmt;
use std::num::NonZeroU32;

/// The number by which the kernel knows a network interface: never zero, and not used again soon after the interface
/// has gone. Names can change while an interface lives; its number cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceIndex(NonZeroU32);

impl InterfaceIndex {
    /// The interface with this number; `None` for zero, which the kernel uses for "any".
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(InterfaceIndex(number)),
            None => None,
        }
    }

    /// The number, as system calls want it.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for InterfaceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for InterfaceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
