//! What STUN servers tell about this machine's place behind NATs.

mod behaviour;

pub use behaviour::{Filtering, Hairpin, Mapping, Ports};
