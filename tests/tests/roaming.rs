//! Networks that change under a real voipd: on a host of its own whose addresses, interfaces and routes are taken away
//! and given, with kamailio as its registrar. Needs root, but for the sleep that logind tells of.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use voipd_tests::bus::Bus;
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::process::run;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Call, Config, Lab, SOON, Voipd, needs_root, pause, timely, until};
use zbus::Connection;

/// How long the network takes to be told and the call to follow: with the loss of the first packets, and not more.
const MOST_MISSING_MS: usize = 3000;

/// Alice on a far host with two interfaces; Bob and the registrar here, at addresses that both lead to.
struct Town {
    lab: Lab,
    wire: Wire,
    kamailio: Kamailio,
    alice: Voipd,
    bob: Voipd,
    /// Of the second wire: here and there.
    second: (Ipv4Addr, Ipv4Addr),
}

impl Town {
    async fn new() -> Self {
        let lab = Lab::alone();
        let wire = Wire::new();
        let second = wire.second();
        let (registrar, home) = (wire.server(0), wire.server(1));
        let kamailio = Kamailio::start_at(&lab, Digest::Md5, registrar, None).await;
        let account = |user: &str| kamailio.account(user) + "\ncodecs = [\"PCMU\"]";
        let alice = Voipd::start(&lab, "alice", Config::roaming(&wire).account(account("alice"))).await;
        let bob = Voipd::start(&lab, "bob", Config::at(home).account(account("bob"))).await;
        alice.account_is("alice", "registered", SOON).await;
        bob.account_is("bob", "registered", SOON).await;
        Self { lab, wire, kamailio, alice, bob, second }
    }

    /// Two sentences, one after the other, for each of the two: what is missing of a second one cannot be found in the
    /// first.
    fn speech(&self) -> [PathBuf; 2] {
        let load = |speaker| Sound::load(&speech(speaker, 8000));
        [[Speaker::Alice, Speaker::Bob], [Speaker::Bob, Speaker::Alice]].map(|[first, second]| {
            let mut both = load(first);
            both.samples.extend(load(second).samples);
            let file = self.lab.path(&format!("{first:?}-first.wav"));
            both.save(&file);
            file
        })
    }

    /// Alice calls Bob by way of the registrar; both speak. Two seconds later the network changes. What each has heard is
    /// judged, and then whether Alice can be called where she is now.
    async fn changes_in_mid_call(self, change: impl AsyncFnOnce(&Self), address: Ipv4Addr) {
        let [alices, bobs] = self.speech();
        let (heard_by_alice, heard_by_bob) =
            (self.lab.path("alice-heard.wav"), self.lab.path("bob-heard.wav"));
        let target = format!("sip:bob@{}", self.kamailio.address);
        let call = self.alice.dial_speaking(&target, &alices, &heard_by_alice).await;
        let answered = self.bob.incoming().await;
        answered.accept_speaking(&bobs, &heard_by_bob).await;
        call.is("active").await;
        pause(2.0).await;
        change(&self).await;
        let length = Sound::load(&alices).seconds().max(Sound::load(&bobs).seconds());
        pause(length - 1.0).await;
        assert_eq!((call.state().await.as_str(), answered.state().await.as_str()), ("active", "active"));
        assert_eq!(call.proxy.network_state().await.unwrap(), "ok");
        let remote = answered.proxy.remote_media().await.unwrap();
        assert!(remote.starts_with(&format!("{address}:")), "Bob knows where Alice is: {remote}");
        // Bob hangs up: his request has to find Alice.
        answered.hang_up().await;
        call.is("ended").await;
        for (who, said, heard) in [("Alice", &bobs, &heard_by_alice), ("Bob", &alices, &heard_by_bob)] {
            let (said, heard) = (Sound::load(said), Sound::load(heard));
            let whole = compare(&said, &heard, Codec::Waveform);
            println!("{who} heard: {whole}");
            assert!(whole.missing_ms() <= MOST_MISSING_MS, "{who} heard: {whole}");
            // Long after the change all is as it was before.
            let end = said.between(said.seconds() - 2.5, said.seconds());
            let rest = heard.between(heard.seconds() / 2.0, heard.seconds());
            let end = compare(&end, &rest, Codec::Waveform);
            assert!(end.correlation > 0.9 && end.missing_ms() <= 100, "{who} heard at the end: {end}");
        }
        self.is_called_at(address).await;
        self.end().await;
    }

    /// The registrar knows where Alice is now, and calls find her.
    async fn is_called_at(&self, address: Ipv4Addr) {
        let new = format!("@{address}:5060");
        until("the registration is renewed", SOON, async || {
            self.kamailio
                .log()
                .lines()
                .any(|line| line.contains("REGISTERED alice") && line.contains(&new))
                .then_some(())
        })
        .await;
        self.alice.account_is("alice", "registered", SOON).await;
        let call = self.bob.dial(&format!("sip:alice@{}", self.kamailio.address)).await;
        self.alice.incoming().await.accept().await;
        call.is("active").await;
        call.hang_up().await;
    }

    async fn end(self) {
        self.alice.stop().await;
        self.bob.stop().await;
    }
}

#[timely]
async fn a_call_survives_another_address() {
    if !needs_root("a_call_survives_another_address") {
        return;
    }
    let town = Town::new().await;
    let [a, b, c, _] = town.wire.here.octets();
    let (router, address) = (Ipv4Addr::new(a, b, c, 5), Ipv4Addr::new(a, b, c, 6));
    let change = async |town: &Town| {
        town.wire.router(router);
        town.wire.ip(&format!("address del {}/30 dev eth0", town.wire.there));
        pause(0.3).await;
        town.wire.ip(&format!("address add {address}/30 dev eth0"));
        town.wire.ip(&format!("route add default via {router}"));
    };
    town.changes_in_mid_call(change, address).await;
}

#[timely]
async fn a_call_survives_the_walk_to_another_network() {
    if !needs_root("a_call_survives_the_walk_to_another_network") {
        return;
    }
    let town = Town::new().await;
    let (router, address) = town.second;
    let change = async |town: &Town| {
        town.wire.ip("link set eth0 down");
        town.wire.ip(&format!("address add {address}/30 dev wlan0"));
        town.wire.ip(&format!("route add default via {router}"));
    };
    town.changes_in_mid_call(change, address).await;
}

#[timely]
async fn a_dead_link_gives_way_to_the_next_route() {
    if !needs_root("a_dead_link_gives_way_to_the_next_route") {
        return;
    }
    let town = Town::new().await;
    let (router, address) = town.second;
    // As with whatever manages the network: routes over a link without a carrier do not count.
    run(town.wire.program("sysctl").args(["-qw", "net.ipv4.conf.all.ignore_routes_with_linkdown=1"]));
    town.wire.ip(&format!("address add {address}/30 dev wlan0"));
    town.wire.ip(&format!("route add default via {router} metric 600"));
    // Neither address nor route of the dead link is taken away.
    let change = async |town: &Town| town.wire.pull();
    town.changes_in_mid_call(change, address).await;
}

#[timely]
async fn a_vpn_takes_the_calls_that_it_leads_to_and_nothing_else() {
    if !needs_root("a_vpn_takes_the_calls_that_it_leads_to_and_nothing_else") {
        return;
    }
    let town = Town::new().await;
    let (router, address) = town.second;
    let call = town.alice.dial(&format!("sip:bob@{}", town.kamailio.address)).await;
    let answered = town.bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    let registered = registrations(&town);
    town.wire.ip(&format!("address add {address}/30 dev wlan0"));
    pause(1.0).await;
    assert!(
        remote_media(&answered).await.starts_with(&format!("{}:", town.wire.there)),
        "an address alone is no way"
    );
    town.wire.ip(&format!("route add {}/32 via {router}", town.bob.address));
    until("the media goes by the VPN", SOON, async || {
        remote_media(&answered).await.starts_with(&format!("{address}:")).then_some(())
    })
    .await;
    let before = answered.figures().await.packets_received;
    until("and arrives", SOON, async || {
        (answered.figures().await.packets_received > before + 20).then_some(())
    })
    .await;
    town.wire.ip(&format!("route del {}/32", town.bob.address));
    until("and comes back", SOON, async || {
        remote_media(&answered).await.starts_with(&format!("{}:", town.wire.there)).then_some(())
    })
    .await;
    assert_eq!(registrations(&town), registered, "the way to the registrar has not changed");
    call.hang_up().await;
    town.end().await;
}

#[timely]
async fn without_a_network_calls_and_registrations_wait_for_one() {
    if !needs_root("without_a_network_calls_and_registrations_wait_for_one") {
        return;
    }
    let town = Town::new().await;
    let call = town.alice.dial(&format!("sip:bob@{}", town.kamailio.address)).await;
    let answered = town.bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    town.wire.ip("link set eth0 down");
    until("the call waits", SOON, async || {
        (call.proxy.network_state().await.unwrap() == "waiting").then_some(())
    })
    .await;
    town.alice.account_is("alice", "failed", SOON).await;
    assert_eq!(town.alice.account("alice").await.reason().await.unwrap(), "no-network");
    assert!(town.alice.ctl(&["nat"]).contains("This machine has no network"));
    pause(3.0).await;
    assert_eq!(call.state().await, "active");
    town.wire.ip("link set eth0 up");
    town.wire.ip(&format!("route add default via {}", town.wire.here));
    town.alice.account_is("alice", "registered", Duration::from_secs(15)).await;
    until("the call goes on", SOON, async || {
        (call.proxy.network_state().await.unwrap() == "ok").then_some(())
    })
    .await;
    let before = (call.figures().await.packets_received, answered.figures().await.packets_received);
    until("and both are heard", SOON, async || {
        let now = (call.figures().await.packets_received, answered.figures().await.packets_received);
        (now.0 > before.0 + 20 && now.1 > before.1 + 20).then_some(())
    })
    .await;
    answered.hang_up().await;
    call.is("ended").await;
    town.end().await;
}

#[timely]
async fn a_socket_on_one_address_works_again_when_the_address_is_back() {
    if !needs_root("a_socket_on_one_address_works_again_when_the_address_is_back") {
        return;
    }
    let lab = Lab::shared();
    let wire = Wire::new();
    let echo = "name = \"echo\"\nkind = \"echo\"\nallow-from = [\"0.0.0.0/0\"]";
    let alice = Voipd::start(&lab, "alice", Config::beyond(&wire).account(echo)).await;
    let bob = Voipd::start(&lab, "bob", Config::at(wire.here)).await;
    let target = format!("sip:echo@{}", wire.there);
    wire.ip(&format!("address del {}/30 dev eth0", wire.there));
    let lost = bob.dial(&target).await;
    pause(1.0).await;
    assert_ne!(lost.state().await, "active");
    lost.hang_up().await;
    wire.ip(&format!("address add {}/30 dev eth0", wire.there));
    let call = bob.dial(&target).await;
    call.is("active").await;
    call.hang_up().await;
    alice.stop().await;
    bob.stop().await;
}

/// Says what logind says before and after a sleep.
async fn prepare_for_sleep(by: &Connection, start: bool) {
    let (path, interface) = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager");
    by.emit_signal(None::<&str>, path, interface, "PrepareForSleep", &(start,)).await.unwrap();
}

#[tokio::test]
async fn after_a_sleep_that_logind_tells_of_everything_is_looked_after() {
    let lab = Lab::shared();
    let bus = Bus::start(&lab.directory("system-bus")).await;
    let kamailio = Kamailio::start(&lab, Digest::Md5).await;
    let account = kamailio.account("alice") + "\ntransport = \"tcp\"";
    let config = Config::at(lab.address())
        .account(account)
        .line("log", "level = \"debug\"")
        .environment("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    let alice = Voipd::start(&lab, "alice", config).await;
    let bob = Voipd::start(&lab, "bob", Config::at(lab.address()).account(kamailio.account("bob"))).await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let call = alice.dial(&format!("sip:bob@{}", kamailio.address)).await;
    let answered = bob.incoming().await;
    answered.accept().await;
    call.is("active").await;

    // logind is there only after voipd, as after its own restart.
    let logind = bus.connect().await;
    logind.request_name("org.freedesktop.login1").await.unwrap();
    let told = |what: &str| alice.log().lines().filter(|line| line.contains(what)).count();
    until("voipd listens to logind", SOON, async || {
        prepare_for_sleep(&logind, true).await;
        pause(0.1).await;
        (told("the system goes to sleep") > 0).then_some(())
    })
    .await;
    // Nothing is torn down before the sleep, and nobody else can send the telephone to sleep.
    let (asleep, before) = (told("the system goes to sleep"), registered(&kamailio));
    let stranger = bus.connect().await;
    prepare_for_sleep(&stranger, true).await;
    prepare_for_sleep(&stranger, false).await;
    prepare_for_sleep(&logind, true).await;
    until("logind's word has come", SOON, async || {
        (told("the system goes to sleep") == asleep + 1).then_some(())
    })
    .await;
    assert_eq!(told("the system has slept"), 0);
    assert_eq!(registered(&kamailio), before);
    assert_eq!(alice.account("alice").await.state().await.unwrap(), "registered");

    prepare_for_sleep(&logind, false).await;
    until("the registration is renewed", SOON, async || (registered(&kamailio) > before).then_some(())).await;
    assert_eq!(told("the system has slept"), 1);
    alice.account_is("alice", "registered", SOON).await;
    // The peer was told the new way to us, and both are heard as before.
    until("the peer has been told", SOON, async || {
        (call.proxy.network_state().await.unwrap() == "ok").then_some(())
    })
    .await;
    let before = (call.figures().await.packets_received, answered.figures().await.packets_received);
    until("both are heard", SOON, async || {
        let now = (call.figures().await.packets_received, answered.figures().await.packets_received);
        (now.0 > before.0 + 20 && now.1 > before.1 + 20).then_some(())
    })
    .await;
    assert_eq!((call.state().await.as_str(), answered.state().await.as_str()), ("active", "active"));
    answered.hang_up().await;
    call.is("ended").await;
    alice.stop().await;
    bob.stop().await;
}

/// How often Alice has registered.
fn registrations(town: &Town) -> usize {
    registered(&town.kamailio)
}

fn registered(kamailio: &Kamailio) -> usize {
    kamailio.log().lines().filter(|line| line.contains("REGISTERED alice")).count()
}

async fn remote_media(call: &Call) -> String {
    call.proxy.remote_media().await.unwrap()
}
