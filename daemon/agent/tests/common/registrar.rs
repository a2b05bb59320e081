//! A registrar of one subscriber: one digest challenge, one binding, everything it was asked.

use std::net::SocketAddr;

use voipd_sip::digest::{self, Covered, Exchange, Login, Secret};
use voipd_sip::message::{Method, Request, Response};
use voipd_sip::uri::Uri;

use super::status;

pub struct Registrar {
    user: String,
    password: Secret,
    /// Says this instead of letting anybody in.
    pub refuses: Option<u16>,
    /// What it says behind the nonce of its challenge.
    pub digest: &'static str,
    /// Parameters that it adds to the contact, and fields to the 200.
    pub contact_params: &'static str,
    pub fields: Vec<(&'static str, &'static str)>,
    /// Takes no second contact in one request.
    pub one_contact: bool,
    /// Says that it sees requests come from there, as behind a router; else it tells the truth.
    pub sees: Option<SocketAddr>,
    /// Answers nothing.
    pub silent: bool,
    /// Is a proxy, too: what is no REGISTER is not its own to answer.
    pub passes_on: bool,
    /// The contact that is registered now.
    pub binding: Option<String>,
    pub seen: Vec<Request>,
}

impl Registrar {
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: Secret::new(password),
            refuses: None,
            digest: "algorithm=MD5",
            contact_params: "",
            fields: Vec::new(),
            one_contact: false,
            sees: None,
            silent: false,
            passes_on: false,
            binding: None,
            seen: Vec::new(),
        }
    }

    pub fn answer(&mut self, request: &Request, from: SocketAddr) -> Option<Response> {
        self.seen.push(request.clone());
        let passed_on = self.passes_on && request.method != Method::Register;
        if self.silent || passed_on || request.method == Method::Ack {
            return None;
        }
        let mut request = request.clone();
        let from = self.sees.unwrap_or(from);
        request.via[0].params.set("rport", Some(&from.port().to_string()));
        request.via[0].params.set("received", Some(&from.ip().to_string()));
        Some(self.response(&request))
    }

    fn response(&mut self, request: &Request) -> Response {
        if let Some(code) = self.refuses {
            return tagged(request, code);
        }
        let challenge = format!(r#"Digest realm="example.org", nonce="n1", {}"#, self.digest);
        let mut challenged = tagged(request, 401);
        challenged.headers.push("WWW-Authenticate", challenge);
        let read = digest::challenges(&challenged.headers, "WWW-Authenticate").unwrap().challenges;
        let Some(read) = read.first() else { return challenged };
        let uri = request.uri.to_string();
        let right = digest::authorization(
            read,
            Login { user: &self.user, password: &self.password },
            Covered { method: &request.method, uri: &uri, body: &request.body },
            Exchange { nonce_count: 1, cnonce: "", first_nonce: &read.nonce },
        );
        if request.headers.get("Authorization") != Some(&right) {
            return challenged;
        }
        if request.method != Method::Register {
            return tagged(request, 404);
        }
        if self.one_contact && request.headers.contacts().unwrap().len() > 1 {
            return tagged(request, 400);
        }
        let mut response = tagged(request, 200);
        let contact = request.headers.contacts().unwrap().remove(0);
        let expires = request.headers.number("Expires").unwrap();
        let leaves = contact.params.value("expires") == Some("0") || expires == Some(0);
        self.binding = match contact.uri {
            Uri::Sip(uri) if !leaves => Some(Uri::Sip(uri).to_string()),
            _ => None,
        };
        if let Some(binding) = &self.binding {
            response.headers.push("Contact", format!("<{binding}>;expires=600{}", self.contact_params));
        }
        for (name, value) in &self.fields {
            response.headers.push(name, *value);
        }
        response
    }
}

fn tagged(request: &Request, code: u16) -> Response {
    let mut response = request.response(status(code));
    response.to.params.set("tag", Some("registrar"));
    response
}
