//! How many connections strangers may hold, in all and from one source, and how long an idle one may live.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most connections that came to us.
const MOST: usize = 256;
/// Most of them from one source.
const MOST_OF_ONE: usize = 32;
/// Most TLS handshakes under way, and most of one source: those who say nothing must leave room for others.
const MOST_HANDSHAKES: usize = 64;
const MOST_HANDSHAKES_OF_ONE: usize = 8;
/// How long a connection may be idle.
pub(super) const IDLE: Duration = Duration::from_secs(600);
/// The same while more than half of the room is taken.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(30);

/// The room that inbound connections share.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    connections: Count,
    handshakes: Count,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

impl Limits {
    /// Room for a connection from `source`; `None` when there is none.
    pub(super) fn admit(&self, source: IpAddr) -> Option<Room> {
        self.take(source, |state| &mut state.connections, MOST, MOST_OF_ONE)
    }

    /// Room for its TLS handshake.
    pub(super) fn admit_handshake(&self, source: IpAddr) -> Option<Room> {
        self.take(source, |state| &mut state.handshakes, MOST_HANDSHAKES, MOST_HANDSHAKES_OF_ONE)
    }

    /// How long a connection may be idle now.
    pub(super) fn idle(&self) -> Duration {
        if self.lock().connections.all > MOST / 2 { IDLE_UNDER_PRESSURE } else { IDLE }
    }

    fn take(
        &self,
        source: IpAddr,
        count: fn(&mut State) -> &mut Count,
        most: usize,
        most_of_one: usize,
    ) -> Option<Room> {
        let source = network(source);
        let mut state = self.lock();
        let taken = count(&mut state);
        let of_one = taken.by_source.get(&source).copied().unwrap_or(0);
        if taken.all >= most || of_one >= most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by_source.insert(source, of_one + 1);
        Some(Room { limits: self.clone(), source, count })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has one IPv6 address has 2^64.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Room that is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    source: IpAddr,
    count: fn(&mut State) -> &mut Count,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.limits.lock();
        let taken = (self.count)(&mut state);
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_one) = taken.by_source.get_mut(&self.source) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_all_the_room_and_gives_back_what_it_took() {
        let limits = Limits::default();
        let greedy: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let rooms: Vec<Room> = (0..MOST_OF_ONE).map(|_| limits.admit(greedy).unwrap()).collect();
        assert!(limits.admit(neighbour).is_none(), "the same /64");
        assert!(limits.admit("192.0.2.1".parse().unwrap()).is_some());
        drop(rooms);
        assert!(limits.admit(neighbour).is_some());
        assert!(limits.lock().connections.by_source.is_empty());
    }

    #[test]
    fn all_sources_together_have_a_limit_and_idle_ones_go_sooner_when_it_is_near() {
        let limits = Limits::default();
        let source = |n: usize| IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]);
        let mut rooms: Vec<Room> = (0..MOST / 2).map(|n| limits.admit(source(n)).unwrap()).collect();
        assert_eq!(limits.idle(), IDLE);
        rooms.extend((MOST / 2..MOST).map(|n| limits.admit(source(n)).unwrap()));
        assert_eq!(limits.idle(), IDLE_UNDER_PRESSURE);
        assert!(limits.admit("192.0.2.1".parse().unwrap()).is_none());
        assert!(limits.admit_handshake(source(0)).is_some(), "handshakes are counted by themselves");
    }
}
