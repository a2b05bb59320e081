//! What an account is configured to be. How it fares is the agent's business.

use std::net::IpAddr;

use voipd_media::Codec;
use voipd_sip::Uri;
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{ContactPolicy, Push, Transport};

use crate::dialplan::DialPlan;
use crate::ice_settings::IceSettings;

/// An account. Numbers are never reused while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// What an account does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// Registers with a server, places and takes calls there.
    Sip,
    /// Peer to peer, without a server. There is one, built in.
    Direct,
    /// Answers every call and sends the sound back; registers like `Sip` when it has an address.
    Echo,
}

/// Where an account came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountOrigin {
    /// The configuration file.
    Config,
    /// Added over D-Bus, and kept in the store.
    Bus,
    /// Always there.
    BuiltIn,
}

/// What becomes of a call that is redirected with 300, 301 or 302 (RFC 3261 section 21.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectPolicy {
    /// It goes on where whoever dialled has agreed, and ends otherwise.
    #[default]
    Ask,
    /// It goes on.
    Follow,
    /// It ends.
    Never,
}

/// How digits are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtmfMethod {
    /// As telephone events where the peer takes them, else in INFO.
    #[default]
    Auto,
    /// As telephone events (RFC 4733) only.
    Rtp,
    /// In INFO only (`application/dtmf-relay`).
    Info,
}

/// An account's settings, complete and consistent.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Unique: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// What it does.
    pub kind: AccountKind,
    /// Where it came from.
    pub origin: AccountOrigin,
    /// Takes and places calls.
    pub enabled: bool,
    /// Address of record, `sip:alice@example.org`. Always there for `Sip`.
    pub address: Option<Uri>,
    /// Shown to those who are called.
    pub display_name: Option<String>,
    /// Where REGISTER goes; the address's host when absent.
    pub registrar: Option<Uri>,
    /// All requests go by way of one of these servers, the first one where it can be had; at most two.
    pub outbound_proxies: Vec<Uri>,
    /// How the account's servers are reached, where their URIs do not say it; when absent, DNS decides.
    pub transport: Option<Transport>,
    /// What servers must prove over TLS, and what they are shown.
    pub tls: TlsSettings,
    /// The address's user when absent.
    pub auth_user: Option<String>,
    /// For digest authentication.
    pub password: Option<Secret>,
    /// The only realms the password is for; when empty, those of the account's own servers.
    pub realms: Vec<String>,
    /// Answers servers that have nothing better than MD5.
    pub allow_md5: bool,
    /// Whether to register at all.
    pub register: bool,
    /// Registration life asked for, in seconds.
    pub expires: u32,
    /// Asks for GRUUs and uses them.
    pub gruu: bool,
    /// What the server can wake this device with.
    pub push: Option<Push>,
    /// Most wanted first; never empty.
    pub codecs: Vec<Codec>,
    /// 10, 20, 30, 40 or 60.
    pub ptime_ms: u16,
    /// Redundant audio data (RFC 2198) is offered and taken.
    pub redundancy: bool,
    /// Pauses are not sent: a description of their noise is (RFC 3389), or nothing (Opus).
    pub silence_suppression: bool,
    /// What becomes of its calls that are redirected.
    pub redirect: RedirectPolicy,
    /// How it sends digits.
    pub dtmf: DtmfMethod,
    /// How its media finds its way.
    pub ice: IceSettings,
    /// Networks whose calls are taken besides those of the account's servers. For `Direct` and `Echo`: the only ones.
    pub allow_from: Vec<Network>,
    /// How numbers are dialled.
    pub dial_plan: DialPlan,
    /// Which address of ours its servers and peers are told.
    pub contact: ContactPolicy,
}

/// Whom an account believes over TLS, and what it shows. Checked when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The only authorities that are believed, as PEM text; the system's when absent.
    pub authorities: Option<String>,
    /// SHA-256 of the only certificate that is good, or of its public key. Nothing else is asked of the server then.
    pub pin: Option<[u8; 32]>,
    /// What we prove who we are with, where a server asks.
    pub client: Option<ClientCertificate>,
}

/// A certificate of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// It, and those that lead to its authority, as PEM text.
    pub chain: String,
    /// Its key, as PEM text.
    pub key: Secret,
}

/// An IP network, `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no network: write an address and a prefix length, such as 192.168.0.0/16 or fe80::/10")]
pub struct NetworkError(String);

impl Network {
    /// The first address of the network, as it is written.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Does `address` lie in this network? IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(net) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(net) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = NetworkError;
    /// An address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let bad = || NetworkError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= longest).ok_or_else(bad)?,
            None => longest,
        };
        Ok(Self { address, prefix })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let net: Network = "192.168.4.0/22".parse().unwrap();
        assert!(net.contains("192.168.7.255".parse().unwrap()));
        assert!(net.contains("::ffff:192.168.4.1".parse().unwrap()));
        assert!(!net.contains("192.168.8.0".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!("::/0".parse::<Network>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!("fe80::/10".parse::<Network>().unwrap().contains("fe80::9".parse().unwrap()));
        assert!("192.0.2.1/33".parse::<Network>().is_err());
        assert!("example.org/8".parse::<Network>().is_err());
    }
}
