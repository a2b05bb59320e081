//! What the reader makes of the torture messages of RFC 4475: every file has its verdict here, at the level of this
//! layer. What only an endpoint can judge (a scheme, an extension, a body) is valid here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use voipd_sip::digest;
use voipd_sip::headers::name;
use voipd_sip::message::StatusCode;
use voipd_sip::wire::{ReadError, read_datagram, write};
use voipd_sip::{Message, Method, Request, Response, Uri};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

fn read(file: &str) -> Result<Message, ReadError> {
    let path = folder().join(format!("{file}.dat"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    read_datagram(&bytes).map(|message| message.expect("no keep-alive"))
}

fn request(file: &str) -> Request {
    match read(file) {
        Ok(Message::Request(request)) => request,
        other => panic!("{file}: {other:?}"),
    }
}

fn response(file: &str) -> Response {
    match read(file) {
        Ok(Message::Response(response)) => response,
        other => panic!("{file}: {other:?}"),
    }
}

/// Requests that are refused: the status of the reply and a part of the sentence that says why.
const REFUSED: [(&str, u16, &str); 18] = [
    ("badaspec", 400, "To: the scheme"),                   // 3.1.2.14
    ("baddn", 400, "From: "),                              // 3.1.2.15
    ("badinv01", 400, "Via: a parameter has no name"),     // 3.1.2.1
    ("badvers", 505, "this is not SIP/2.0"),               // 3.1.2.16
    ("clerr", 400, "Content-Length: the body is shorter"), // 3.1.2.2
    ("escruri", 400, "the Request-URI has headers"),       // 3.1.2.11
    ("insuf", 400, "From: it is missing"),                 // 3.3.1
    ("ltgtruri", 400, "Request-URI: the scheme of a URI"), // 3.1.2.7
    ("lwsruri", 400, "the white space of the request line is wrong"), // 3.1.2.8
    ("lwsstart", 400, "the white space of the request line is wrong"), // 3.1.2.9
    ("mcl01", 400, "Content-Length: it stands more than once"), // 3.3.9
    ("mismatch01", 400, "CSeq: its method is not the request's"), // 3.1.2.17
    ("mismatch02", 400, "CSeq: its method is not the request's"), // 3.1.2.18
    ("multi01", 400, "From: it stands more than once"),    // 3.3.8
    ("ncl", 400, "Content-Length: it is no length"),       // 3.1.2.3
    ("quotbal", 400, "To: a quoted string is not closed"), // 3.1.2.6
    ("scalar02", 400, "CSeq: its number"),                 // 3.1.2.4
    ("trws", 400, "the white space of the request line is wrong"), // 3.1.2.10
];

/// Responses that are dropped.
const DROPPED: [&str; 2] = ["bigcode", "scalarlg"];

/// Valid messages, each looked at below.
const VALID: [&str; 29] = [
    "badbranch",
    "baddate",
    "bcast",
    "bext01",
    "cparam01",
    "cparam02",
    "dblreq",
    "esc01",
    "esc02",
    "escnull",
    "intmeth",
    "inv2543",
    "invut",
    "longreq",
    "lwsdisp",
    "mpart01",
    "noreason",
    "novelsc",
    "regaut01",
    "regbadct",
    "regescrt",
    "sdp01",
    "semiuri",
    "transports",
    "unkscm",
    "unksm2",
    "unreason",
    "wsinv",
    "zeromf",
];

#[test]
fn every_message_has_its_verdict() {
    let verdicts: BTreeSet<String> = REFUSED
        .iter()
        .map(|(file, ..)| *file)
        .chain(DROPPED)
        .chain(VALID)
        .map(|file| format!("{file}.dat"))
        .collect();
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.ends_with(".dat"))
        .collect();
    assert_eq!(verdicts, files);
}

#[test]
fn malformed_requests_are_refused_with_a_reply() {
    for (file, status, why) in REFUSED {
        let error = read(file).expect_err(file);
        assert!(error.what.contains(why), "{file}: {}", error.what);
        let reply = *error.reply.unwrap_or_else(|| panic!("{file}: no reply"));
        assert_eq!(reply.status.get(), status, "{file}");
        // The reply itself can be sent, and all but that to insuf, which names no call, can be read by its receiver.
        let read_back = read_datagram(&write(&Message::Response(reply.clone())));
        if file == "insuf" {
            assert!(reply.call_id.is_empty());
        } else {
            assert_eq!(read_back, Ok(Some(Message::Response(reply))), "{file}");
        }
    }
}

#[test]
fn replies_copy_what_can_be_read() {
    let reply = |file| *read(file).unwrap_err().reply.unwrap();
    let mismatch = reply("mismatch01");
    assert_eq!(mismatch.cseq.to_string(), "8 INVITE");
    assert_eq!(mismatch.from.tag(), Some("34525"));
    assert_eq!(mismatch.via.first().unwrap().branch(), Some("z9hG4bKkdjuw"));
    assert_eq!(mismatch.reason, "CSeq: its method is not the request's");
    assert_eq!(reply("scalar02").cseq.to_string(), "0 REGISTER");
    assert_eq!(reply("badinv01").via.first().unwrap().host.to_string(), "192.0.2.15");
    assert_eq!(reply("quotbal").to.uri.to_string(), "sip:j.user@example.com");
    assert_eq!(reply("baddn").from.to_string(), "<sip:a.g.bell@example.com>;tag=43");
    assert_eq!(reply("badvers").via.first().unwrap().branch(), Some("z9hG4bKkdjuw"));
    assert_eq!(reply("insuf").from.uri.to_string(), "sip:anonymous@anonymous.invalid");
}

#[test]
fn malformed_responses_are_dropped() {
    for file in DROPPED {
        assert_eq!(read(file).expect_err(file).reply, None, "{file}");
    }
}

#[test]
fn valid_messages_are_read_and_written_without_loss() {
    for file in VALID {
        let message = read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(read_datagram(&write(&message)), Ok(Some(message)), "{file}");
    }
}

/// 3.1.1.1.
#[test]
fn a_short_tortuous_invite() {
    let invite = request("wsinv");
    assert_eq!(invite.method, Method::Invite);
    assert_eq!(invite.uri.to_string(), "sip:vivekg@chair-dnrc.example.com;unknownparam");
    let vias: Vec<_> = invite.via.iter().map(ToString::to_string).collect();
    assert_eq!(
        vias,
        [
            "SIP/2.0/UDP 192.0.2.2;branch=390skdjuw",
            "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8",
            "SIP/2.0/UDP 192.168.255.111;branch=z9hG4bK30239",
        ]
    );
    assert_eq!(invite.to.tag(), Some("1918181833n"));
    assert_eq!(invite.from.display_name.as_deref(), Some(r#"J Rosenberg \""#));
    assert_eq!(invite.from.tag(), Some("98asjd8"));
    assert_eq!((invite.max_forwards, invite.cseq), (68, 9));
    assert_eq!(invite.headers.get("Subject"), Some(""));
    assert_eq!(invite.headers.get("newfangledheader"), Some("newfangled value continued newfangled value"));
    assert_eq!(invite.headers.get("UnknownHeaderWithUnusualValue"), Some(";;,,;;,;"));
    let route = invite.headers.route_set(name::ROUTE).unwrap();
    assert_eq!(route.len(), 1);
    assert!(matches!(&route[0].uri, Uri::Sip(uri) if uri.is_loose_router()));
    let contact = &invite.headers.contacts().unwrap()[0];
    assert_eq!(contact.display_name.as_deref(), Some(r#"Quoted string """#));
    assert_eq!(contact.params.value("newparam"), Some("newvalue"));
    assert_eq!(contact.params.get("secondparam"), Some(None));
    assert_eq!(contact.params.value("q"), Some("0.33"));
    assert_eq!(invite.body.len(), 150);
}

/// 3.1.1.2.
#[test]
fn a_wide_range_of_valid_characters() {
    let wide = request("intmeth");
    assert_eq!(wide.method, Method::new("!interesting-Method0123456789_*+`.%indeed'~").unwrap());
    let Uri::Sip(uri) = &wide.uri else { panic!("{:?}", wide.uri) };
    assert_eq!(uri.user.as_deref(), Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    assert_eq!(uri.password.as_deref(), Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(uri.host.to_string(), "example.com");
    assert_eq!(wide.to.display_name.as_deref(), Some("BEL:\u{7} NUL:\u{fffd} DEL:\u{7f}"));
    assert_eq!(wide.from.display_name.as_deref(), Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(wide.from.params.value("fromParam''~+*_!.-%"), Some("работающий"));
    assert_eq!(wide.from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(wide.call_id, "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(wide.max_forwards, 255);
    assert_eq!(wide.headers.get("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電"));
}

/// 3.1.1.3 to 3.1.1.5.
#[test]
fn escapes_are_kept_as_they_came() {
    let invite = request("esc01");
    assert_eq!(invite.uri.to_string(), "sip:sips%3Auser%40example.com@example.net");
    assert_eq!(invite.from.uri.to_string(), "sip:I%20have%20spaces@example.net");
    let contact = &invite.headers.contacts().unwrap()[0];
    assert_eq!(contact.uri.to_string(), "sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31");
    assert!(matches!(&contact.uri, Uri::Sip(uri) if uri.is_loose_router()));

    let null = request("escnull");
    assert_eq!(null.to.uri.to_string(), "sip:null-%00-null@example.com");
    assert_eq!(null.headers.contacts().unwrap().len(), 2);

    let other = request("esc02");
    assert_eq!(other.method, Method::new("RE%47IST%45R").unwrap());
    assert_eq!(other.to.display_name.as_deref(), Some("%Z%45"));
    assert_eq!(other.headers.contacts().unwrap().len(), 2, "C%6Fntact is another name");
}

/// 3.1.1.6 to 3.1.1.10 and 3.1.1.13.
#[test]
fn odd_but_valid_requests() {
    assert_eq!(request("lwsdisp").from.display_name.as_deref(), Some("caller"));

    let long = request("longreq");
    assert_eq!(long.via.len(), 34);
    assert!(long.to.uri.to_string().starts_with("sip:user@example.com:6000;unknownparam1=verylong"));
    assert_eq!(long.body.len(), 150);

    let double = request("dblreq");
    assert_eq!((double.method, double.body.len()), (Method::Register, 0));
    assert_eq!(double.call_id, "dblreq.0ha0isndaksdj99sdfafnl3lk233412");

    let semicolon = request("semiuri");
    let Uri::Sip(uri) = &semicolon.uri else { panic!("{:?}", semicolon.uri) };
    assert_eq!(uri.user.as_deref(), Some("user;par=u%40example.net"));
    assert_eq!(semicolon.headers.tokens("Accept").len(), 6);

    let transports: Vec<_> = request("transports").via.into_iter().map(|via| via.transport).collect();
    assert_eq!(transports, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);

    let multipart = request("mpart01");
    assert_eq!(multipart.body.len(), 553);
    assert_eq!(multipart.headers.content_type().as_deref(), Some("multipart/mixed"));
    assert_eq!(multipart.via[0].params.get("rport"), Some(None));
}

/// 3.1.1.12 and 3.1.1.13, and the response of 3.3.
#[test]
fn odd_but_valid_responses() {
    let reason = response("unreason");
    assert_eq!(reason.reason, "= 2**3 * 5**2 но сто девяносто девять - простое");
    assert_eq!(response("noreason").reason, "");
    assert_eq!(response("noreason").status, StatusCode::TRYING);
    // That it is not for us to see two Vias, the endpoint says.
    assert_eq!(response("bcast").via.len(), 2);
}

/// Section 3.2 to 3.4, and those of 3.1.2 and 3.3 that a user agent judges by what a header field or URI means.
#[test]
fn what_the_endpoint_judges_is_read() {
    assert_eq!(request("badbranch").via[0].branch(), Some("z9hG4bK"));
    assert_eq!(request("baddate").headers.get("Date"), Some("Fri, 01 Jan 2010 16:00:00 EST"));
    assert!(request("regbadct").headers.contacts().is_err());
    assert_eq!(
        request("regescrt").headers.contacts().unwrap()[0].uri.to_string(),
        "sip:user@example.com?Route=%3Csip:sip.example.com%3E"
    );
    assert_eq!(request("unkscm").uri.to_string(), "nobodyknowsthisscheme:totallyopaquecontent");
    assert_eq!(request("novelsc").uri.to_string(), "soap.beep://192.0.2.103:3002");
    assert_eq!(request("unksm2").to.uri.to_string(), "isbn:2983792873");
    assert_eq!(request("unksm2").from.uri.to_string(), "http://www.example.com");
    assert_eq!(
        request("bext01").headers.tokens(name::REQUIRE),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
    assert_eq!(request("invut").headers.content_type().as_deref(), Some("application/unknownformat"));
    assert_eq!(request("sdp01").headers.get("Accept"), Some("text/nobodyKnowsThis"));
    assert_eq!(request("zeromf").max_forwards, 0);
    let auth = request("regaut01");
    assert_eq!(
        digest::challenges(&auth.headers, name::AUTHORIZATION).map(|offer| offer.challenges),
        Ok(vec![])
    );

    let bare = &request("cparam01").headers.contacts().unwrap()[0];
    assert_eq!(bare.params.get("unknownparam"), Some(None));
    let bracketed = &request("cparam02").headers.contacts().unwrap()[0];
    assert!(bracketed.params.is_empty());

    let old = request("inv2543");
    assert_eq!((old.from.tag(), old.via[0].branch(), old.max_forwards), (None, None, 70));
    assert_eq!(old.to.params.value("user"), Some("phone"));
    assert_eq!(old.body.len(), 105);
}
