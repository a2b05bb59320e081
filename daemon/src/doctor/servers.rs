//! Whether an account's servers are found and reached: name servers, UDP, TCP and TLS.

use std::time::Instant;

use futures_util::future::join_all;
use tokio::time::timeout;
use voipd_agent::AccountSettings;
use voipd_agent::view::AccountState;
use voipd_sip::endpoint::{NextHop, Transport};
use voipd_sip::uri::Uri;

use super::{Check, PATIENCE, Patient};
use crate::transport::{Place, Resolver, probe};

/// What came of knocking.
#[derive(Clone, Debug)]
struct Knock {
    place: Place,
    /// The round trip in milliseconds, or why there is none.
    result: Result<u128, String>,
    /// The registration goes by this way.
    registered: bool,
    /// Whether a TCP connection to the same port comes about where UDP does not.
    tcp_instead: bool,
}

/// The first server of an account: its proxy, its registrar, or its address's host.
pub fn server_of(settings: &AccountSettings) -> Option<NextHop> {
    let uri =
        settings.outbound_proxies.first().or(settings.registrar.as_ref()).or(settings.address.as_ref())?;
    let Uri::Sip(uri) = uri else { return None };
    let named = uri.params.value("transport").and_then(|name| {
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
    });
    Some(NextHop {
        host: uri.host.clone(),
        port: uri.port,
        transport: named.or(settings.transport),
        secure: uri.secure,
    })
}

/// Looks up the account's server, and knocks at the first place of each transport.
pub(super) async fn examine(resolver: &Resolver, patient: &Patient, seed: [u8; 32]) -> Vec<Check> {
    let settings = &patient.view.settings;
    let Some(server) = server_of(settings).filter(|_| patient.view.state != AccountState::Disabled) else {
        return Vec::new();
    };
    let name = &settings.name;
    let id = format!("dns.{name}");
    let places = match timeout(PATIENCE, resolver.resolve(&server)).await {
        Ok(Ok(places)) => places,
        Ok(Err(error)) => {
            let remedy = "is the name written right? Does this machine reach a name server (/etc/resolv.conf, or \
                          name-servers under [sip])?";
            return vec![Check::failed(
                id,
                format!("the server of account {name} is not found: {error}"),
                remedy,
            )];
        }
        Err(_) => {
            let sentence =
                format!("the name servers say nothing about {}, the server of account {name}", server.host);
            let remedy = "is this machine online? Which name servers it asks stands in /etc/resolv.conf, or in \
                          name-servers under [sip]";
            return vec![Check::failed(id, sentence, remedy)];
        }
    };
    let found = format!(
        "{}, the server of account {name}, is found: {}",
        server.host,
        places.iter().take(4).map(|place| place.remote.to_string()).collect::<Vec<_>>().join(", ")
    );
    let mut checks = vec![Check::ok(id, found)];
    let mut first: Vec<Place> = Vec::new();
    for place in places {
        if !first.iter().any(|known| known.transport == place.transport) {
            first.push(place);
        }
    }
    let knocks = join_all(first.into_iter().map(|place| knock(place, patient, &server, seed))).await;
    checks.extend(judge(name, &knocks));
    checks
}

async fn knock(place: Place, patient: &Patient, server: &NextHop, seed: [u8; 32]) -> Knock {
    let begun = Instant::now();
    let tcp = Place { transport: Transport::Tcp, ..place };
    let (result, instead) = tokio::join!(
        async {
            let answer = match place.transport {
                Transport::Udp => probe::options(place.remote, &server.host, seed).await,
                Transport::Tcp => probe::connect(place.remote, None).await,
                Transport::Tls => match &patient.tls {
                    Some(tls) => probe::connect(place.remote, Some(tls)).await,
                    None => Err("its certificates cannot be used".to_owned()),
                },
            };
            answer.map(|()| begun.elapsed().as_millis())
        },
        async { place.transport == Transport::Udp && probe::connect(tcp.remote, None).await.is_ok() }
    );
    let registered = patient
        .registered_on
        .is_some_and(|flow| flow.transport == place.transport && flow.remote.ip() == place.remote.ip());
    Knock { place, result, registered, tcp_instead: instead }
}

fn judge(name: &str, knocks: &[Knock]) -> Vec<Check> {
    let any = knocks.iter().any(|knock| knock.result.is_ok() || knock.registered);
    let check = |knock: &Knock| {
        let Knock { place, result, registered, tcp_instead } = knock;
        let transport = place.transport.name();
        let id = format!("{}.{name}", transport.to_ascii_lowercase());
        let what = format!("the server of account {name} at {} by {transport}", place.remote);
        match result {
            Ok(ms) => Check::ok(id, format!("{what} answers within {ms} ms")),
            // Some servers answer no OPTIONS.
            Err(_) if *registered => Check::ok(id, format!("{what} is reached: the registration goes by it")),
            Err(why) => {
                let remedy = match (place.transport, tcp_instead) {
                    (Transport::Udp, true) => {
                        "by TCP it can be reached: write transport = \"tcp\" in the account, or open UDP in the firewall"
                    }
                    (Transport::Udp, false) => {
                        "is the server running, is its port right, and does a firewall or router let SIP through?"
                    }
                    (Transport::Tcp, _) => "is the server running, and does a firewall let the port through?",
                    (Transport::Tls, _) => {
                        "is it TLS that the server speaks at this port, and whom does the account believe (tls-ca)?"
                    }
                };
                let make = if any { Check::warning } else { Check::failed };
                make(id, format!("{what} is not reached: {why}"), remedy.to_owned())
            }
        }
    };
    knocks.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::super::CheckState;
    use super::*;

    fn knock(transport: Transport, result: Result<u128, &str>) -> Knock {
        Knock {
            place: Place { transport, remote: "192.0.2.1:5060".parse().unwrap() },
            result: result.map_err(str::to_owned),
            registered: false,
            tcp_instead: false,
        }
    }

    #[test]
    fn a_server_that_one_way_leads_to_is_reached() {
        let checks = judge("home", &[knock(Transport::Udp, Err("no answer")), knock(Transport::Tcp, Ok(12))]);
        let states: Vec<_> = checks.iter().map(|check| (check.id.as_str(), check.state)).collect();
        assert_eq!(states, [("udp.home", CheckState::Warning), ("tcp.home", CheckState::Ok)]);
        assert_eq!(
            checks[1].sentence,
            "the server of account home at 192.0.2.1:5060 by TCP answers within 12 ms"
        );
    }

    #[test]
    fn a_server_that_no_way_leads_to_is_not() {
        let checks = judge("home", &[knock(Transport::Udp, Err("no answer"))]);
        assert_eq!(checks[0].state, CheckState::Failed);
        let blocked = Knock { tcp_instead: true, ..knock(Transport::Udp, Err("no answer")) };
        let checks = judge("home", &[blocked]);
        assert!(checks[0].remedy.contains("transport = \"tcp\""), "{checks:?}");
    }

    #[test]
    fn a_registration_proves_more_than_a_missing_answer() {
        let registered = Knock { registered: true, ..knock(Transport::Udp, Err("no answer")) };
        assert_eq!(judge("home", &[registered])[0].state, CheckState::Ok);
    }
}
