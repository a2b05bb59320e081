//! The section `[rendezvous]`: whether this voipd is a meeting point for friends, and under which address.

use voipd_sip::uri::Host;

use super::fields::Fields;

/// A meeting point for friends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RendezvousConfig {
    /// What stands behind the `@` of the friends' addresses: a name or an address at which this machine is reached.
    pub host: Host,
    /// The port behind it, where one is written.
    pub port: Option<u16>,
}

/// Reads the section. `Some(None)`: this voipd is no meeting point.
pub(super) fn read(mut fields: Fields<'_>) -> Option<Option<RendezvousConfig>> {
    let enabled = fields.flag("enabled").unwrap_or(false);
    let has_address = fields.has("address");
    let address = fields.parse("address", address);
    if enabled && !has_address {
        fields.reject(
            "address",
            "is missing: write the name or address at which friends reach this machine, such as \
             \"meet.example.org\" or \"203.0.113.7\"",
        );
    }
    fields.finish().then(|| address.filter(|_| enabled).map(|(host, port)| RendezvousConfig { host, port }))
}

fn address(text: &str) -> Result<(Host, Option<u16>), String> {
    let wrong = || {
        format!(
            "is '{text}': write the name or address at which friends reach this machine, such as \
             \"meet.example.org\" or \"203.0.113.7:5080\""
        )
    };
    // An IPv6 address alone has colons that begin no port.
    if let Ok(host) = text.parse::<Host>() {
        return reachable(host, None).ok_or_else(wrong);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = host.parse::<Host>().map_err(|_| wrong())?;
    reachable(host, Some(port)).ok_or_else(wrong)
}

fn reachable(host: Host, port: Option<u16>) -> Option<(Host, Option<u16>)> {
    let nowhere = matches!(&host, Host::Ip(ip) if ip.is_unspecified() || ip.is_multicast());
    (!nowhere).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_or_without_a_port() {
        let read = |text: &str| address(text).map(|(host, port)| (host.to_string(), port));
        assert_eq!(read("meet.example.org"), Ok(("meet.example.org".to_owned(), None)));
        assert_eq!(read("203.0.113.7:5080"), Ok(("203.0.113.7".to_owned(), Some(5080))));
        assert_eq!(read("2001:db8::1"), Ok(("[2001:db8::1]".to_owned(), None)));
        assert_eq!(read("[2001:db8::1]:5080"), Ok(("[2001:db8::1]".to_owned(), Some(5080))));
        for bad in ["", "0.0.0.0", "::", "224.0.0.1", "meet:0", "meet:x", "sip:meet.example.org", "a b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
