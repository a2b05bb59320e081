//! A registrar that challenges, checks every digest, and grants bindings.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use voipd_sip::digest::{self, Algorithm, Challenge, Covered, Exchange, Login, Qop, Secret};
use voipd_sip::message::{Method, Request, Response};

use super::{answer, status};

/// What the registrar does, and what it has seen; shared with the test.
pub struct Registrar {
    pub realm: String,
    pub user: String,
    pub password: String,
    pub algorithms: Vec<Algorithm>,
    pub nonce: u32,
    /// Requests that one nonce is good for.
    pub nonce_uses: u32,
    pub min_expires: u32,
    pub max_expires: u32,
    /// Every request is answered with this instead.
    pub broken: Option<Response0>,
    /// Contact and seconds of each binding.
    pub bindings: BTreeMap<String, u32>,
    /// Nonce counts of requests that were let in.
    pub counts: Vec<(u32, u32)>,
    pub refused: usize,
    /// Challenges with 407 in place of 401.
    pub as_proxy: bool,
}

/// A status and header fields.
pub type Response0 = (u16, Vec<(&'static str, String)>);

impl Registrar {
    pub fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            realm: "example.org".to_owned(),
            user: "alice".to_owned(),
            password: "secret".to_owned(),
            algorithms: vec![Algorithm::Md5],
            nonce: 1,
            nonce_uses: 1000,
            min_expires: 0,
            max_expires: 3600,
            broken: None,
            bindings: BTreeMap::new(),
            counts: Vec::new(),
            refused: 0,
            as_proxy: false,
        }))
    }

    /// A function for [`super::Net::server`].
    pub fn serve(this: &Rc<RefCell<Self>>) -> impl FnMut(Instant, &Request) -> Vec<Response> + 'static {
        let this = Rc::clone(this);
        move |_, request| this.borrow_mut().answer(request)
    }

    fn challenges(&self) -> Vec<Challenge> {
        let challenge = |&algorithm| Challenge {
            realm: self.realm.clone(),
            nonce: format!("nonce-{}", self.nonce),
            opaque: Some("opaque".to_owned()),
            algorithm,
            qop: Qop::Auth,
            stale: false,
            userhash: false,
        };
        self.algorithms.iter().map(challenge).collect()
    }

    fn challenge(&self, request: &Request, stale: bool) -> Response {
        let (code, name) =
            if self.as_proxy { (407, "Proxy-Authenticate") } else { (401, "WWW-Authenticate") };
        let mut response = answer(request, code, "registrar");
        for challenge in self.challenges() {
            let algorithm = challenge.algorithm.name();
            let stale = if stale { ", stale=true" } else { "" };
            response.headers.push(
                name,
                format!(
                    "Digest realm=\"{}\", nonce=\"{}\", opaque=\"opaque\", algorithm={algorithm}, qop=\"auth\"{stale}",
                    challenge.realm, challenge.nonce
                ),
            );
        }
        response
    }

    /// A value among the parameters of credentials.
    pub fn parameter(credentials: &str, name: &str) -> Option<String> {
        let mut parts =
            credentials.trim_start_matches("Digest ").split(',').filter_map(|part| part.split_once('='));
        let (_, value) = parts.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().trim_matches('"').to_owned())
    }

    fn answer(&mut self, request: &Request) -> Vec<Response> {
        if request.method == Method::Ack {
            return Vec::new();
        }
        if let Some((code, headers)) = &self.broken {
            let mut response = answer(request, *code, "registrar");
            headers.iter().for_each(|(name, value)| response.headers.push(name, value.clone()));
            return vec![response];
        }
        let name = if self.as_proxy { "Proxy-Authorization" } else { "Authorization" };
        let Some(credentials) = request.headers.get(name) else {
            return vec![self.challenge(request, false)];
        };
        let count = u32::from_str_radix(&Self::parameter(credentials, "nc").unwrap(), 16).unwrap();
        let nonce = Self::parameter(credentials, "nonce").unwrap();
        if nonce != format!("nonce-{}", self.nonce) {
            return vec![self.challenge(request, true)];
        }
        let cnonce = Self::parameter(credentials, "cnonce").unwrap();
        let right = self.challenges().iter().any(|challenge| {
            let password = Secret::new(self.password.clone());
            let uri = request.uri.to_string();
            let login = Login { user: &self.user, password: &password };
            let covered = Covered { method: &request.method, uri: &uri, body: &request.body };
            let exchange = Exchange { nonce_count: count, cnonce: &cnonce, first_nonce: &nonce };
            credentials == digest::authorization(challenge, login, covered, exchange)
        });
        if !right {
            self.refused += 1;
            return vec![self.challenge(request, false)];
        }
        self.counts.push((self.nonce, count));
        if count >= self.nonce_uses {
            self.nonce += 1;
        }
        if request.method != Method::Register {
            return vec![answer(request, 404, "registrar")];
        }
        self.register(request)
    }

    fn register(&mut self, request: &Request) -> Vec<Response> {
        let contact = request.headers.contacts().unwrap().remove(0);
        let asked: u32 = contact.params.value("expires").unwrap().parse().unwrap();
        if asked > 0 && asked < self.min_expires {
            let mut response = answer(request, 423, "registrar");
            response.headers.push("Min-Expires", self.min_expires.to_string());
            return vec![response];
        }
        let uri = contact.uri.to_string();
        if asked == 0 {
            self.bindings.remove(&uri);
        } else {
            self.bindings.insert(uri, asked.min(self.max_expires));
        }
        let mut response = request.response(status(200));
        response.to.params.set("tag", Some("registrar"));
        // Another binding of the same user, whose time is none of ours.
        response.headers.push("Contact", "<sip:other@198.51.100.9>;expires=7");
        for (uri, expires) in &self.bindings {
            response.headers.push("Contact", format!("<{uri}>;expires={expires}"));
        }
        vec![response]
    }
}
