//! `[nat]`: what the configuration says about the way through NAT.

use std::fmt;

use voipd_sip::uri::{Host, SipUri, Uri};

use super::fields::Fields;

/// More servers than this learn no more about the network, and each is sent packets again and again.
const MOST_SERVERS: usize = 8;

/// How the way through NAT is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatConfig {
    /// STUN servers to ask for public addresses, besides those that the accounts' domains offer.
    pub stun: Vec<StunServer>,
}

/// Where a STUN server is (RFC 7064). Without a port, DNS names it (RFC 8489 section 8), or it is 3478.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// Its name or address.
    pub host: Host,
    /// Its port where the configuration names one.
    pub port: Option<u16>,
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stun:{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Reads the section. `None` when there was a fault.
pub(super) fn read(mut fields: Fields<'_>) -> Option<NatConfig> {
    let stun = fields.parse_list("stun", stun_server);
    if let Some(servers) = &stun
        && servers.len() > MOST_SERVERS
    {
        fields.reject("stun", format!("names {} servers: name {MOST_SERVERS} at most", servers.len()));
    }
    fields.finish().then(|| NatConfig { stun: stun.unwrap_or_default() })
}

fn stun_server(text: &str) -> Result<StunServer, String> {
    let wrong = || {
        format!(
            "holds '{text}': write \"stun:HOST\" or \"stun:HOST:PORT\", such as \"stun:stun.example.org:3478\""
        )
    };
    let place = text.strip_prefix("stun:").ok_or_else(wrong)?;
    // A SIP URI without user, parameters and headers has the same host and port.
    match format!("sip:{place}").parse() {
        Ok(Uri::Sip(SipUri { user: None, host, port, params, headers: None, .. })) if params.is_empty() => {
            Ok(StunServer { host, port })
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Scope, parse};
    use super::*;

    fn servers(list: &str) -> Result<Vec<StunServer>, String> {
        let read = |_: &Path, _| Err(std::io::ErrorKind::NotFound.into());
        let text = format!("[nat]\nstun = {list}");
        let config = parse(&text, Path::new("voipd.toml"), Scope::System, &read);
        config.map(|config| config.nat.stun).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_are_hosts_with_or_without_a_port() {
        let read = servers(r#"["stun:stun.example.org", "stun:198.51.100.7:3479", "stun:[2001:db8::1]:99"]"#)
            .unwrap();
        let ports: Vec<_> = read.iter().map(|server| server.port).collect();
        assert_eq!(ports, [None, Some(3479), Some(99)]);
        let names: Vec<_> = read.iter().map(StunServer::to_string).collect();
        assert_eq!(names, ["stun:stun.example.org", "stun:198.51.100.7:3479", "stun:[2001:db8::1]:99"]);
    }

    #[test]
    fn what_is_no_server_is_told_with_its_place() {
        for wrong in
            ["stun.example.org", "stuns:a.example", "stun:a b", "stun:a:0", "stun:a@b", "stun:a;x=1", "stun:"]
        {
            let fault = servers(&format!("[\"{wrong}\"]")).unwrap_err();
            assert!(
                fault.starts_with(&format!("voipd.toml:2:9: nat.stun holds '{wrong}': write ")),
                "{fault}"
            );
        }
        let many: Vec<_> = (1..=9).map(|n| format!("\"stun:192.0.2.{n}\"")).collect();
        let fault = servers(&format!("[{}]", many.join(", "))).unwrap_err();
        assert!(fault.ends_with("nat.stun names 9 servers: name 8 at most"), "{fault}");
    }
}
