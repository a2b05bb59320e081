//! Pinholes for IPv6: asked for by PCP, prolonged, made anew, closed.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use voipd_nat::mapping::{
    MappingId, PinholeOutput, PinholeProblem, PinholeView, Pinholes, Purpose, Transport,
};

const OURS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10);
const SIP: MappingId = MappingId(1);
const RTP: MappingId = MappingId(2);

/// A router that speaks PCP, written from RFC 6887 alone.
struct Router {
    answers: bool,
    /// Its result code.
    result: u8,
    started: Instant,
    /// By protocol and port; until when, and the nonce.
    open: BTreeMap<(u8, u16), (Instant, Vec<u8>)>,
    /// It tells this address instead of the client's.
    tells: Option<Ipv6Addr>,
    requests: Vec<Vec<u8>>,
}

struct World {
    now: Instant,
    pinholes: Pinholes,
    router: Router,
    wake: Option<Instant>,
    changes: usize,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let router = Router {
            answers: true,
            result: 0,
            started: now - secs(5000),
            open: BTreeMap::new(),
            tells: None,
            requests: Vec::new(),
        };
        let mut world = Self { now, pinholes: Pinholes::new([3; 32]), router, wake: None, changes: 0 };
        world.act(|pinholes, now| pinholes.set_address(now, Some(OURS)));
        world
    }

    fn act(&mut self, act: impl FnOnce(&mut Pinholes, Instant)) {
        act(&mut self.pinholes, self.now);
        loop {
            match self.pinholes.poll_output() {
                PinholeOutput::Send(bytes) => {
                    if let Some(answer) = self.router.answer(self.now, &bytes) {
                        self.pinholes.handle_datagram(self.now, &answer);
                    }
                }
                PinholeOutput::Changed => self.changes += 1,
                PinholeOutput::Timeout(at) => {
                    self.wake = at;
                    return;
                }
            }
        }
    }

    fn open(&mut self, id: MappingId, transport: Transport, port: u16, purpose: Purpose) {
        self.act(|pinholes, now| assert!(pinholes.open(now, id, transport, port, purpose)));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.wake.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.act(Pinholes::handle_timeout);
            assert_ne!(self.wake, Some(at), "a time-out that changes nothing would come for ever");
        }
        self.now = end;
    }

    fn view(&self, id: MappingId) -> PinholeView {
        self.pinholes.views().find(|view| view.id == id).expect("it is wanted")
    }

    /// What the router lets in now.
    fn let_in(&self) -> Vec<(u8, u16)> {
        self.router.open.iter().filter(|(_, (until, _))| *until > self.now).map(|(key, _)| *key).collect()
    }
}

impl Router {
    fn answer(&mut self, now: Instant, request: &[u8]) -> Option<Vec<u8>> {
        assert_eq!(request.len(), 60);
        assert_eq!(request[..4], [2, 1, 0, 0], "version 2, MAP");
        assert_eq!(request[8..24], OURS.octets(), "it is asked for the sender");
        assert_eq!(request[37..40], [0, 0, 0]);
        self.requests.push(request.to_vec());
        if !self.answers {
            return None;
        }
        let number = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let seconds = u32::from_be_bytes(request[4..8].try_into().unwrap());
        let key = (request[36], number(40));
        let nonce = request[24..36].to_vec();
        let mut answer = request.to_vec();
        (answer[1], answer[3]) = (0x81, self.result);
        let epoch = u32::try_from((now - self.started).as_secs()).unwrap();
        answer[8..12].copy_from_slice(&epoch.to_be_bytes());
        answer[12..24].fill(0);
        if self.result != 0 {
            return Some(answer);
        }
        if seconds == 0 {
            assert_eq!((number(42), &request[44..]), (0, &[0; 16][..]), "nothing is wished for what goes");
            self.open.retain(|known, (_, by)| *known != key || *by != nonce);
            return Some(answer);
        }
        assert_eq!((number(42), &request[44..]), (key.1, &OURS.octets()[..]));
        self.open.insert(key, (now + secs(seconds.into()), nonce));
        answer[44..].copy_from_slice(&self.tells.unwrap_or(OURS).octets());
        Some(answer)
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_port_is_let_in_until_nobody_wants_it() {
    let mut world = World::new();
    world.open(SIP, Transport::Tcp, 5060, Purpose::Sip);
    world.open(RTP, Transport::Udp, 20_000, Purpose::Rtp);
    assert_eq!(world.let_in(), [(6, 5060), (17, 20_000)]);
    let view = world.view(RTP);
    assert_eq!((view.open_until, view.problem), (Some(world.now + secs(600)), None));
    assert_eq!(world.view(SIP).open_until, Some(world.now + secs(3600)));
    // Both are prolonged at half of their lives: the router never closes them.
    for _ in 0..200 {
        world.pass(secs(100));
        assert_eq!(world.let_in().len(), 2);
    }
    assert!(world.router.requests.len() < 100, "{}", world.router.requests.len());
    world.act(|pinholes, now| pinholes.close(now, RTP));
    assert_eq!(world.let_in(), [(6, 5060)]);
    world.act(Pinholes::shut_down);
    assert_eq!(world.let_in(), []);
    assert!(world.pinholes.is_idle());
}

#[test]
fn a_router_that_does_not_answer_is_asked_ever_more_seldom() {
    let mut world = World::new();
    world.router.answers = false;
    world.open(SIP, Transport::Udp, 5060, Purpose::Sip);
    assert_eq!(world.view(SIP).problem, None, "it may yet answer");
    world.pass(secs(5));
    assert_eq!(world.view(SIP).problem, Some(PinholeProblem::Silent));
    assert_eq!(world.router.requests.len(), 4);
    world.pass(secs(4 * 3600));
    assert!((24..80).contains(&world.router.requests.len()), "{}", world.router.requests.len());
    world.router.answers = true;
    world.pass(secs(1801));
    assert_eq!((world.let_in().len(), world.view(SIP).problem), (1, None));
    // Closing is tried as often, and given up.
    world.router.answers = false;
    world.act(Pinholes::shut_down);
    assert!(!world.pinholes.is_idle());
    world.pass(secs(5));
    assert!(world.pinholes.is_idle());
}

#[test]
fn a_router_that_refuses_or_lets_in_somebody_else_is_told() {
    let mut world = World::new();
    world.router.result = 2;
    world.open(SIP, Transport::Udp, 5060, Purpose::Sip);
    assert_eq!(world.view(SIP).problem, Some(PinholeProblem::Refused(2)));
    world.router.result = 0;
    world.router.tells = Some("2001:db8:ffff::1".parse().unwrap());
    world.pass(secs(40));
    assert_eq!(world.view(SIP).problem, Some(PinholeProblem::Elsewhere));
    world.router.tells = None;
    world.pass(secs(70));
    assert_eq!((world.view(SIP).problem, world.let_in().len()), (None, 1));
}

#[test]
fn a_router_that_starts_anew_is_told_all_again() {
    let mut world = World::new();
    for port in 0..5 {
        world.open(MappingId(10 + port), Transport::Udp, 20_000 + port as u16, Purpose::Rtp);
    }
    world.open(SIP, Transport::Udp, 5060, Purpose::Sip);
    world.pass(secs(20));
    world.router.open.clear();
    world.router.started = world.now;
    // The next answer to anything shows it.
    world.open(RTP, Transport::Udp, 30_000, Purpose::Rtp);
    assert_eq!(world.let_in().len(), 7);
}

#[test]
fn what_has_ended_during_a_sleep_is_opened_again_at_once() {
    let mut world = World::new();
    world.open(SIP, Transport::Udp, 5060, Purpose::Sip);
    world.open(RTP, Transport::Udp, 20_000, Purpose::Rtp);
    world.pass(secs(20));
    // The router has run on, unlike our clock.
    world.router.open.clear();
    world.act(Pinholes::renew_all);
    assert_eq!(world.let_in().len(), 2);
    // Who refuses is not asked more often for it.
    world.router.result = 2;
    world.open(MappingId(3), Transport::Udp, 20_001, Purpose::Rtcp);
    let asked = world.router.requests.len();
    world.act(Pinholes::renew_all);
    assert_eq!(world.router.requests.len(), asked + 2);
}

#[test]
fn another_address_makes_all_anew_and_without_one_nobody_is_asked() {
    let mut world = World::new();
    world.act(|pinholes, now| pinholes.set_address(now, None));
    world.open(SIP, Transport::Udp, 5060, Purpose::Sip);
    assert_eq!(world.view(SIP).problem, Some(PinholeProblem::NoRouter));
    world.pass(secs(100));
    assert!(world.router.requests.is_empty());
    world.act(|pinholes, now| pinholes.set_address(now, Some(OURS)));
    assert_eq!((world.let_in().len(), world.view(SIP).problem), (1, None));
    world.act(|pinholes, now| pinholes.set_address(now, None));
    assert_eq!(world.view(SIP).open_until, None);
}

#[test]
fn what_answers_nothing_of_ours_changes_nothing() {
    let mut world = World::new();
    world.router.answers = false;
    world.open(SIP, Transport::Udp, 5060, Purpose::Sip);
    let request = world.router.requests[0].clone();
    let mut answer = request.clone();
    (answer[1], answer[3]) = (0x81, 0);
    for (at, value) in [(0, 1), (1, 0x80), (24, request[24] ^ 1), (36, 6), (36, 99), (41, 9)] {
        let mut wrong = answer.clone();
        wrong[at] = value;
        world.act(|pinholes, now| pinholes.handle_datagram(now, &wrong));
    }
    for length in 0..60 {
        let short = answer[..length].to_vec();
        world.act(|pinholes, now| pinholes.handle_datagram(now, &short));
    }
    assert_eq!((world.view(SIP).open_until, world.view(SIP).problem), (None, None));
    world.act(|pinholes, now| pinholes.handle_datagram(now, &answer));
    assert!(world.view(SIP).open_until.is_some());
    // A second answer to the same question says nothing new.
    answer[3] = 8;
    world.act(|pinholes, now| pinholes.handle_datagram(now, &answer));
    assert_eq!(world.view(SIP).problem, None);
}
