//! Challenges in a chain, with several realms, stale, without end, or of a kind that is not answered
//! (RFC 3261 section 22, RFC 8760 section 2).

use std::cell::RefCell;
use std::rc::Rc;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::digest::{self, Algorithm, Covered, Exchange, Login, Secret};
use voipd_sip::endpoint::{Event, Identity, IdentityId, RegistrationFailure, RegistrationState};
use voipd_sip::headers::Headers;
use voipd_sip::message::{Method, Request, Response};

/// Someone on the way who wants the password proved: a proxy, or the registrar itself.
struct Guard {
    proxy: bool,
    realm: &'static str,
    /// What follows the realm in each of its challenges, `NONCE` for the nonce.
    challenges: Vec<String>,
    nonce: u32,
    /// The next request finds its nonce too old.
    forgets: bool,
}

fn guard(proxy: bool, realm: &'static str, challenges: &[&str]) -> Guard {
    let challenges = challenges.iter().map(|text| (*text).to_owned()).collect();
    Guard { proxy, realm, challenges, nonce: 1, forgets: false }
}

impl Guard {
    fn names(&self) -> (u16, &'static str, &'static str) {
        match self.proxy {
            true => (407, "Proxy-Authenticate", "Proxy-Authorization"),
            false => (401, "WWW-Authenticate", "Authorization"),
        }
    }

    fn fields(&self, stale: bool) -> Vec<String> {
        let nonce = format!("nonce=\"{}-{}\"", self.realm, self.nonce);
        let stale = if stale { ", stale=true" } else { "" };
        let field = |challenge: &String| {
            format!("Digest realm=\"{}\", {}{stale}", self.realm, challenge.replace("NONCE", &nonce))
        };
        self.challenges.iter().map(field).collect()
    }

    /// What it wants to see added, or nothing.
    fn check(&mut self, request: &Request) -> Vec<String> {
        let (_, challenge_name, credentials_name) = self.names();
        let mine =
            |credentials: &&str| Registrar::parameter(credentials, "realm").as_deref() == Some(self.realm);
        let Some(credentials) = request.headers.get_all(credentials_name).find(mine) else {
            return self.fields(false);
        };
        let parameter = |name| Registrar::parameter(credentials, name);
        let stale = parameter("nonce") != Some(format!("{}-{}", self.realm, self.nonce));
        if stale || std::mem::take(&mut self.forgets) {
            self.nonce += 1;
            return self.fields(true);
        }
        let mut headers = Headers::default();
        self.fields(false).iter().for_each(|field| headers.push(challenge_name, field.as_str()));
        let password = Secret::new("secret");
        let (uri, cnonce) = (request.uri.to_string(), parameter("cnonce").unwrap_or_default());
        let count = parameter("nc").map_or(1, |count| u32::from_str_radix(&count, 16).unwrap());
        let nonce = parameter("nonce").unwrap();
        let is_right = |challenge: &digest::Challenge| {
            let login = Login { user: "alice", password: &password };
            let covered = Covered { method: &request.method, uri: &uri, body: &request.body };
            let exchange = Exchange { nonce_count: count, cnonce: &cnonce, first_nonce: &nonce };
            *credentials == digest::authorization(challenge, login, covered, exchange)
        };
        match digest::challenges(&headers, challenge_name).unwrap().challenges.iter().any(is_right) {
            true => Vec::new(),
            false => self.fields(false),
        }
    }
}

/// A server behind its guards. One after the other, or all that are not content at once.
struct Chain {
    guards: Vec<Guard>,
    at_once: bool,
    /// Header fields of each 200, made of the request.
    thanks: fn(&Request) -> Vec<(&'static str, String)>,
}

impl Chain {
    fn answer(&mut self, request: &Request) -> Vec<Response> {
        if request.method == Method::Ack {
            return Vec::new();
        }
        let mut refusal: Option<Response> = None;
        for guard in &mut self.guards {
            let (code, name, _) = guard.names();
            let wanted = guard.check(request);
            if !wanted.is_empty() {
                let refusal = refusal.get_or_insert_with(|| answer(request, code, "guard"));
                wanted.into_iter().for_each(|field| refusal.headers.push(name, field));
                if !self.at_once {
                    break;
                }
            }
        }
        let mut response = refusal.unwrap_or_else(|| {
            let mut response =
                answer(request, if request.method == Method::Register { 200 } else { 404 }, "z");
            response.headers.push("Expires", "600");
            (self.thanks)(request).into_iter().for_each(|(name, value)| response.headers.push(name, value));
            response
        });
        response.reason = "said".to_owned();
        vec![response]
    }
}

struct Setup {
    net: Net,
    alice: HostId,
    server: HostId,
    chain: Rc<RefCell<Chain>>,
    id: IdentityId,
}

const MD5: &str = "NONCE, algorithm=MD5, qop=\"auth\"";
const SHA_256: &str = "NONCE, algorithm=SHA-256, qop=\"auth\"";

impl Setup {
    fn new(guards: Vec<Guard>) -> Self {
        Self::with(guards, |_| {})
    }

    fn with(guards: Vec<Guard>, change: impl FnOnce(&mut Identity)) -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let chain = Rc::new(RefCell::new(Chain { guards, at_once: false, thanks: |_| Vec::new() }));
        let served = Rc::clone(&chain);
        let server =
            net.server("192.0.2.100:5060", move |_, request: &Request| served.borrow_mut().answer(request));
        net.name("example.org", &["192.0.2.100:5060"]);
        let mut identity = subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret");
        change(&mut identity);
        let id = net.with(alice, |endpoint, _| endpoint.add_identity(identity));
        Self { net, alice, server, chain, id }
    }

    /// Registers; answers what the server saw.
    fn register(&mut self) -> Vec<Request> {
        let id = self.id;
        self.net.with(self.alice, |endpoint, now| endpoint.register(now, id)).unwrap();
        self.net.run_ms(2000);
        self.seen()
    }

    fn seen(&mut self) -> Vec<Request> {
        let seen = self.net.seen(self.server).into_iter().map(|(_, request)| request);
        seen.filter(|request| request.method != Method::Ack).collect()
    }

    /// The last state, and the algorithms that were told.
    fn result(&mut self) -> (RegistrationState, Vec<Algorithm>) {
        let (mut state, mut algorithms) = (RegistrationState::Unregistered, Vec::new());
        for event in self.net.events(self.alice) {
            match event {
                Event::Registration { state: new, .. } => state = new,
                Event::Digest { algorithm, .. } => algorithms.push(algorithm),
                Event::Bound { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        (state, algorithms)
    }

    fn failure(&mut self) -> (RegistrationFailure, Option<u16>, bool) {
        let (state, _) = self.result();
        let RegistrationState::Failed { reason, status, retry } = state else { panic!("{state:?}") };
        (reason, status, retry.is_some())
    }
}

const REGISTERED: RegistrationState = RegistrationState::Registered { expires: 600 };

fn realms(request: &Request) -> Vec<String> {
    let all = ["Authorization", "Proxy-Authorization"]
        .map(|name| request.headers.get_all(name).collect::<Vec<_>>());
    all.concat().iter().filter_map(|credentials| digest::realm_of(credentials)).collect()
}

fn counts(request: &Request) -> Vec<String> {
    let all = ["Authorization", "Proxy-Authorization"]
        .map(|name| request.headers.get_all(name).collect::<Vec<_>>());
    all.concat().iter().filter_map(|credentials| Registrar::parameter(credentials, "nc")).collect()
}

#[test]
fn a_proxy_and_the_registrar_behind_it_are_answered_one_after_the_other() {
    let mut setup = Setup::new(vec![guard(true, "edge", &[SHA_256]), guard(false, "home", &[MD5])]);
    let seen = setup.register();
    assert_eq!(setup.result(), (REGISTERED, vec![Algorithm::Sha256, Algorithm::Md5]), "the weakest is told");
    let seen: Vec<_> = seen.iter().map(realms).collect();
    assert_eq!(seen, [vec![], vec!["edge"], vec!["home", "edge"]]);
    // The next REGISTER carries both at once.
    let refresh = setup.register();
    assert_eq!(refresh.len(), 1);
    assert_eq!(counts(&refresh[0]), ["00000002", "00000003"], "each nonce has its own count");
}

#[test]
fn challenges_of_several_realms_in_one_response_are_answered_in_one_request() {
    let guards = vec![
        guard(true, "edge", &[MD5, SHA_256]),
        guard(true, "core", &[SHA_256]),
        guard(false, "home", &[MD5]),
    ];
    let mut setup = Setup::new(guards);
    setup.chain.borrow_mut().at_once = true;
    let seen = setup.register();
    assert_eq!(setup.result().0, REGISTERED);
    assert_eq!(seen.len(), 2);
    assert_eq!(realms(&seen[1]), ["home", "edge", "core"]);
}

#[test]
fn three_proxies_in_a_row_are_each_answered() {
    let guards = vec![guard(true, "a", &[MD5]), guard(true, "b", &[SHA_256]), guard(true, "c", &[MD5])];
    let mut setup = Setup::new(guards);
    let id = setup.id;
    let target = "sip:bob@example.org".parse().unwrap();
    let session = setup
        .net
        .with(setup.alice, |e, now| e.invite(now, id, target, voipd_sip::endpoint::InviteOptions::default()))
        .unwrap();
    setup.net.with(setup.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    setup.net.run_ms(2000);
    let seen: Vec<_> = setup.seen().iter().map(realms).collect();
    assert_eq!(seen, [vec![], vec!["a"], vec!["a", "b"], vec!["a", "b", "c"]]);
    let end = end_of(&setup.net.events(setup.alice), session);
    assert_eq!(end.status, Some(404), "all of them let it pass");
}

#[test]
fn a_proxy_whose_nonce_grows_old_in_mid_chain_is_answered_again() {
    let mut setup = Setup::new(vec![guard(true, "edge", &[MD5]), guard(false, "home", &[MD5])]);
    setup.chain.borrow_mut().guards[0].forgets = true;
    let seen = setup.register();
    assert_eq!(setup.result().0, REGISTERED);
    assert_eq!(seen.len(), 4);
    assert_eq!(counts(&seen[3]), ["00000001", "00000002"]);
}

#[test]
fn a_chain_without_end_is_given_up() {
    let realms = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut setup = Setup::new(realms.map(|realm| guard(true, realm, &[MD5])).into());
    let seen = setup.register();
    assert_eq!(setup.failure(), (RegistrationFailure::Credentials, Some(407), false));
    assert_eq!(seen.len(), 5, "four realms are answered");

    // Every nonce of every realm is stale.
    let mut setup = Setup::new(vec![guard(true, "a", &[MD5]), guard(false, "b", &[MD5])]);
    let lies = Rc::new(RefCell::new(0_u32));
    let count = Rc::clone(&lies);
    let liar = setup.net.server("192.0.2.101:5060", move |_, request: &Request| {
        *count.borrow_mut() += 1;
        let mut response = answer(request, 401, "liar");
        for name in ["WWW-Authenticate", "Proxy-Authenticate"] {
            let realm = *count.borrow() % 7;
            let nonce = *count.borrow();
            response
                .headers
                .push(name, format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", stale=true, qop=auth"));
        }
        vec![response]
    });
    setup.net.name("example.org", &["192.0.2.101:5060"]);
    setup.register();
    assert_eq!(setup.failure().0, RegistrationFailure::Credentials);
    assert!((2..=12).contains(&*lies.borrow()), "{lies:?}");
    assert_eq!(setup.net.seen(liar).len(), *lies.borrow() as usize);
}

#[test]
fn a_wrong_password_at_the_second_proxy_is_tried_once() {
    let mut setup = Setup::with(vec![guard(true, "edge", &[SHA_256])], |identity| {
        identity.credentials.as_mut().unwrap().password = Secret::new("wrong");
    });
    assert_eq!(setup.register().len(), 2);
    assert_eq!(setup.failure(), (RegistrationFailure::Credentials, Some(407), false));
}

#[test]
fn the_strongest_algorithm_of_each_realm_is_used() {
    let strong = "NONCE, algorithm=SHA-512-256, qop=\"auth\"";
    let other = "NONCE, algorithm=SHA3-512, qop=\"auth\"";
    let mut setup = Setup::new(vec![guard(false, "home", &[MD5, other, strong, SHA_256])]);
    let seen = setup.register();
    assert_eq!(setup.result(), (REGISTERED, vec![Algorithm::Sha512_256]));
    let credentials = seen[1].headers.get("Authorization").unwrap();
    assert!(credentials.contains("algorithm=SHA-512-256"), "{credentials}");
    assert_eq!(seen[1].headers.get_all("Authorization").count(), 1, "one answer for each realm");
}

#[test]
fn every_algorithm_and_qop_gets_a_call_through() {
    for algorithm in Algorithm::ALL {
        for qop in ["auth", "auth-int", "auth,auth-int"] {
            let challenge = format!("NONCE, algorithm={}, qop=\"{qop}\"", algorithm.name());
            let mut setup = Setup::new(vec![guard(false, "home", &[&challenge])]);
            setup.register();
            assert_eq!(setup.result(), (REGISTERED, vec![algorithm]), "{challenge}");
            let id = setup.id;
            let target = "sip:bob@example.org".parse().unwrap();
            let session = setup
                .net
                .with(setup.alice, |e, now| {
                    e.invite(now, id, target, voipd_sip::endpoint::InviteOptions::default())
                })
                .unwrap();
            setup.net.with(setup.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
            setup.net.run_ms(200);
            // The guard has checked the body's hash, too.
            assert_eq!(end_of(&setup.net.events(setup.alice), session).status, Some(404), "{challenge}");
        }
    }
}

#[test]
fn the_form_of_rfc_2069_is_answered() {
    let mut setup = Setup::new(vec![guard(false, "home", &["NONCE"])]);
    let seen = setup.register();
    assert_eq!(setup.result(), (REGISTERED, vec![Algorithm::Md5]));
    let credentials = seen[1].headers.get("Authorization").unwrap();
    assert!(!credentials.contains("qop") && !credentials.contains("cnonce"), "{credentials}");
}

#[test]
fn userhash_is_used_where_it_is_offered() {
    let challenge =
        "NONCE, algorithm=SHA-256, qop=\"auth\", userhash=true, charset=UTF-8, domain=\"sip:a sip:b\"";
    let mut setup = Setup::new(vec![guard(false, "home", &[challenge])]);
    let seen = setup.register();
    assert_eq!(setup.result().0, REGISTERED);
    let credentials = seen[1].headers.get("Authorization").unwrap();
    assert!(credentials.contains("userhash=true") && !credentials.contains("alice"), "{credentials}");
}

#[test]
fn md5_can_be_refused() {
    let no_md5 = |identity: &mut Identity| identity.credentials.as_mut().unwrap().allow_md5 = false;
    for weak in [MD5, "NONCE", "NONCE, algorithm=MD5-sess, qop=\"auth\""] {
        let mut setup = Setup::with(vec![guard(false, "home", &[weak])], no_md5);
        let seen = setup.register();
        assert_eq!(setup.failure(), (RegistrationFailure::WeakDigest, Some(401), false), "{weak}");
        assert_eq!(seen.len(), 1);
        assert!(realms(&seen[0]).is_empty());
    }
    // One that also knows better is served with that.
    let mut setup = Setup::with(vec![guard(false, "home", &[MD5, SHA_256])], no_md5);
    setup.register();
    assert_eq!(setup.result(), (REGISTERED, vec![Algorithm::Sha256]));
    // In a chain, one weak link is enough.
    let mut setup = Setup::with(vec![guard(true, "edge", &[SHA_256]), guard(false, "home", &[MD5])], no_md5);
    setup.register();
    assert_eq!(setup.failure().0, RegistrationFailure::WeakDigest);
}

#[test]
fn a_proof_that_nobody_here_knows_is_named() {
    for unknown in ["NONCE, algorithm=SHA3-256, qop=\"auth\"", "NONCE, qop=\"auth-conf\""] {
        let mut setup = Setup::new(vec![guard(false, "home", &[unknown])]);
        assert_eq!(setup.register().len(), 1);
        assert_eq!(setup.failure(), (RegistrationFailure::UnknownDigest, Some(401), false), "{unknown}");
    }
}

#[test]
fn only_the_configured_realms_are_answered() {
    let realms_of = |realms: &[&str]| {
        let realms: Vec<String> = realms.iter().map(|realm| (*realm).to_owned()).collect();
        move |identity: &mut Identity| identity.credentials.as_mut().unwrap().realms = realms
    };
    let guards = || vec![guard(true, "edge", &[MD5]), guard(false, "home", &[MD5])];
    let mut setup = Setup::with(guards(), realms_of(&["edge", "home"]));
    setup.register();
    assert_eq!(setup.result().0, REGISTERED);

    let mut setup = Setup::with(guards(), realms_of(&["edge"]));
    let seen = setup.register();
    assert_eq!(setup.failure(), (RegistrationFailure::ForeignRealm, Some(401), false));
    assert!(seen.iter().all(|request| !realms(request).contains(&"home".to_owned())));

    // Both at once: what is ours is answered, and the rest refuses it.
    let mut setup = Setup::with(guards(), realms_of(&["edge"]));
    setup.chain.borrow_mut().at_once = true;
    let seen: Vec<_> = setup.register().iter().map(realms).collect();
    assert_eq!(seen, [vec![], vec!["edge"]]);
    assert_eq!(setup.failure().0, RegistrationFailure::ForeignRealm);
}

#[test]
fn the_realms_of_a_registration_through_a_chain_are_the_account_s_from_then_on() {
    let mut setup = Setup::new(vec![guard(true, "edge", &[MD5]), guard(false, "home", &[MD5])]);
    setup.register();
    assert_eq!(setup.result().0, REGISTERED);
    setup.chain.borrow_mut().guards.push(guard(false, "evil.example", &[MD5]));
    let seen = setup.register();
    assert_eq!(setup.failure().0, RegistrationFailure::ForeignRealm);
    assert!(seen.iter().all(|request| !realms(request).contains(&"evil.example".to_owned())));
}

#[test]
fn nextnonce_is_used_for_the_next_request() {
    let mut setup = Setup::new(vec![guard(false, "home", &[SHA_256])]);
    setup.chain.borrow_mut().thanks = |_| vec![("Authentication-Info", "nextnonce=\"home-2\"".to_owned())];
    setup.register();
    assert_eq!(setup.result().0, REGISTERED);
    setup.chain.borrow_mut().guards[0].nonce = 2;
    let seen = setup.register();
    assert_eq!(seen.len(), 1, "let in at once");
    assert_eq!(counts(&seen[0]), ["00000001"]);
}

#[test]
fn a_nextnonce_that_is_the_last_one_goes_on_counting() {
    let mut setup = Setup::new(vec![guard(false, "home", &[SHA_256])]);
    setup.chain.borrow_mut().thanks = |_| vec![("Authentication-Info", "nextnonce=\"home-1\"".to_owned())];
    setup.register();
    assert_eq!(counts(&setup.register()[0]), ["00000002"]);
    assert_eq!(counts(&setup.register()[0]), ["00000003"]);
}

/// `rspauth` of a server that knows `password`, for SHA-256 and auth (RFC 7616 section 3.5).
fn proof(request: &Request, password: &str) -> Vec<(&'static str, String)> {
    let Some(credentials) = request.headers.get("Authorization") else { return Vec::new() };
    let parameter = |name| Registrar::parameter(credentials, name).unwrap();
    let hash = |text: String| {
        use sha2::{Digest as _, Sha256};
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let a1 = hash(format!("alice:home:{password}"));
    let a2 = hash(format!(":{}", parameter("uri")));
    let proof =
        hash(format!("{a1}:{}:{}:{}:auth:{a2}", parameter("nonce"), parameter("nc"), parameter("cnonce")));
    vec![("Authentication-Info", format!("qop=auth, rspauth=\"{proof}\", nextnonce=\"home-9\""))]
}

#[test]
fn a_server_s_own_proof_is_checked() {
    let mut setup = Setup::new(vec![guard(false, "home", &[SHA_256])]);
    setup.chain.borrow_mut().thanks = |request| proof(request, "secret");
    setup.register();
    assert_eq!(setup.result().0, REGISTERED);

    let mut setup = Setup::new(vec![guard(false, "home", &[SHA_256])]);
    setup.chain.borrow_mut().thanks = |request| proof(request, "guess");
    setup.register();
    let (reason, status, retries) = setup.failure();
    assert_eq!((reason, status, retries), (RegistrationFailure::ServerProof, Some(200), true));
    // What it says of the next nonce is not believed.
    let seen = setup.register();
    assert!(seen[0].headers.get("Authorization").unwrap().contains("nonce=\"home-1\""), "{seen:?}");
}
