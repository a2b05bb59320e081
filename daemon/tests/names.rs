//! Names to places, as RFC 3263 wants it, against a real name server on loopback.

mod name_lab;

use std::time::{Duration, Instant};

use name_lab::{ALL, Forger, NameServer, SilentServer, has_ipv6, hop, resolve, resolver, secure_hop, text};
use voipd_sip::endpoint::ResolveError;
use voipd_sip::endpoint::Transport::{Tcp, Tls, Udp};

const HOSTS: [&str; 4] = [
    "host-record=a.test,127.0.0.2",
    "host-record=b.test,127.0.0.3",
    "host-record=c.test,127.0.0.4",
    "host-record=d.test,127.0.0.5",
];

fn zone(records: &[&'static str]) -> NameServer {
    NameServer::with_zone(&[&HOSTS[..], records].concat())
}

#[tokio::test]
async fn rfc_3263_4_1_naptr_decides_about_the_transport_and_names_the_service() {
    let server = zone(&[
        "naptr-record=example.test,30,10,S,SIP+D2U,,_sip._udp.example.test",
        "naptr-record=example.test,20,10,s,sip+d2t,,_sip._tcp.hosting.test",
        "naptr-record=example.test,10,10,S,SIPS+D2T,,_sips._tcp.example.test",
        "srv-host=_sip._udp.example.test,a.test,5060",
        "srv-host=_sip._tcp.example.test,d.test,5060",
        "srv-host=_sip._tcp.hosting.test,b.test,5080",
        "srv-host=_sips._tcp.example.test,c.test,5061",
    ]);
    let of = async |transports: &[_]| {
        let resolver = resolver(&[server.address()], transports, 1);
        text(&resolve(&resolver, &hop("example.test", None, None)).await.unwrap())
    };
    assert_eq!(of(&ALL).await, ["TLS 127.0.0.4:5061"]);
    assert_eq!(of(&[Udp, Tcp]).await, ["TCP 127.0.0.3:5080"]);
    assert_eq!(of(&[Udp]).await, ["UDP 127.0.0.2:5060"]);
}

#[tokio::test]
async fn rfc_3403_4_1_naptr_services_of_one_order_stand_by_preference() {
    let server = zone(&[
        "naptr-record=example.test,10,20,S,SIP+D2U,,_sip._udp.example.test",
        "naptr-record=example.test,10,10,S,SIP+D2T,,_sip._tcp.example.test",
        "srv-host=_sip._udp.example.test,a.test,5060",
        "srv-host=_sip._tcp.example.test,a.test,5060",
    ]);
    let places = resolve(&resolver(&[server.address()], &ALL, 1), &hop("example.test", None, None)).await;
    assert_eq!(text(&places.unwrap()), ["TCP 127.0.0.2:5060", "UDP 127.0.0.2:5060"]);
}

#[tokio::test]
async fn a_naptr_service_that_leads_nowhere_gives_way_to_the_next() {
    let server = zone(&[
        "naptr-record=example.test,10,10,S,SIP+D2T,,_sip._tcp.gone.test",
        "naptr-record=example.test,20,10,S,SIP+D2U,,_sip._udp.example.test",
        "srv-host=_sip._udp.example.test,a.test,5060",
    ]);
    let places = resolve(&resolver(&[server.address()], &ALL, 1), &hop("example.test", None, None)).await;
    assert_eq!(text(&places.unwrap()), ["UDP 127.0.0.2:5060"]);
}

#[tokio::test]
async fn nobody_who_was_led_to_tls_is_led_away_from_it() {
    let server = zone(&[
        "naptr-record=example.test,10,10,S,SIPS+D2T,,_sips._tcp.example.test",
        "naptr-record=example.test,10,20,S,SIP+D2U,,_sip._udp.example.test",
        "srv-host=_sip._udp.example.test,a.test,5060",
        "srv-host=_sips._tcp.example.test,c.test,5061",
    ]);
    let places = resolve(&resolver(&[server.address()], &ALL, 1), &hop("example.test", None, None)).await;
    assert_eq!(text(&places.unwrap()), ["TLS 127.0.0.4:5061"]);
}

#[tokio::test]
async fn rfc_3263_4_1_without_naptr_srv_tells_which_transports_there_are() {
    let server = zone(&[
        "srv-host=_sip._tcp.example.test,b.test,5070",
        "srv-host=_sip._udp.example.test,a.test,5060",
        "srv-host=_sips._tcp.example.test,c.test,5061",
        "srv-host=_sip._tcp.stream.test,b.test,5070",
    ]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let places = resolve(&resolver, &hop("example.test", None, None)).await.unwrap();
    assert_eq!(text(&places), ["UDP 127.0.0.2:5060", "TCP 127.0.0.3:5070"]);
    let places = resolve(&resolver, &hop("stream.test", None, None)).await.unwrap();
    assert_eq!(text(&places), ["TCP 127.0.0.3:5070"]);
}

#[tokio::test]
async fn rfc_2782_srv_priorities_come_first_and_weights_are_lots() {
    let server = zone(&[
        "srv-host=_sip._udp.example.test,d.test,5060,20,100",
        "srv-host=_sip._udp.example.test,a.test,5060,10,50",
        "srv-host=_sip._udp.example.test,b.test,5060,10,50",
        "srv-host=_sip._udp.example.test,c.test,5060,15",
    ]);
    let of = async |seed| {
        let resolver = resolver(&[server.address()], &[Udp], seed);
        text(&resolve(&resolver, &hop("example.test", None, None)).await.unwrap())
    };
    let mut firsts = Vec::new();
    for seed in 0..16 {
        let places = of(seed).await;
        assert_eq!(places[2..], ["UDP 127.0.0.4:5060", "UDP 127.0.0.5:5060"]);
        assert_eq!(places, of(seed).await, "the same lots give the same order");
        firsts.push(places[0].clone());
    }
    firsts.sort();
    firsts.dedup();
    assert_eq!(
        firsts,
        ["UDP 127.0.0.2:5060", "UDP 127.0.0.3:5060"],
        "either of two equals is first now and then"
    );
}

#[tokio::test]
async fn rfc_3263_4_2_a_port_or_an_address_asks_for_no_service() {
    let server = zone(&[
        "naptr-record=a.test,10,10,S,SIP+D2T,,_sip._tcp.a.test",
        "srv-host=_sip._udp.a.test,b.test,5070",
        "srv-host=_sip._tcp.a.test,b.test,5070",
    ]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let of =
        async |host, port, transport| text(&resolve(&resolver, &hop(host, port, transport)).await.unwrap());
    assert_eq!(of("192.0.2.7", None, None).await, ["UDP 192.0.2.7:5060"]);
    assert_eq!(of("192.0.2.7", None, Some(Tcp)).await, ["TCP 192.0.2.7:5060"]);
    assert_eq!(of("192.0.2.7", None, Some(Tls)).await, ["TLS 192.0.2.7:5061"]);
    let secure = resolve(&resolver, &secure_hop("192.0.2.7", None)).await.unwrap();
    assert_eq!(text(&secure), ["TLS 192.0.2.7:5061"]);
    assert_eq!(of("2001:db8::7", Some(5080), None).await, ["UDP [2001:db8::7]:5080"]);
    assert_eq!(of("localhost", None, None).await, ["UDP 127.0.0.1:5060", "UDP [::1]:5060"]);
    assert_eq!(server.questions(), [""; 0]);
    assert_eq!(of("a.test", Some(5080), None).await, ["UDP 127.0.0.2:5080"]);
    assert_eq!(of("a.test", Some(5081), Some(Tls)).await, ["TLS 127.0.0.2:5081"]);
    let mut questions = server.questions();
    questions.sort();
    assert_eq!(questions, ["A a.test", "AAAA a.test"]);
}

#[tokio::test]
async fn rfc_3263_4_1_a_transport_that_was_asked_for_needs_no_naptr() {
    let server = zone(&[
        "naptr-record=example.test,10,10,S,SIP+D2U,,_sip._udp.example.test",
        "srv-host=_sip._udp.example.test,a.test,5060",
        "srv-host=_sip._tcp.example.test,b.test,5070",
    ]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let places = resolve(&resolver, &hop("example.test", None, Some(Tcp))).await.unwrap();
    assert_eq!(text(&places), ["TCP 127.0.0.3:5070"]);
    let questions = server.questions();
    assert!(
        questions.iter().all(|question| !question.contains("_udp") && !question.starts_with("NAPTR")),
        "{questions:?}"
    );
    // Without SRV, the domain's own address, and still by the transport that was asked for.
    let places = resolve(&resolver, &hop("a.test", None, Some(Tcp))).await.unwrap();
    assert_eq!(text(&places), ["TCP 127.0.0.2:5060"]);
}

#[tokio::test]
async fn rfc_3263_4_1_sips_gets_tls_or_nothing() {
    let server = zone(&[
        "naptr-record=example.test,10,10,S,SIP+D2U,,_sip._udp.example.test",
        "srv-host=_sip._udp.example.test,a.test,5060",
        "srv-host=_sips._tcp.example.test,b.test,5071",
        "naptr-record=hosted.test,10,10,S,SIP+D2U,,_sip._udp.example.test",
        "naptr-record=hosted.test,20,10,S,SIPS+D2T,,_sips._tcp.hosting.test",
        "srv-host=_sips._tcp.hosting.test,c.test,5061",
        "srv-host=_sip._udp.plain.test,a.test,5060",
    ]);
    let secure = resolver(&[server.address()], &ALL, 1);
    let of = async |host| resolve(&secure, &secure_hop(host, None)).await.map(|places| text(&places));
    assert_eq!(of("example.test").await.unwrap(), ["TLS 127.0.0.3:5071"]);
    assert_eq!(of("hosted.test").await.unwrap(), ["TLS 127.0.0.4:5061"]);
    assert_eq!(of("d.test").await.unwrap(), ["TLS 127.0.0.5:5061"]);
    assert_eq!(of("plain.test").await, Err(ResolveError::NoSuchHost("plain.test".into())));
    server.questions();
    let plain = resolver(&[server.address()], &[Udp, Tcp], 1);
    let refused = resolve(&plain, &secure_hop("example.test", None)).await;
    assert_eq!(refused, Err(ResolveError::NoService("example.test".into())));
    assert_eq!(server.questions(), [""; 0], "what cannot be used is not asked for");
}

#[tokio::test]
async fn rfc_3263_4_2_without_srv_the_domain_is_its_own_server() {
    let server = zone(&[]);
    let places = resolve(&resolver(&[server.address()], &ALL, 1), &hop("a.test", None, None)).await.unwrap();
    assert_eq!(text(&places), ["UDP 127.0.0.2:5060"]);
    let mut questions = server.questions();
    questions.sort();
    assert_eq!(
        questions,
        ["A a.test", "AAAA a.test", "NAPTR a.test", "SRV _sip._tcp.a.test", "SRV _sip._udp.a.test"]
    );
}

#[tokio::test]
async fn rfc_8305_4_both_families_are_asked_and_take_turns() {
    let server = zone(&[
        "host-record=two.test,127.0.0.8,::1",
        "host-record=two.test,127.0.0.9,::ffff:127.0.0.10",
        "srv-host=_sip._udp.example.test,two.test,5060",
    ]);
    let resolver = resolver(&[server.address()], &[Udp], 1);
    for next_hop in [hop("example.test", None, None), hop("two.test", Some(5060), None)] {
        let found = text(&resolve(&resolver, &next_hop).await.unwrap());
        let six = found.iter().position(|place| place == "UDP [::1]:5060");
        // Where IPv6 has no route it comes last.
        assert_eq!(six, Some(if has_ipv6() { 0 } else { 3 }), "{found:?}");
        let mut all = found;
        all.sort();
        assert_eq!(
            all,
            ["UDP 127.0.0.10:5060", "UDP 127.0.0.8:5060", "UDP 127.0.0.9:5060", "UDP [::1]:5060"]
        );
    }
}

#[tokio::test]
async fn what_was_answered_is_not_asked_again_while_it_lives() {
    let server = zone(&["srv-host=_sip._udp.example.test,a.test,5060"]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let next_hop = hop("example.test", None, None);
    let first = resolve(&resolver, &next_hop).await.unwrap();
    assert!(!server.questions().is_empty());
    assert_eq!(resolve(&resolver, &next_hop).await.unwrap(), first);
    assert_eq!(server.questions(), [""; 0]);
}

#[tokio::test]
async fn an_answer_that_has_expired_is_asked_for_again() {
    let server = NameServer::start(&["local=/test/", "host-record=short.test,127.0.0.2,1"]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let next_hop = hop("short.test", Some(5060), None);
    resolve(&resolver, &next_hop).await.unwrap();
    assert!(server.questions().contains(&"A short.test".to_owned()));
    let by = Instant::now() + Duration::from_secs(30);
    loop {
        resolve(&resolver, &next_hop).await.unwrap();
        if server.questions().contains(&"A short.test".to_owned()) {
            return;
        }
        assert!(Instant::now() < by, "the answer lives longer than its second");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn rfc_2308_that_there_is_no_such_name_is_remembered_too() {
    let server = zone(&[]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    for _ in 0..2 {
        let result = resolve(&resolver, &hop("nobody.test", None, None)).await;
        assert_eq!(result, Err(ResolveError::NoSuchHost("nobody.test".into())));
    }
    let questions = server.questions();
    assert_eq!(questions.iter().filter(|question| *question == "A nobody.test").count(), 1, "{questions:?}");
    assert_eq!(questions.len(), 5, "{questions:?}");
}

#[tokio::test]
async fn no_such_name_and_failing_servers_and_silent_servers_are_told_apart() {
    let server = zone(&[]);
    let silent = SilentServer::new();
    let name = || "nobody.test".to_owned();
    let of = async |address| resolve(&resolver(&[address], &ALL, 1), &hop("nobody.test", None, None)).await;
    assert_eq!(of(server.address()).await, Err(ResolveError::NoSuchHost(name())));
    assert_eq!(of(silent.address()).await, Err(ResolveError::Unavailable(name())));
    // SERVFAIL to everything.
    let failing = Forger::new(|question| {
        let mut answer = question.to_vec();
        answer[2] |= 0x80;
        answer[3] = 0x82;
        answer
    });
    assert_eq!(of(failing.address()).await, Err(ResolveError::ServerFailure(name())));
    // The zone's server has no authority over others: REFUSED.
    let foreign =
        resolve(&resolver(&[server.address()], &ALL, 1), &hop("example.invalid.example", None, None)).await;
    assert_eq!(foreign, Err(ResolveError::ServerFailure("example.invalid.example".into())));
}

#[tokio::test]
async fn a_dead_name_server_costs_nothing_while_another_answers() {
    let server = zone(&["srv-host=_sip._udp.example.test,a.test,5060"]);
    let silent = SilentServer::new();
    for servers in [[silent.address(), server.address()], [server.address(), silent.address()]] {
        let places = resolve(&resolver(&servers, &ALL, 1), &hop("example.test", None, None)).await.unwrap();
        assert_eq!(text(&places), ["UDP 127.0.0.2:5060"]);
    }
}

#[tokio::test]
async fn a_name_that_hangs_delays_no_other() {
    let silent = SilentServer::new();
    let forward = format!("server=/hang.test/{}#{}", silent.address().ip(), silent.address().port());
    let server = NameServer::start(&[&forward, "local=/test/", "host-record=a.test,127.0.0.2"]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let (hanging, port) = (hop("hang.test", None, None), hop("hang.test", Some(5060), None));
    let mut stuck = [Box::pin(resolver.resolve(&hanging)), Box::pin(resolver.resolve(&port))];
    for future in &mut stuck {
        assert!(futures_util::poll!(future).is_pending());
    }
    let others = futures_util::future::join_all(stuck);
    let quick = hop("a.test", None, None);
    tokio::select! {
        biased;
        places = resolver.resolve(&quick) => {
            assert_eq!(text(&places.unwrap()), ["UDP 127.0.0.2:5060"]);
        }
        _ = others => panic!("the name server of hang.test says nothing, and yet its names were done first"),
    }
    assert_eq!(resolve(&resolver, &hanging).await, Err(ResolveError::Unavailable("hang.test".into())));
}

#[tokio::test]
async fn rfc_3263_services_that_never_answer_do_not_keep_from_the_address() {
    let silent = SilentServer::new();
    let forward = format!(
        "server=/_sip._udp.a.test/_sip._tcp.a.test/{}#{}",
        silent.address().ip(),
        silent.address().port()
    );
    let server = NameServer::start(&[&forward, "local=/test/", "host-record=a.test,127.0.0.2"]);
    let places = resolve(&resolver(&[server.address()], &ALL, 1), &hop("a.test", None, None)).await;
    assert_eq!(text(&places.unwrap()), ["UDP 127.0.0.2:5060"]);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_is_asked_for_by_tcp() {
    let names: Vec<String> = (0..60).map(|n| format!("server-with-a-long-name-{n}.test")).collect();
    let hosts = names.iter().map(|name| format!("host-record={name},127.0.0.2"));
    let records =
        names.iter().enumerate().map(|(n, name)| format!("srv-host=_sip._udp.big.test,{name},{}", 6000 + n));
    let lines: Vec<String> = hosts.chain(records).chain(["edns-packet-max=512".to_owned()]).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let server = NameServer::with_zone(&lines);
    let places =
        resolve(&resolver(&[server.address()], &[Udp], 1), &hop("big.test", None, None)).await.unwrap();
    // As many as are followed, each at its port.
    assert_eq!(places.len(), 8);
    let asked = server.questions();
    assert_eq!(asked.iter().filter(|question| *question == "SRV _sip._udp.big.test").count(), 2, "{asked:?}");
}

#[tokio::test]
async fn rfc_2782_a_domain_that_says_no_is_not_asked_otherwise() {
    let server = zone(&["srv-host=_sip._udp.a.test", "srv-host=_sip._tcp.a.test"]);
    let result = resolve(&resolver(&[server.address()], &ALL, 1), &hop("a.test", None, None)).await;
    assert_eq!(result, Err(ResolveError::NoService("a.test".into())));
}

#[tokio::test]
async fn a_domain_that_offers_only_what_cannot_be_used_is_not_called_otherwise() {
    let server = zone(&[
        "naptr-record=a.test,10,10,S,SIPS+D2T,,_sips._tcp.a.test",
        "srv-host=_sips._tcp.a.test,b.test,5061",
    ]);
    let result = resolve(&resolver(&[server.address()], &[Udp], 1), &hop("a.test", None, None)).await;
    assert_eq!(result, Err(ResolveError::NoService("a.test".into())));
}

#[tokio::test]
async fn rfc_6762_names_of_the_local_link_are_not_asked_of_name_servers() {
    let server = NameServer::start(&["host-record=door.local,127.0.0.2"]);
    // What the system's resolver makes of it is its own affair.
    let _ = resolve(&resolver(&[server.address()], &ALL, 1), &hop("door.local", None, None)).await;
    assert_eq!(server.questions(), [""; 0]);
}

#[tokio::test]
async fn aliases_are_followed_and_loops_end() {
    let server = zone(&[
        "cname=alias.test,a.test",
        "srv-host=_sip._udp.example.test,alias.test,5060",
        "srv-host=_sip._udp.loop.test,loop.test,5060",
    ]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let places = resolve(&resolver, &hop("example.test", None, None)).await.unwrap();
    assert_eq!(text(&places), ["UDP 127.0.0.2:5060"]);
    let result = resolve(&resolver, &hop("loop.test", None, None)).await;
    assert_eq!(result, Err(ResolveError::NoSuchHost("loop.test".into())));
}

/// An answer with one record, whose name is that of the question.
fn forged(question: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = question[..end].to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80;
    answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    answer.extend([0xc0, 12]);
    answer.extend(kind.to_be_bytes());
    answer.extend([0, 1, 0, 0, 0, 60]);
    answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    answer.extend(data);
    answer
}

fn asked_for(question: &[u8]) -> u16 {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    u16::from_be_bytes([question[end], question[end + 1]])
}

#[tokio::test]
async fn forged_answers_lead_nowhere_and_harm_nothing() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    let lies: [(&str, Lie); 9] = [
        ("nothing at all", |_| Vec::new()),
        ("half a header", |question| question[..7].to_vec()),
        ("noise", |question| [&question[..2], &[0xff; 600][..]].concat()),
        ("the question itself", |question| question.to_vec()),
        ("a name that points to itself", |question| {
            let mut answer = forged(question, asked_for(question), &[127, 0, 0, 1]);
            let at = answer.len() - 16;
            answer[at + 1] = u8::try_from(at).unwrap();
            answer
        }),
        ("an alias of itself", |question| forged(question, 5, &[0xc0, 12])),
        ("everybody's address", |question| match asked_for(question) {
            1 => forged(question, 1, &[0, 0, 0, 0]),
            28 => forged(question, 28, &[0; 16]),
            _ => forged(question, 5, &[0xc0, 12]),
        }),
        ("many machines' address", |question| match asked_for(question) {
            1 => forged(question, 1, &[224, 0, 1, 75]),
            28 => forged(question, 28, &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            _ => forged(question, 33, &[0, 1, 0, 1, 0, 0, 0xc0, 12]),
        }),
        ("an address of three bytes", |question| forged(question, asked_for(question), &[127, 0, 0])),
    ];
    let tries = lies.map(|(what, lie)| async move {
        let forger = Forger::new(lie);
        let resolver = resolver(&[forger.address()], &ALL, 1);
        let domain = resolve(&resolver, &hop("victim.test", None, None)).await;
        let host = resolve(&resolver, &hop("victim.test", Some(5060), None)).await;
        assert!(domain.is_err(), "{what}: {domain:?}");
        assert!(host.is_err(), "{what}: {host:?}");
    });
    futures_util::future::join_all(tries).await;
}

#[tokio::test]
async fn rfc_8489_8_a_domain_names_its_stun_servers_and_is_not_asked_itself() {
    let server = zone(&[
        "srv-host=_stun._udp.example.test,b.test,3479,20",
        "srv-host=_stun._udp.example.test,a.test,3478,10",
        "srv-host=_stun._udp.none.test",
        "host-record=plain.test,127.0.0.9",
    ]);
    let resolver = resolver(&[server.address()], &ALL, 1);
    let of = async |domain: &str| {
        let found = resolver.service(["_stun", "_udp"], domain).await;
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of("example.test").await, ["127.0.0.2:3478", "127.0.0.3:3479"]);
    for domain in ["plain.test", "none.test", "gone.test", "a..b", ""] {
        assert!(of(domain).await.is_empty(), "{domain}");
    }
}
