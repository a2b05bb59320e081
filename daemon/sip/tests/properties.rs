//! Properties of reader and writer: what is written reads back equal, and no bytes make the reader panic.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use voipd_sip::digest;
use voipd_sip::headers::{CSeq, Headers, Via, name};
use voipd_sip::message::StatusCode;
use voipd_sip::uri::{Host, Params, SipUri};
use voipd_sip::wire::{read_datagram, write};
use voipd_sip::{Message, Method, NameAddr, Request, Response, Uri};

const TOKEN: &str = "[a-zA-Z0-9.!%*_+`'~-]{1,12}";
/// Any text but what cannot stand in one line.
const TEXT: &str = r#"[^\r\n\x00]{0,20}"#;

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        "([a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?\\.){0,3}[a-z][a-z0-9]{0,5}\\.?".prop_map(Host::Name),
        any::<IpAddr>().prop_map(Host::Ip),
    ]
}

fn params(names: &'static str, values: &'static str) -> impl Strategy<Value = Params> {
    vec((names, option::of(values)), 0..4).prop_map(|list| {
        let mut params = Params::default();
        for (name, value) in list {
            params.set(&name, value.as_deref());
        }
        params
    })
}

fn header_params() -> impl Strategy<Value = Params> {
    // Without rport: an empty value of it reads as none.
    params("[a-z!%*]{1,4}", TEXT)
}

fn uri() -> impl Strategy<Value = Uri> {
    let user = option::of("([a-zA-Z0-9_.!~*'()&=+$,;?/#-]|%[0-9a-fA-F]{2}){1,12}");
    let password = option::of("([a-z0-9_.!~*'()&=+$,-]|%[0-9A-F]{2}){0,6}");
    let uri_params =
        params("([a-z0-9\\[\\]/:&+$]|%[0-9A-F]{2}){1,5}", "([a-z0-9\\[\\]/:&+$=]|%[0-9A-F]{2}){1,5}");
    let sip = (any::<bool>(), user, password, host(), option::of(1..=u16::MAX), uri_params).prop_map(
        |(secure, user, password, host, port, params)| {
            let password = password.filter(|_| user.is_some());
            Uri::Sip(SipUri { secure, user, password, host, port, params, headers: None })
        },
    );
    let other = ("[a-z][a-z0-9+.-]{0,6}", "[!#-;=?-~]{1,20}")
        .prop_filter("another scheme", |(scheme, _)| scheme != "sip" && scheme != "sips")
        .prop_map(|(scheme, rest)| Uri::Other { scheme, rest });
    prop_oneof![4 => sip, 1 => other]
}

fn address() -> impl Strategy<Value = NameAddr> {
    (option::of(r#"[^\r\n\x00]{1,20}"#), uri(), header_params())
        .prop_map(|(display_name, uri, params)| NameAddr { display_name, uri, params })
}

fn via() -> impl Strategy<Value = Via> {
    ("[A-Z]{3,5}", host(), option::of(1..=u16::MAX), header_params())
        .prop_map(|(transport, host, port, params)| Via { transport, host, port, params })
}

fn method() -> impl Strategy<Value = Method> {
    let known = proptest::sample::select(vec!["INVITE", "ACK", "REGISTER", "invite"]).prop_map(str::to_owned);
    prop_oneof![known, TOKEN].prop_map(|name| Method::new(&name).unwrap())
}

fn headers() -> impl Strategy<Value = Headers> {
    // Names that no message holds as typed values, and compact ones.
    vec(("(X-[a-zA-Z!%]{1,8}|Contact|m|Subject|s|k|Warning)", TEXT), 0..5).prop_map(|fields| {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(&name, value);
        }
        headers
    })
}

fn message() -> impl Strategy<Value = Message> {
    let common = (vec(via(), 1..4), address(), address(), "[!-~]{1,30}", 0..1_u32 << 31, method());
    let request = (uri(), any::<u8>());
    let response = (100..700_u16, "[^\\r\\n\\x00 \\t]([^\\r\\n\\x00]{0,20}[^\\r\\n\\x00 \\t])?");
    (common, any::<bool>(), request, response, headers(), vec(any::<u8>(), 0..60)).prop_map(
        |(
            (via, from, to, call_id, seq, method),
            is_request,
            (uri, max_forwards),
            (code, reason),
            headers,
            body,
        )| {
            if is_request {
                let cseq = seq;
                Message::Request(Request {
                    method,
                    uri,
                    via,
                    from,
                    to,
                    call_id,
                    cseq,
                    max_forwards,
                    headers,
                    body,
                })
            } else {
                let (status, cseq) = (StatusCode::new(code).unwrap(), CSeq { seq, method });
                Message::Response(Response { status, reason, via, from, to, call_id, cseq, headers, body })
            }
        },
    )
}

/// Every typed view of what was read, for panics only.
fn look_at(headers: &Headers) {
    let _ = headers.contacts();
    let _ = headers.route_set(name::ROUTE);
    let _ = headers.route_set(name::RECORD_ROUTE);
    let _ = headers.number(name::EXPIRES);
    let _ = headers.number(name::RETRY_AFTER);
    let _ = headers.tokens(name::ALLOW);
    let _ = headers.content_type();
    let _ = digest::challenges(headers, name::WWW_AUTHENTICATE);
}

/// Whatever is read, what is then written must be read equal, and so must every reply.
fn read_twice(bytes: &[u8]) -> Result<(), TestCaseError> {
    match read_datagram(bytes) {
        Ok(None) => {}
        Ok(Some(message)) => {
            match &message {
                Message::Request(request) => look_at(&request.headers),
                Message::Response(response) => look_at(&response.headers),
            }
            prop_assert_eq!(read_datagram(&write(&message)), Ok(Some(message)));
        }
        Err(error) => {
            if let Some(reply) = error.reply.filter(|reply| !reply.call_id.is_empty()) {
                let reply = Message::Response(*reply);
                prop_assert_eq!(read_datagram(&write(&reply)), Ok(Some(reply)));
            }
        }
    }
    Ok(())
}

fn samples() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "dat"));
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Bytes that mean something to the reader, among others.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let telling: Vec<&'static [u8]> = vec![
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\r\n ",
        b"\"",
        b"\\",
        b"<",
        b">",
        b",",
        b";",
        b":",
        b"@",
        b"[",
        b"]",
        b"%",
        b"?",
        b"=",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b" ",
        b"\t",
        b"SIP/2.0",
        b"sip:",
        b"Via: ",
        b"l: 5",
        b"=\"",
        b";tag=",
        b"99999999999999999999",
        b"-1",
        b"*",
        b"Digest ",
        b"\xef\xbf\xbd",
        b"\xc2\xa0",
    ];
    prop_oneof![proptest::sample::select(telling).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 0..4),]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_messages_read_back_equal(message in message()) {
        let bytes = write(&message);
        prop_assert_eq!(read_datagram(&bytes), Ok(Some(message)));
    }

    #[test]
    fn addresses_read_back_equal(address in address()) {
        prop_assert_eq!(address.to_string().parse(), Ok(address));
    }

    #[test]
    fn uris_read_back_equal_and_equal_themselves(uri in uri()) {
        prop_assert_eq!(uri.to_string().parse(), Ok(uri.clone()));
        if let Uri::Sip(uri) = uri {
            prop_assert!(uri.equivalent(&uri));
        }
    }

    /// Fields that hold anything at all: the head keeps its lines and can be read.
    #[test]
    fn nothing_in_a_value_adds_a_line(
        user in any::<String>(), display in any::<String>(), param in any::<String>(), value in any::<String>(),
        header in any::<String>(), call_id in any::<String>(), reason in any::<String>(), other in any::<String>(),
    ) {
        let host = Host::Name("example.org".into());
        let mut from = NameAddr::new(Uri::Sip(SipUri::new(Some(&user), host.clone(), None)));
        from.display_name = Some(display);
        from.params.set(&param, Some(&value));
        let to = NameAddr::new(Uri::Other { scheme: "x".into(), rest: format!("y{other}") });
        let mut params = Params::default();
        params.set("branch", Some(&value));
        let via = vec![Via { transport: "UDP".into(), host, port: None, params }];
        let mut headers = Headers::default();
        headers.push("Subject", header);
        headers.push(&format!("X-{param}"), value);
        let response = Response {
            status: StatusCode::OK, reason, via, from, to, call_id: format!("c{call_id}"),
            cseq: CSeq { seq: 1, method: Method::Other(other.into()) }, headers, body: b"\r\n\r\nbody".to_vec(),
        };
        let bytes = write(&Message::Response(response));
        let head = bytes.strip_suffix(b"\r\n\r\n\r\n\r\nbody");
        let head = String::from_utf8(head.unwrap().to_vec()).unwrap();
        prop_assert!(!head.contains('\0'));
        prop_assert!(head.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
        prop_assert_eq!(head.split("\r\n").count(), 9, "{}", head);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        read_twice(&bytes)?;
    }

    #[test]
    fn any_text_is_a_uri_or_not(text in any::<String>(), telling in "[sip:<>\"\\\\;,@?%=a-c\\[\\] ]{0,24}") {
        for text in [text, format!("sip:{telling}"), telling] {
            if let Ok(uri) = text.parse::<Uri>() {
                prop_assert_eq!(uri.to_string().parse(), Ok(uri));
            }
            if let Ok(address) = text.parse::<NameAddr>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
            if let Ok(via) = format!("SIP/2.0/UDP {text}").parse::<Via>() {
                prop_assert_eq!(via.to_string().parse(), Ok(via));
            }
        }
    }

    #[test]
    fn any_challenge_is_read_or_refused(text in "(Digest |realm=|nonce=|qop=|\"|\\\\|,|a|=| |Basic ){0,16}") {
        let mut headers = Headers::default();
        headers.push(name::WWW_AUTHENTICATE, text.as_str());
        let password = digest::Secret::new("p");
        let login = digest::Login { user: "u", password: &password };
        for challenge in digest::challenges(&headers, name::WWW_AUTHENTICATE).unwrap_or_default().challenges {
            let covered = digest::Covered { method: &Method::Invite, uri: "sip:a", body: b"" };
            let exchange = digest::Exchange { nonce_count: 1, cnonce: "c", first_nonce: &challenge.nonce };
            let value = digest::authorization(&challenge, login, covered, exchange);
            prop_assert!(value.starts_with("Digest username=\"u\", realm=\""));
            prop_assert_eq!(digest::realm_of(&value), Some(challenge.realm.clone()));
            let info = digest::Info::read(&format!("{text}, rspauth=\"\""));
            let proof = info.check(challenge.algorithm, login, &challenge.nonce, &value, b"");
            prop_assert_ne!(proof, digest::Proof::Right);
        }
    }

    /// Torture messages cut, with pieces put over or into them.
    #[test]
    fn mutated_messages_are_read_or_refused(
        sample in proptest::sample::select(samples()),
        mutations in vec((any::<proptest::sample::Index>(), 0..8_usize, piece()), 0..4),
        cut in option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = sample;
        for (place, removed, piece) in mutations {
            let begin = place.index(bytes.len() + 1);
            let end = (begin + removed).min(bytes.len());
            bytes.splice(begin..end, piece);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        read_twice(&bytes)?;
    }
}

#[test]
fn every_truncation_is_read_or_refused() {
    for sample in samples() {
        for length in 0..sample.len() {
            read_twice(&sample[..length]).unwrap();
        }
    }
}
