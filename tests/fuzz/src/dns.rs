//! Answers of name servers, and the order that is made of them.

use std::net::IpAddr;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::NAPTR;
use voipd::transport::order::{MAX_SERVERS, Server, order_servers, services, single_host, take_turns};

/// One response of a name server, whose records are taken for the services, servers and addresses of a domain: what is
/// made of them is no more than they are, in the order of the RFCs, and the order of the records in it changes nothing.
pub fn dns(bytes: &[u8]) {
    let Ok(message) = Message::from_vec(bytes) else { return };
    let records = || message.answers.iter().map(|record| &record.data);
    naptr(
        records().filter_map(|data| if let RData::NAPTR(naptr) = data { Some(naptr.clone()) } else { None }),
    );
    srv(records()
        .filter_map(|data| if let RData::SRV(srv) = data { Server::of(srv) } else { None })
        .collect());
    addresses(records().filter_map(RData::ip_addr).collect());
}

fn naptr(records: impl Iterator<Item = NAPTR>) {
    let mut records: Vec<NAPTR> = records.collect();
    let found = services(&records);
    assert!(found.len() <= records.len());
    assert!(found.is_sorted_by_key(|service| service.order));
    assert!(found.iter().all(|service| !service.servers.is_root()));
    records.reverse();
    let again = services(&records);
    let key = |found: &[_]| format!("{found:?}").to_ascii_lowercase();
    assert_eq!(key(&found), key(&again), "the order of the records matters");
}

fn srv(servers: Vec<Server>) {
    let count = servers.len();
    let mut rotated = servers.clone();
    rotated.reverse();
    for lot in [0, u32::MAX] {
        let mut draw = |most: u32| lot.min(most);
        let ordered = order_servers(servers.clone(), &mut draw);
        assert_eq!(ordered.len(), count.min(MAX_SERVERS));
        assert!(ordered.is_sorted_by_key(|server| server.priority));
        assert!(ordered.iter().all(|server| server.port != 0 && !server.target.is_root()));
        let again = order_servers(rotated.clone(), &mut draw);
        let key = |ordered: &[Server]| format!("{ordered:?}").to_ascii_lowercase();
        assert_eq!(key(&ordered), key(&again), "the order of the records matters");
    }
}

fn addresses(found: Vec<IpAddr>) {
    let hosts: Vec<IpAddr> = found.into_iter().filter_map(single_host).collect();
    for host in &hosts {
        assert!(!host.is_unspecified() && !host.is_multicast(), "{host}");
        assert_eq!(single_host(*host), Some(*host), "what one host is, it stays");
    }
    let turns = take_turns(hosts.clone(), |address| address.is_ipv4());
    let sorted = |mut list: Vec<IpAddr>| {
        list.sort();
        list
    };
    assert_eq!(sorted(turns), sorted(hosts), "turns lose or make addresses");
}
