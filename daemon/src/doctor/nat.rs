//! What the way through NAT means for calls.

use std::net::IpAddr;

use voipd_agent::{RelayState, RelayView};
use voipd_nat::stun::{Filtering, Mapping, PathReport, Report, ServerReport, ServerState, Source, State};

use super::Check;
use crate::api::nat::NatView;

const ID: &str = "nat";
const RELAY: &str = "name a relay, as relays in the account: what no direct way brings through goes by it";

/// The NAT, each STUN server and each relay.
pub(super) fn judge(view: &NatView) -> Vec<Check> {
    let NatView { discovery: report, relays, .. } = view;
    let relayed = relays.iter().any(|relay| relay.state == RelayState::Reachable);
    let mut checks = vec![nat(report, relayed)];
    let asked = report.servers.iter().filter(|server| !matches!(server.source, Source::Registration(_)));
    checks.extend(asked.map(server));
    checks.extend(relays.iter().map(|one| relay(one, relayed)));
    checks
}

fn nat(report: &Report, relayed: bool) -> Check {
    match (report.state, report.paths.first()) {
        (State::Known, Some(path)) => known(path, relayed),
        (State::Discovering, _) => Check::skipped(ID, "the public address is just being found out"),
        (State::Failed, _) => {
            let sentence = format!("the public address is not known: {}", report.reason);
            Check::failed(ID, sentence, format!("is this machine online, and UDP let out? {RELAY}"))
        }
        _ => Check::new(
            ID,
            super::CheckState::Skipped,
            "whether there is a NAT is not known: no STUN server is asked",
            "name one that you trust as stun under [nat] in the configuration",
        ),
    }
}

fn known(path: &PathReport, relayed: bool) -> Check {
    let public: Vec<String> = path.public.iter().map(IpAddr::to_string).collect();
    let public = public.join(", ");
    match (path.mapping, path.filtering) {
        (Mapping::None, Filtering::None | Filtering::Unknown) => {
            Check::ok(ID, format!("this machine has the public address {public}, and there is no NAT"))
        }
        (Mapping::None, _) => Check::ok(
            ID,
            format!("this machine has the public address {public}, behind a firewall that takes answers in"),
        ),
        (Mapping::EndpointIndependent, _) => Check::ok(
            ID,
            format!(
                "there is a NAT with the public address {public}, of a kind that direct calls get through"
            ),
        ),
        (Mapping::Unknown, _) => Check::ok(
            ID,
            format!(
                "there is a NAT with the public address {public}; of which kind, one server alone cannot tell"
            ),
        ),
        (_, _) if relayed => Check::ok(
            ID,
            format!(
                "there is a NAT with the public address {public} that takes another port for each peer; where there \
                 is no direct way, sound goes by a relay"
            ),
        ),
        (Mapping::AddressDependent | Mapping::AddressAndPortDependent | Mapping::DestinationDependent, _) => {
            Check::warning(
                ID,
                format!(
                    "there is a NAT with the public address {public} that takes another port for each peer: with peers \
                 behind such a NAT too, there is no direct way for the sound"
                ),
                RELAY,
            )
        }
    }
}

/// `relayed`: at least one works.
fn relay(relay: &RelayView, relayed: bool) -> Check {
    let id = format!("relay.{}", relay.uri);
    let uri = &relay.uri;
    match &relay.state {
        RelayState::Reachable => {
            let rtt = relay.round_trip;
            let rtt =
                rtt.map(|rtt| format!(" within {:.0} ms", rtt.as_secs_f64() * 1000.0)).unwrap_or_default();
            Check::ok(id, format!("the relay {uri} answers{rtt}"))
        }
        RelayState::Unknown => Check::skipped(id, format!("nothing has come back from the relay {uri} yet")),
        RelayState::Failed(why) => {
            let sentence = format!("the relay {uri} is of no use: {why}");
            let remedy = "are name, port, relay-user and relay-password right? With ?transport=tcp or turns: it is \
                          reached where UDP is blocked";
            if relayed { Check::warning(id, sentence, remedy) } else { Check::failed(id, sentence, remedy) }
        }
    }
}

fn server(server: &ServerReport) -> Check {
    let ServerReport { name, state, reason, rtt, .. } = server;
    let id = format!("stun.{}", name.trim_start_matches("stun:"));
    match state {
        ServerState::Works => {
            let rtt =
                rtt.map(|rtt| format!(" within {:.0} ms", rtt.as_secs_f64() * 1000.0)).unwrap_or_default();
            Check::ok(id, format!("the STUN server {name} answers{rtt}"))
        }
        ServerState::Failed => {
            let remedy = match &server.source {
                Source::Configuration => "is it the right one? It stands under [nat] in the configuration",
                _ => "is it the right one? It belongs to the account",
            };
            Check::warning(id, format!("the STUN server {name} {reason}"), remedy)
        }
        ServerState::Asking | ServerState::Unknown => {
            Check::skipped(id, format!("the STUN server {name} is just being asked"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use voipd_nat::stun::{Hairpin, Ports};

    use super::super::CheckState;
    use super::*;

    fn judge(discovery: &Report) -> Vec<Check> {
        super::judge(&NatView { discovery: discovery.clone(), ..NatView::default() })
    }

    fn report(mapping: Mapping, filtering: Filtering) -> Report {
        let path = PathReport {
            local: "192.168.1.7".parse().unwrap(),
            public: vec!["203.0.113.9".parse().unwrap()],
            mapping,
            filtering,
            ports: Ports::Changed,
            hairpin: Hairpin::Unknown,
        };
        Report { state: State::Known, reason: String::new(), paths: vec![path], servers: Vec::new() }
    }

    #[test]
    fn only_a_nat_that_keeps_no_port_is_a_reason_to_worry() {
        let state = |mapping| judge(&report(mapping, Filtering::AddressAndPortDependent))[0].state;
        assert_eq!(state(Mapping::None), CheckState::Ok);
        assert_eq!(state(Mapping::EndpointIndependent), CheckState::Ok);
        assert_eq!(state(Mapping::Unknown), CheckState::Ok);
        for mapping in
            [Mapping::AddressDependent, Mapping::AddressAndPortDependent, Mapping::DestinationDependent]
        {
            assert_eq!(state(mapping), CheckState::Warning, "{mapping:?}");
        }
    }

    #[test]
    fn what_nobody_knows_is_not_called_good_or_bad() {
        let unknown = Report::default();
        assert_eq!(judge(&unknown)[0].state, CheckState::Skipped);
        let failed = Report { state: State::Failed, reason: "nobody answers".into(), ..Report::default() };
        let check = &judge(&failed)[0];
        assert_eq!(check.state, CheckState::Failed);
        assert!(check.sentence.contains("nobody answers") && check.remedy.contains("relay"), "{check:?}");
    }

    #[test]
    fn a_server_that_fails_is_a_warning_and_registrars_are_no_servers_of_their_own() {
        let server = |source, state, reason: &str| ServerReport {
            name: "stun:a.example".into(),
            source,
            address: None,
            state,
            reason: reason.into(),
            rtt: Some(Duration::from_millis(12)),
            public: None,
        };
        let servers = vec![
            server(Source::Configuration, ServerState::Works, ""),
            server(Source::Account("home".into()), ServerState::Failed, "does not answer"),
            server(Source::Registration("home".into()), ServerState::Works, ""),
        ];
        let checks = judge(&Report { servers, ..report(Mapping::None, Filtering::None) });
        assert_eq!(checks.len(), 3);
        assert_eq!(checks[1].sentence, "the STUN server stun:a.example answers within 12 ms");
        assert_eq!((checks[2].state, checks[2].id.as_str()), (CheckState::Warning, "stun.a.example"));
        assert_eq!(checks[2].sentence, "the STUN server stun:a.example does not answer");
    }

    #[test]
    fn a_relay_that_works_takes_the_worry_away_and_one_that_fails_is_told() {
        let relay =
            |state, round_trip| RelayView { uri: "turn:r.example".into(), state, round_trip, friend: None };
        let discovery = report(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
        let states = |relays: Vec<RelayView>| {
            let checks =
                super::judge(&NatView { discovery: discovery.clone(), relays, ..NatView::default() });
            checks.iter().map(|check| check.state).collect::<Vec<_>>()
        };
        let works = relay(RelayState::Reachable, Some(Duration::from_millis(30)));
        let broken = relay(RelayState::Failed("wrong password".into()), None);
        let both = states(vec![works, broken.clone()]);
        assert_eq!(both, [CheckState::Ok, CheckState::Ok, CheckState::Warning]);
        assert_eq!(states(vec![broken]), [CheckState::Warning, CheckState::Failed]);
        assert_eq!(
            states(vec![relay(RelayState::Unknown, None)]),
            [CheckState::Warning, CheckState::Skipped]
        );
    }
}
