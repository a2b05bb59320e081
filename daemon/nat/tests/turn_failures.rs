//! Relays that cannot be used: what is told, and that everything else goes on.

use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::servers::Refusal;
use crate::world::{SECOND_TURN, Setup, TURN, World, address, relay, relay_at};
use voipd_nat::ice::{CandidateKind, MediaPath, State};
use voipd_nat::turn::{RelayError, RelayServer, RelayTransport};

fn with_relays(relays: Vec<RelayServer>, kind: Kind) -> World {
    let setup = |relays| Setup { relays, ..Setup::new(kind) };
    World::new([setup(relays.clone()), setup(relays)])
}

#[test]
fn wrong_credentials_are_told_as_such() {
    for transport in [RelayTransport::Udp, RelayTransport::Tcp] {
        for (username, password) in [("user", "wrong"), ("nobody", "secret")] {
            let wrong = RelayServer {
                username: username.to_owned(),
                password: password.to_owned(),
                ..relay(transport)
            };
            let mut world = with_relays(vec![wrong], Kind::Open);
            world.gather();
            let expected = ("turn.example".to_owned(), RelayError::Credentials);
            assert_eq!(world.peers[0].failed, [expected], "{transport:?} {username}");
            assert!(world.elapsed() < Duration::from_secs(1), "at once: {:?}", world.elapsed());
            world.exchange();
            world.expect_connected();
        }
    }
}

#[test]
fn a_silent_relay_holds_nothing_up_for_longer_than_five_seconds() {
    let mut world = with_relays(vec![relay(RelayTransport::Udp)], Kind::PortRestricted);
    world.dark.push(address(TURN));
    world.connect();
    assert!(world.elapsed() < Duration::from_millis(5100), "{:?}", world.elapsed());
    world.expect_connected();
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.peers[0].failed.len(), 1);
    assert_eq!(world.peers[0].failed[0].1, RelayError::Silent("udp"));
}

#[test]
fn a_refused_connection_is_told_with_its_reason() {
    let mut world = with_relays(vec![relay(RelayTransport::Tls)], Kind::Open);
    world.dark.push(address(TURN));
    world.gather();
    let expected = RelayError::Connection("connection refused".to_owned());
    assert_eq!(world.peers[0].failed, [("turn.example".to_owned(), expected)]);
}

#[test]
fn a_relay_that_goes_away_in_mid_call_is_noticed_and_another_one_found() {
    let relays = vec![relay(RelayTransport::Udp), relay_at(SECOND_TURN, RelayTransport::Udp)];
    let mut world = with_relays(relays, Kind::Symmetric);
    world.connect();
    world.expect_connected();
    let server = |path| match path {
        MediaPath::Channel { server, .. } => Some(server),
        MediaPath::Direct { remote, .. } => Some(remote),
        MediaPath::Stream { .. } => None,
    };
    let ip = server(world.path(0)).unwrap().ip();
    assert_eq!(ip, address(TURN).ip());
    let dead: Vec<_> = (50000..50100).map(|port| format!("{ip}:{port}")).chain([TURN.to_owned()]).collect();
    world.dark.extend(dead.iter().map(|dead| address(dead)));
    assert!(world.run_until(Duration::from_secs(40), |world| world.states()[0] == State::Lost));
    let now = world.now;
    for peer in &mut world.peers {
        peer.agent.restart(now, None);
    }
    world.exchange();
    world.expect_connected();
    assert_eq!(server(world.path(0)).unwrap().ip(), address(SECOND_TURN).ip());
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn a_closed_connection_ends_its_path_at_once() {
    let mut world = with_relays(vec![relay(RelayTransport::Tcp)], Kind::UdpBlocked);
    world.connect();
    world.expect_connected();
    let stream = world.peers.iter().enumerate().find_map(|(peer, known)| match known.paths[&1].path {
        MediaPath::Stream { stream, .. } => Some((peer, stream)),
        _ => None,
    });
    let (peer, stream) = stream.expect("a path by a connection");
    let now = world.now;
    world.peers[peer].agent.handle_stream_closed(now, stream, "closed by the relay");
    world.run_for(Duration::ZERO);
    assert_eq!(world.states()[peer], State::Lost);
}

/// Two whose relay refuses by these.
fn refused(transport: RelayTransport, kind: Kind, refusals: &[(&str, Refusal)]) -> World {
    let mut world = with_relays(vec![relay(transport)], kind);
    world.servers.refusals = refusals.iter().map(|(at, refusal)| (address(at), *refusal)).collect();
    world
}

const ALL: [RelayTransport; 3] = [RelayTransport::Udp, RelayTransport::Tcp, RelayTransport::Tls];

#[test]
fn rfc8489_10_who_is_sent_to_another_server_is_relayed_there() {
    let second = address(SECOND_TURN);
    for refusal in [Refusal::Alternate(second), Refusal::ProvedAlternate(second)] {
        for transport in ALL {
            // Who must be relayed.
            let kind = if transport == RelayTransport::Udp { Kind::Symmetric } else { Kind::UdpBlocked };
            let mut world = refused(transport, kind, &[(TURN, refusal)]);
            world.connect();
            world.expect_connected();
            assert_eq!(world.peers[0].failed, [], "{transport:?}");
            let candidates = world.peers[0].agent.candidates();
            let relayed = candidates.iter().filter(|known| known.kind == CandidateKind::Relayed);
            assert!(
                relayed.clone().count() > 0 && relayed.clone().all(|one| one.address.ip() == second.ip())
            );
            assert_eq!(world.media_flows(), [true; 2], "{transport:?} {refusal:?}");
            // The first one's connection is not kept.
            let closed = usize::from(transport != RelayTransport::Udp);
            assert_eq!(world.peers[0].closed_streams.len(), closed);
            // A restart stays with who gave the address.
            let now = world.now;
            for peer in &mut world.peers {
                peer.agent.restart(now, None);
            }
            world.exchange();
            world.expect_connected();
            assert_eq!(world.media_flows(), [true; 2], "{transport:?} {refusal:?}");
        }
    }
}

#[test]
fn who_is_sent_in_a_circle_or_nowhere_gives_up() {
    let [first, second] = [TURN, SECOND_TURN].map(address);
    for transport in ALL {
        let circle = [(TURN, Refusal::Alternate(second)), (SECOND_TURN, Refusal::Alternate(first))];
        let itself = [(TURN, Refusal::Alternate(first))];
        // A relay in the Internet has no business in anybody's own network.
        let inside = ["10.0.0.1:3478", "127.0.0.1:3478", "0.0.0.0:3478", "224.0.0.1:3478", "198.51.100.10:0"];
        let inside = inside.map(|nowhere| vec![(TURN, Refusal::Alternate(address(nowhere)))]);
        for refusals in [circle.to_vec(), itself.to_vec()].into_iter().chain(inside) {
            let mut world = refused(transport, Kind::Open, &refusals);
            world.gather();
            let code = |error: &RelayError| matches!(error, RelayError::Refused { code: 300, .. });
            assert!(matches!(world.peers[0].failed.as_slice(), [(_, error)] if code(error)), "{refusals:?}");
            assert!(world.elapsed() < Duration::from_secs(2), "{:?}", world.elapsed());
        }
    }
}

#[test]
fn whoever_was_asked_with_a_proof_sends_nobody_elsewhere_without_one() {
    let mut world =
        refused(RelayTransport::Udp, Kind::Open, &[(TURN, Refusal::UnprovedAlternate(address(SECOND_TURN)))]);
    world.gather();
    let relayed =
        world.peers[0].agent.candidates().iter().any(|known| known.address.ip() == address(SECOND_TURN).ip());
    assert!(!relayed);
}

#[test]
fn each_error_is_told_as_what_it_is() {
    for transport in ALL {
        for code in [437, 441, 442, 486, 500, 508] {
            let mut world = refused(transport, Kind::Open, &[(TURN, Refusal::Code(code))]);
            world.gather();
            let failed = &world.peers[0].failed;
            let is_told = |error: &RelayError| match (code, error) {
                (441, RelayError::Credentials) => true,
                (486 | 508, RelayError::Quota { code: told, .. })
                | (437 | 442 | 500, RelayError::Refused { code: told, .. }) => *told == code,
                _ => false,
            };
            assert!(matches!(failed.as_slice(), [(_, error)] if is_told(error)), "{code}: {failed:?}");
            assert!(world.elapsed() < Duration::from_secs(2), "{code} at once: {:?}", world.elapsed());
        }
    }
}
