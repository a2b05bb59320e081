//! Calls that must not notice what happens beside them.

use std::path::PathBuf;

use voipd_dbus::DialOptions;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::voipd::reading;
use voipd_tests::{Call, Config, Lab, SOON, Voipd, pause, until};

/// A daemon at an address of its own with an echo service, which [`Witness`] calls.
pub fn with_echo(lab: &Lab) -> Config {
    Config::at(lab.address())
        .line("rtp", "ports = \"16384-16784\"")
        .account("name = \"echo\"\nkind = \"echo\"\nallow-from = [\"127.0.0.0/8\"]")
}

/// A call of a daemon to its own echo service: one call out, one in, both with sound.
pub struct Witness {
    out: Call,
    received: u64,
}

impl Witness {
    pub async fn call(voipd: &Voipd) -> Self {
        let options = DialOptions {
            account: Some("direct".to_owned()),
            play: Some(reading(&speech(Speaker::Alice, 8000))),
            ..DialOptions::default()
        };
        let out = voipd.dial_with(&format!("sip:echo@{}", voipd.address), options).await;
        out.is("active").await;
        let mut witness = Self { out, received: 0 };
        witness.goes_on().await;
        witness
    }

    /// Panics unless the call is active and sound has arrived since the last time, without loss.
    pub async fn goes_on(&mut self) {
        assert_eq!(self.out.state().await, "active", "the call beside it");
        let before = self.received;
        let figures = until("sound of the call beside it arrives", SOON, async || {
            let figures = self.out.figures().await;
            (figures.packets_received > before + 3).then_some(figures)
        })
        .await;
        assert_eq!(figures.packets_lost, 0, "the call beside it lost sound: {figures:?}");
        self.received = figures.packets_received;
    }
}

/// Two daemons whose users talk: both speeches are judged when they are over.
pub struct Talk {
    pub alice: Voipd,
    pub bob: Voipd,
    pub call: Call,
    pub answered: Call,
    said: [PathBuf; 2],
    heard: [PathBuf; 2],
}

impl Talk {
    /// Begins to talk. The daemons take calls from each other alone.
    pub async fn begin(lab: &Lab) -> Self {
        let (at_alice, at_bob) = (lab.address(), lab.address());
        let allow = format!("allow-from = [\"{at_alice}\", \"{at_bob}\"]");
        let config =
            |address| Config::at(address).line("direct", &allow).line("direct", "codecs = [\"PCMU\"]");
        let alice = Voipd::start(lab, "alice", config(at_alice)).await;
        let bob = Voipd::start(lab, "bob", config(at_bob)).await;
        let said = [speech(Speaker::Alice, 8000), speech(Speaker::Bob, 8000)];
        let heard = [lab.path("at-alice.wav"), lab.path("at-bob.wav")];
        let call = alice.dial_speaking(&format!("sip:{}", bob.address), &said[0], &heard[0]).await;
        let answered = bob.incoming().await;
        answered.accept_speaking(&said[1], &heard[1]).await;
        call.is("active").await;
        answered.is("active").await;
        Self { alice, bob, call, answered, said, heard }
    }

    /// How long they talk, in seconds.
    pub fn seconds(&self) -> f64 {
        self.said.iter().map(|file| Sound::load(file).seconds()).fold(0.0, f64::max)
    }

    /// Lets them finish, hangs up, and panics unless each heard all that the other said.
    pub async fn ends_whole(self) {
        pause(0.7).await;
        for (call, at) in [(&self.call, "alice"), (&self.answered, "bob")] {
            assert_eq!(call.state().await, "active", "at {at}");
            let figures = call.figures().await;
            assert!(figures.packets_received > 150, "{at}: {figures:?}");
            assert_eq!((figures.packets_lost, figures.packets_discarded), (0, 0), "{at}: {figures:?}");
        }
        self.call.hang_up().await;
        assert_eq!(self.answered.ended().await.0, "remote");
        for (said, heard) in [(&self.said[0], &self.heard[1]), (&self.said[1], &self.heard[0])] {
            let verdict = compare(&Sound::load(said), &Sound::load(heard), Codec::Waveform);
            verdict.assert_heard(&format!("{}", heard.display()), 0.97);
        }
        self.alice.stop().await;
        self.bob.stop().await;
    }
}
