//! Bad input: whatever strangers, peers, the machine and clients do, it ends in a clear error, and nothing else stops.

mod clients;
mod packets;
mod peers;
mod stranger;
mod surroundings;
mod witness;
