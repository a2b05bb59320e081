//! Two agents on one network without NAT: a direct path, found by both.

use std::time::{Duration, Instant};

use voipd_nat::ice::{Base, IceAgent, MediaPath, Output, Remote, Role, Settings, State};

#[test]
fn two_hosts_find_the_direct_path() {
    let start = Instant::now();
    let make = |role, address: &str, seed| {
        let bases = vec![Base { component: 1, address: address.parse().unwrap(), preference: 65535 }];
        IceAgent::new(
            start,
            Settings { role, components: 1, bases, stun_servers: vec![], relays: vec![] },
            [seed; 32],
        )
    };
    let mut agents =
        [make(Role::Controlling, "192.0.2.1:5000", 1), make(Role::Controlled, "192.0.2.2:6000", 2)];
    let describe = |agent: &IceAgent| Remote {
        credentials: agent.credentials().clone(),
        lite: false,
        candidates: agent.candidates().to_vec(),
        trickles: false,
    };
    let (first, second) = (describe(&agents[0]), describe(&agents[1]));
    assert_eq!(first.candidates[0].to_string(), "host0 1 UDP 2130706431 192.0.2.1 5000 typ host");
    agents[1].set_remote(start, first);
    agents[0].set_remote(start, second);
    let mut now = start;
    let mut paths = [None, None];
    while now < start + Duration::from_secs(2) && agents.iter().any(|agent| agent.state() != State::Connected)
    {
        let mut wake = start + Duration::from_secs(60);
        for index in 0..2 {
            loop {
                match agents[index].poll_output() {
                    Output::Transmit { base, bytes, .. } => {
                        agents[1 - index].handle_datagram(
                            now,
                            ["192.0.2.2:6000", "192.0.2.1:5000"][index].parse().unwrap(),
                            base,
                            &bytes,
                        );
                    }
                    Output::Selected(selected) => paths[index] = Some(selected.path),
                    Output::Timeout(at) => {
                        wake = wake.min(at.unwrap());
                        break;
                    }
                    _ => {}
                }
            }
        }
        now = wake;
        agents.iter_mut().for_each(|agent| agent.handle_timeout(now));
    }
    let [one, two] = ["192.0.2.1:5000".parse().unwrap(), "192.0.2.2:6000".parse().unwrap()];
    assert_eq!(paths[0], Some(MediaPath::Direct { base: one, remote: two }));
    assert_eq!(paths[1], Some(MediaPath::Direct { base: two, remote: one }));
    assert_eq!(agents.map(|agent| agent.state()), [State::Connected; 2]);
}
