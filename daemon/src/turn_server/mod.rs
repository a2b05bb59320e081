//! A relay (TURN, RFC 8656) for the friends of a meeting point: a task of its own, reached over UDP and TCP. It relays for
//! those alone whom a meeting point has given a login, and never to addresses that only this machine or its network
//! reaches.

mod gate;
mod streams;
mod task;
mod trial;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use tokio::sync::mpsc;
use voipd_agent::Network;
use voipd_sip::digest::Secret;
use voipd_sip::rendezvous::RelayKey;

pub use gate::is_public;
pub use trial::try_relay;

/// What a relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Where friends reach it: an address of this machine and a port.
    pub listen: SocketAddr,
    /// Ports on which it relays.
    pub ports: RangeInclusive<u16>,
    /// Networks to which it relays although not everybody reaches them.
    pub networks: Vec<Network>,
}

/// What the owner of a relay tells it.
enum Word {
    Granted { user: String, password: Secret },
    Revoked { friend: String },
    Trusted { point: String, key: RelayKey },
    Distrusted { point: String },
}

/// A relay that runs. It ends with the last of these.
#[derive(Clone)]
pub struct Relay {
    listen: SocketAddr,
    by_tcp: bool,
    words: mpsc::UnboundedSender<Word>,
}

impl Relay {
    /// Starts it. `realm` is the meeting point's; `seed` chooses ports.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn start(config: RelayConfig, realm: String, seed: u64) -> io::Result<Self> {
        let (words, words_out) = mpsc::unbounded_channel();
        let (listen, by_tcp) = task::start(config, realm, seed, words_out)?;
        Ok(Self { listen, by_tcp, words })
    }

    /// Where it is reached.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// As friends are told it (RFC 7065): by UDP, and where there is no other way by TCP.
    pub fn uris(&self) -> Vec<String> {
        let by_tcp = self.by_tcp.then(|| format!("turn:{}?transport=tcp", self.listen));
        [format!("turn:{}", self.listen)].into_iter().chain(by_tcp).collect()
    }

    /// Takes a login, `EXPIRY:FRIEND` with the Unix seconds at which it ends.
    pub fn grant(&self, user: String, password: Secret) {
        self.say(Word::Granted { user, password });
    }

    /// A friend is none any more: nothing is relayed for him from now on.
    pub fn revoke(&self, friend: String) {
        self.say(Word::Revoked { friend });
    }

    /// Takes logins that a meeting point gives, `EXPIRY:FRIEND@POINT`, whose passwords are made with this key; no others of
    /// that meeting point any more.
    pub fn trust(&self, point: String, key: RelayKey) {
        self.say(Word::Trusted { point, key });
    }

    /// Nothing is relayed for a meeting point's friends any more.
    pub fn distrust(&self, point: String) {
        self.say(Word::Distrusted { point });
    }

    fn say(&self, word: Word) {
        if self.words.send(word).is_err() {
            log::error!("the relay has ended: restart voipd");
        }
    }
}
