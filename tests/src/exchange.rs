//! Telephones at sites of the NAT laboratory, the servers that bring them together, and a conversation that is judged.

use crate::judge::{Codec, Sound, Verdict, compare};
use crate::kamailio::{Digest, Kamailio};
use crate::netlab::{Coturn, Internet, Kind, Site};
use crate::speech::{Speaker, speech, speech_after};
use crate::{Call, Config, Lab, SOON, Voipd, pause};

/// How long both are silent first, in seconds: the way for sound is still looked for when a call is answered.
const LEAD: f64 = 2.0;
/// What may be missing of a sentence, in milliseconds: the machine has other things to do, and sound may change its way.
const MISSING: usize = 160;
/// Least correlation of what was said and what was heard.
const CORRELATION: f64 = 0.8;

/// A registrar, and a server for STUN and TURN, on the public network.
#[derive(Debug)]
pub struct Exchange {
    /// The registrar and proxy.
    pub registrar: Kamailio,
    /// The relay, which says too what it sees (STUN).
    pub relay: Coturn,
}

/// A public network with an exchange, for a test that carries sound.
#[derive(Debug)]
pub struct Scene {
    /// The test's place.
    pub lab: Lab,
    /// The network.
    pub internet: Internet,
    /// Its servers.
    pub exchange: Exchange,
}

impl Scene {
    /// Waits until no other test runs, and sets all up.
    pub async fn set() -> Self {
        let lab = Lab::alone();
        let internet = Internet::new();
        let exchange = Exchange::start(&lab, &internet).await;
        Self { lab, internet, exchange }
    }
}

impl Exchange {
    /// Starts both on the servers' host.
    pub async fn start(lab: &Lab, internet: &Internet) -> Self {
        Self::start_with(lab, internet, Digest::Sha256).await
    }

    /// The same with another algorithm of the registrar's challenges.
    pub async fn start_with(lab: &Lab, internet: &Internet, digest: Digest) -> Self {
        let addresses = [Internet::SERVER, Internet::SECOND];
        Self {
            registrar: Kamailio::start_on(lab, digest, internet).await,
            relay: Coturn::start(lab, "coturn", internet.core(), &addresses).await,
        }
    }

    /// The lines of a user's account who is at a site of a kind.
    pub fn account(&self, user: &str, kind: Kind) -> String {
        let Coturn { address, .. } = self.relay;
        // Who can send no datagrams says so, as a person would.
        let transport = if kind.passes_datagrams() { "" } else { "\ntransport = \"tcp\"" };
        format!(
            "{}{transport}\nstun = [\"stun:{address}\"]\n\
             relays = [\"turn:{address}\", \"turn:{address}?transport=tcp\"]\n\
             relay-user = \"{user}\"\nrelay-password = \"{user}-secret\"",
            self.registrar.account(user)
        )
    }

    /// A telephone of a user at a site, which has registered.
    pub async fn phone(&self, lab: &Lab, user: &str, site: &Site) -> Voipd {
        phone(lab, user, site, self.account(user, site.kind)).await
    }
}

/// A telephone at a site, with the lines of an account that is named like the user, and which has registered.
pub async fn phone(lab: &Lab, user: &str, site: &Site, account: String) -> Voipd {
    let phone = Voipd::start(lab, user, Config::on(site.client(), site.address).account(account)).await;
    phone.account_is(user, "registered", SOON).await;
    phone
}

/// A call between two telephones, while both speak.
#[derive(Debug)]
pub struct Conversation {
    /// The caller's side.
    pub near: Call,
    /// The callee's side.
    pub far: Call,
    recordings: [std::path::PathBuf; 2],
}

impl Conversation {
    /// One telephone calls the user `callee`, at the other; both begin to speak after a moment.
    pub async fn begin(lab: &Lab, caller: &Voipd, callee: (&str, &Voipd)) -> Self {
        Self::begin_after(lab, caller, callee, LEAD).await
    }

    /// The same with another time in seconds before they speak.
    pub async fn begin_after(lab: &Lab, caller: &Voipd, callee: (&str, &Voipd), lead: f64) -> Self {
        let recordings = [lab.path("at-caller.wav"), lab.path("at-callee.wav")];
        let words = |speaker| speech_after(speaker, 8000, lead);
        let near = caller.dial_speaking(callee.0, &words(Speaker::Alice), &recordings[0]).await;
        let far = callee.1.incoming().await;
        far.accept_speaking(&words(Speaker::Bob), &recordings[1]).await;
        near.is("active").await;
        far.is("active").await;
        Self { near, far, recordings }
    }

    /// How the two ends of the way were found that the sound takes, the caller's and the callee's, once it is found: each
    /// as the other one sees it, which is where it sends to.
    pub async fn way(&self) -> [String; 2] {
        let [near, callee] = self.near.way().await;
        let [far, caller] = self.far.way().await;
        // Who sends by a relay of its own sees the other one's address behind it.
        let seen = |own: String, seen: String| if own == "relay" { own } else { seen };
        [seen(near, caller), seen(far, callee)]
    }

    /// Waits until both have said their sentence, and hangs up.
    pub async fn end(self) -> Judgement {
        self.end_after(LEAD).await
    }

    /// The same for a conversation of [`begin_after`](Self::begin_after).
    pub async fn end_after(self, lead: f64) -> Judgement {
        let said = [Speaker::Alice, Speaker::Bob].map(|speaker| Sound::load(&speech(speaker, 8000)));
        let longest = said.iter().map(Sound::seconds).fold(0.0, f64::max);
        pause(lead + longest + 1.0).await;
        self.near.hang_up().await;
        self.far.is("ended").await;
        let [at_caller, at_callee] = self.recordings.map(|file| Sound::load(&file));
        let verdict = |said: &_, heard: &_| compare(said, heard, Codec::Perceptual);
        Judgement { at_callee: verdict(&said[0], &at_callee), at_caller: verdict(&said[1], &at_caller) }
    }
}

/// What was heard of a conversation.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Alice's sentence.
    pub at_callee: Verdict,
    /// Bob's sentence.
    pub at_caller: Verdict,
}

impl Judgement {
    /// Panics unless both have heard each other.
    #[track_caller]
    pub fn assert_both_heard(&self, what: &str) {
        self.assert_heard_but_for(what, MISSING);
    }

    /// Panics unless both have heard all but so many milliseconds of each other.
    #[track_caller]
    pub fn assert_heard_but_for(&self, what: &str, missing_ms: usize) {
        for (who, verdict) in [("callee", &self.at_callee), ("caller", &self.at_caller)] {
            println!("{what}: at the {who}: {verdict}");
            let heard = verdict.missing_ms() <= missing_ms && verdict.correlation >= CORRELATION;
            assert!(heard, "{what}: the {who} has not heard what was said: {verdict}");
        }
    }
}
