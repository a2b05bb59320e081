//! Relays that friends offer each other at a meeting point: who is told of them, and that nothing is believed.

use std::net::SocketAddr;

use crate::common::meeting::{DOMAIN, Friend, UNIX};
use crate::common::{HostId, Net};
use voipd_sip::digest::{Login, Secret, UserHash};
use voipd_sip::endpoint::{Event, Transport};
use voipd_sip::rendezvous::{self, Directory, OfferState, RelayKey, RelayOffer};

const POINT: &str = "198.51.100.1:5060";
const RELAY: &str = "203.0.113.5:3478";

struct World {
    net: Net,
    point: HostId,
    /// On a public address; anna is a contact, carol is none.
    bob: Friend,
    anna: Friend,
    carol: Friend,
}

impl World {
    fn new(transport: Transport) -> Self {
        let mut net = Net::new();
        let point = net.meeting(POINT);
        let bob = net.friend_by(point, "bob", "203.0.113.5:5060", transport);
        let anna = net.friend(point, "anna", "203.0.113.6:5060");
        let carol = net.friend(point, "carol", "203.0.113.7:5060");
        net.with_meeting(point, |point, _| point.add_contacts("anna", "bob"));
        net.told(point);
        World { net, point, bob, anna, carol }
    }

    fn offer(&mut self, address: &str) {
        let offer = RelayOffer { address: address.parse().unwrap(), salt: "salt".to_owned() };
        self.net.with(self.bob.host, |endpoint, _| endpoint.offer_relay(self.bob.id, Some(offer)));
    }

    /// Registers anew; what the meeting point tells.
    fn ask(&mut self, friend: Friend) -> Directory {
        self.net.events(friend.host);
        self.net.with(friend.host, |endpoint, now| endpoint.register(now, friend.id)).unwrap();
        self.net.run_ms(500);
        let bound = self.net.events(friend.host).into_iter().rev().find_map(|event| match event {
            Event::Bound { binding, .. } => binding.directory,
            _ => None,
        });
        bound.expect("a directory")
    }

    /// What the meeting point wants to be looked at.
    fn wanted(&mut self) -> Vec<(SocketAddr, rendezvous::RelayLogin)> {
        let told = self.net.told(self.point).into_iter();
        told.filter_map(|event| match event {
            rendezvous::Event::Offered { member, address, login } => {
                assert_eq!(member, "bob");
                Some((address, login))
            }
            _ => None,
        })
        .collect()
    }

    fn checked(&mut self, result: Result<(), String>) {
        let address = RELAY.parse().unwrap();
        self.net.with_meeting(self.point, |point, _| point.relay_checked("bob", address, result));
    }
}

#[test]
fn a_relay_that_works_is_lent_to_contacts_alone_with_a_login_that_it_knows() {
    let mut world = World::new(Transport::Udp);
    world.offer(RELAY);
    let (bob, anna, carol) = (world.bob, world.anna, world.carol);
    assert_eq!(world.ask(bob).offer, Some(OfferState::Checking));
    let wanted = world.wanted();
    assert_eq!(wanted.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>(), [RELAY]);
    assert_eq!(world.ask(anna).friend_relays, [], "nobody is told before it was looked at");
    world.checked(Ok(()));
    assert_eq!(world.ask(bob).offer, Some(OfferState::Lent));
    assert_eq!(world.wanted(), [], "it was looked at just now");
    let lent = world.ask(anna).friend_relays;
    let [relay] = lent.as_slice() else { panic!("{lent:?}") };
    assert_eq!((relay.friend.as_str(), relay.relay.as_str()), ("bob", "turn:203.0.113.5:3478"));
    assert_eq!(world.ask(carol).friend_relays, [], "who has never talked to bob is told nothing of him");
    assert_eq!(world.ask(bob).friend_relays, [], "nobody is lent his own");

    // The relay knows both logins by what bob's telephone knows, and the meeting point's name.
    let (user, password) = bob_login();
    let hash = UserHash::of(DOMAIN, Login { user: &user, password: &password });
    let key = RelayKey::of(&hash, "salt");
    for login in [&relay.login, &wanted[0].1] {
        assert_eq!(key.password(&login.user), login.password, "{login:?}");
    }
    let (expiry, name) = relay.login.user.split_once(':').unwrap();
    assert_eq!(name, format!("anna@{DOMAIN}"));
    let expiry: u64 = expiry.parse().unwrap();
    assert!((UNIX + 3600..=UNIX + 7300).contains(&expiry), "{expiry}");
}

#[test]
fn who_was_removed_cannot_use_the_login_of_who_is_invited_anew_by_that_name() {
    let mut world = World::new(Transport::Udp);
    let (point, bob) = (world.point, world.bob);
    world.net.with_meeting(point, |point, _| point.set_relays(vec!["turn:198.51.100.1:3478".to_owned()]));
    let old = world.ask(bob).login.unwrap();
    world.net.with_meeting(point, |point, _| point.remove("bob"));
    let again = world.net.friend(point, "bob", "203.0.113.66:5060");
    let new = world.ask(again).login.unwrap();
    assert_eq!(new.user, old.user, "still within the same hours");
    assert_ne!(new.password, old.password);
    let granted = world.net.told(point);
    assert!(granted.contains(&rendezvous::Event::Granted(new)), "{granted:?}");
}

/// What [`Net::friend`] lets bob draw and make: the same each time.
fn bob_login() -> (String, Secret) {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    net.invitation(point, "bob").login(&format!("at{}", "203.0.113.5:5060".len()))
}

#[test]
fn who_says_to_be_public_and_is_seen_elsewhere_lends_nothing() {
    let mut world = World::new(Transport::Udp);
    let (bob, anna) = (world.bob, world.anna);
    for elsewhere in ["10.0.0.5:3478", "203.0.113.6:3478", "127.0.0.1:3478", "[2001:db8::5]:3478"] {
        world.offer(elsewhere);
        let Some(OfferState::Refused(why)) = world.ask(bob).offer else { panic!("{elsewhere}") };
        assert!(why.contains("203.0.113.5") && why.contains("NAT"), "{why}");
        assert_eq!(world.wanted(), [], "{elsewhere}");
        // Even a good word for it changes nothing.
        let address = elsewhere.parse().unwrap();
        world.net.with_meeting(world.point, |point, _| point.relay_checked("bob", address, Ok(())));
        assert_eq!(world.ask(anna).friend_relays, [], "{elsewhere}");
    }
}

#[test]
fn a_relay_that_does_not_work_is_not_lent_and_tried_again_later() {
    let mut world = World::new(Transport::Udp);
    let (bob, anna) = (world.bob, world.anna);
    world.offer(RELAY);
    world.ask(bob);
    assert_eq!(world.wanted().len(), 1);
    world.checked(Err("it does not answer".to_owned()));
    assert_eq!(world.ask(bob).offer, Some(OfferState::Refused("it does not answer".to_owned())));
    assert_eq!(world.ask(anna).friend_relays, []);
    assert_eq!(world.wanted(), [], "not at each REGISTER");
    world.net.run_ms(130_000);
    world.ask(bob);
    assert_eq!(world.wanted().len(), 1);
    world.checked(Ok(()));
    assert_eq!(world.ask(anna).friend_relays.len(), 1);

    // One that works is looked at now and then, and lent in the meantime.
    world.net.run_ms(700_000);
    assert_eq!(world.ask(bob).offer, Some(OfferState::Lent));
    assert!(!world.wanted().is_empty());
    world.checked(Err("it does not answer any more".to_owned()));
    assert_eq!(world.ask(anna).friend_relays, []);
}

#[test]
fn a_relay_goes_with_its_friend() {
    // By what ends: the registration, the connection, the friendship, the offer.
    for (end, transport) in
        [(0, Transport::Udp), (1, Transport::Tcp), (2, Transport::Udp), (3, Transport::Udp)]
    {
        let mut world = World::new(transport);
        let (bob, anna) = (world.bob, world.anna);
        world.offer(RELAY);
        world.ask(bob);
        world.checked(Ok(()));
        assert_eq!(world.ask(anna).friend_relays.len(), 1, "{end}");
        match end {
            0 => world.net.with(bob.host, |endpoint, now| endpoint.unregister(now, bob.id)).unwrap(),
            1 => {
                let refused = Some(voipd_sip::endpoint::TransportError::Refused);
                world.net.fault(Transport::Tcp, POINT, refused);
                world.net.cut(bob.host, world.point);
            }
            2 => {
                world.net.with_meeting(world.point, |point, _| point.remove("bob"));
            }
            _ => {
                world.net.with(bob.host, |endpoint, _| endpoint.offer_relay(bob.id, None));
                assert_eq!(world.ask(bob).offer, None);
            }
        }
        world.net.run_ms(500);
        assert_eq!(world.ask(anna).friend_relays, [], "{end}");
    }
}
