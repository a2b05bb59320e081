//! `[nat]`: what the configuration says about the way through NAT.

use voipd_agent::ice_settings::{MAX_SERVERS, StunServer};

use super::fields::Fields;

/// How the way through NAT is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatConfig {
    /// STUN servers to ask for public addresses, besides those of the accounts.
    pub stun: Vec<StunServer>,
}

/// Reads the section. `None` when there was a fault.
pub(super) fn read(mut fields: Fields<'_>) -> Option<NatConfig> {
    let stun = fields.parse_list("stun", |text| text.parse().map_err(|error| format!("holds {error}")));
    let stun: Vec<StunServer> = stun.unwrap_or_default();
    if stun.len() > MAX_SERVERS {
        fields.reject("stun", format!("names {} servers: name {MAX_SERVERS} at most", stun.len()));
    }
    fields.finish().then_some(NatConfig { stun })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Scope, parse};
    use super::*;

    fn servers(list: &str) -> Result<Vec<String>, String> {
        let read = |_: &Path, _| Err(std::io::ErrorKind::NotFound.into());
        let text = format!("[nat]\nstun = {list}");
        let config = parse(&text, Path::new("voipd.toml"), Scope::System, &read);
        let names = |stun: Vec<StunServer>| stun.iter().map(StunServer::to_string).collect();
        config.map(|config| names(config.nat.stun)).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_are_hosts_with_or_without_a_port() {
        let read = servers(r#"["stun:stun.example.org", "stun:198.51.100.7:3479", "stun:[2001:db8::1]:99"]"#);
        assert_eq!(
            read.unwrap(),
            ["stun:stun.example.org", "stun:198.51.100.7:3479", "stun:[2001:db8::1]:99"]
        );
    }

    #[test]
    fn what_is_no_server_is_told_with_its_place() {
        let fault = servers("[\"stun.example.org\"]").unwrap_err();
        assert_eq!(
            fault,
            "voipd.toml:2:9: nat.stun holds 'stun.example.org' is no STUN server: write stun:HOST or stun:HOST:PORT"
        );
        let many: Vec<_> = (1..=17).map(|n| format!("\"stun:192.0.2.{n}\"")).collect();
        let fault = servers(&format!("[{}]", many.join(", "))).unwrap_err();
        assert!(fault.ends_with("nat.stun names 17 servers: name 16 at most"), "{fault}");
    }
}
