//! `voipctl call`: places a call, stays with it while it lasts, and sums it up.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;
use voipd_dbus::{CallState, DialOptions, Dict, Error, Figures, ResumeOptions, names};

use crate::audio::{Joined, LAST_WORDS, Over};
use crate::call::{media_path, open_files, state_words};
use crate::cli::{DialArgs, JoinArgs, Mode, seconds};
use crate::daemon::Daemon;
use crate::events::{Event, Events};
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::keys::{HELP, Key, Keys};
use crate::objects::Object;
use crate::output::{Output, dict_to_json};
use crate::stats::{opinions, quality_words, short_opinions};
use crate::text::{clock, cut, meter};

/// How often the live line gets new figures.
const REFRESH_MS: u32 = 500;
/// How long a call may take to end once it was asked to.
const FAREWELL: Duration = Duration::from_secs(10);

pub(crate) async fn run(daemon: &Daemon, out: Output, args: DialArgs) -> Result<(), Failure> {
    if args.audio.is_none() && !args.join.is_empty() {
        return Err(Failure::usage("--format, --rate, --listen, --wav and --stay need --audio -."));
    }
    if args.audio.is_some() && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard input and output are a terminal: take the sound from a file or a program, or send it to one.",
        ));
    }
    let out = if args.audio.is_some() { out.aside() } else { out };
    let hangup_after = args.hangup_after.map(|value| seconds(value, "--hangup-after")).transpose()?;
    let files = open_files(&args.sound)?;
    let options = DialOptions {
        account: args.account.clone(),
        play: files.play.map(Into::into),
        record: files.record.map(Into::into),
        record_format: files.record_format,
        programs: args.audio.is_some().then_some(true),
        mix: args.sound.mix.then_some(true),
        conference: args.sound.conference()?,
        codecs: args.codecs.clone(),
        anonymous: args.anonymous.then_some(true),
        follow: args.follow.then_some(true),
    };
    // Asked for first: what happens right after Dial is not missed, and an interrupt hangs up from the start.
    let events = daemon.events().await?;
    let interrupts =
        Interrupts::take(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])?;
    let path = daemon.manager().await?.dial(&args.target, &options).await.map_err(|error| match error {
        // The account blocks the number, or never follows redirections.
        Error::NotPermitted(sentence) => Failure::new(Exit::Policy, sentence),
        error => Failure::from(error),
    })?;
    // The daemon has its own copies of the files now.
    drop(options);
    let path = path.as_str().to_owned();
    if args.detach {
        return match out.json {
            true => out.document(&json!({"path": path, "number": names::call_number(&path)})),
            false => out.line(&path),
        };
    }
    let progress = match (args.wait || out.json, out.is_terminal()) {
        (true, _) => Progress::None,
        (false, true) => Progress::Line,
        (false, false) => Progress::States,
    };
    let sound = match &args.audio {
        Some(_) => Some(join(daemon, &path, &args.join).await?),
        None => None,
    };
    let mut follower = Follower {
        daemon,
        sound,
        stay: args.join.stay,
        out,
        events,
        interrupts,
        progress,
        keys: None,
        call: Object { path: path.clone(), ..Object::default() },
        states: Vec::new(),
        way: String::new(),
        figures: Dict::new(),
        note: String::new(),
        answered: None,
        hangup_after,
        leave_at: None,
    };
    let mut followed = follower.follow().await;
    if let Some(sound) = follower.sound.take() {
        let all = if followed.is_ok() { sound.finish().await } else { sound.leave().await };
        followed = followed.and(all);
    }
    // Gives the terminal back before anything else is printed.
    follower.keys = None;
    if let Err(failure) = followed {
        if failure.exit != Exit::NoDaemon {
            // Nobody is left to hang up. What fails now has failed for the reason that is told already.
            if let Ok(call) = daemon.call(&path).await {
                let _ = call.hangup().await;
            }
        }
        return Err(failure);
    }
    follower.finish().await
}

/// Joins the call to standard input and output.
async fn join(daemon: &Daemon, path: &str, args: &JoinArgs) -> Result<Joined, Failure> {
    let speaks = (!std::io::stdin().is_terminal()).then_some(Mode::Replace);
    let listens = !std::io::stdout().is_terminal();
    let call = daemon.call(path).await?;
    let joined = Joined::open(&call, args, speaks, listens).await;
    if joined.is_err() {
        // It shall not go on without sound.
        let _ = call.hangup().await;
    }
    joined
}

/// What is shown while the call lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    None,
    /// A line for each state.
    States,
    /// One line that is drawn anew.
    Line,
}

/// Stays with a call until it has ended.
struct Follower<'d> {
    daemon: &'d Daemon,
    /// The call at standard input and output.
    sound: Option<Joined>,
    /// The call does not end with the input.
    stay: bool,
    out: Output,
    events: Events,
    interrupts: Interrupts,
    progress: Progress,
    keys: Option<Keys>,
    call: Object,
    states: Vec<String>,
    /// The kind of way that media took last.
    way: String,
    figures: Dict,
    /// What the last key came to, when it failed.
    note: String,
    answered: Option<Instant>,
    hangup_after: Option<Duration>,
    /// When to stop waiting for the end that was asked for.
    leave_at: Option<Instant>,
}

impl Follower<'_> {
    async fn follow(&mut self) -> Result<(), Failure> {
        if self.progress == Progress::Line {
            self.keys = Keys::take();
            if self.keys.is_some() {
                self.out.line(HELP)?;
            }
            // Without figures the line shows the rest.
            let _ = self.daemon.statistics(&self.call.path).await?.watch(REFRESH_MS).await;
        }
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while self.call.call_state() != Some(CallState::Ended) {
            let hangup_at =
                self.answered.zip(self.hangup_after).and_then(|(since, after)| since.checked_add(after));
            tokio::select! {
                event = self.events.next() => self.take(event)?,
                key = Keys::next(&mut self.keys) => self.press(key).await?,
                () = self.interrupts.next() => self.hang_up().await?,
                over = next_over(&mut self.sound) => match over {
                    Over::Input(end) => {
                        end?;
                        if !self.stay && self.leave_at.is_none() {
                            tokio::time::sleep(LAST_WORDS).await;
                            self.hang_up().await?;
                        }
                    }
                    Over::Output(end) => end?,
                },
                () = at(hangup_at.filter(|_| self.leave_at.is_none())) => self.hang_up().await?,
                () = at(self.leave_at) => return Err(not_ended(&self.call)),
                _ = second.tick(), if self.progress == Progress::Line => {}
            }
            self.draw()?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Gone => return Err(Failure::gone()),
            Event::Added { path, mut interfaces } if path == self.call.path => {
                if let Some(properties) = interfaces.remove(names::CALL) {
                    self.call.properties = properties;
                }
                self.enter(self.call.text("State").to_owned())?;
            }
            Event::Changed { path, interface, properties }
                if path == self.call.path && interface == names::CALL =>
            {
                self.call.properties.extend(properties);
                // With the end of the call its way is gone.
                let way = media_path(&self.call);
                if !way.is_empty() {
                    self.way = way;
                }
                self.enter(self.call.text("State").to_owned())?;
            }
            Event::StateChanged { path, new, .. } if path == self.call.path => self.enter(new)?,
            Event::Removed { path } if path == self.call.path => self.enter(CallState::Ended.to_string())?,
            Event::Statistics { path, figures } if path == self.call.path => self.figures = figures,
            Event::Quality { path, direction, quality, mos, cause } if path == self.call.path => {
                self.note = quality_words(&direction, &quality, mos, &cause);
            }
            Event::Digit { path, digit, .. } if path == self.call.path => {
                self.note = format!("the peer sent {digit}");
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes a state that the call is in now.
    fn enter(&mut self, state: String) -> Result<(), Failure> {
        if state.is_empty() || self.states.last() == Some(&state) {
            return Ok(());
        }
        if let Ok(value) = zbus::Variant::from(state.as_str()).try_into() {
            self.call.properties.insert("State".into(), value);
        }
        if matches!(CallState::from_word(&state), Some(CallState::Active | CallState::Held))
            && self.answered.is_none()
        {
            self.answered = Some(Instant::now());
        }
        self.states.push(state);
        if self.progress == Progress::States {
            self.out.line(&format!("call {}: {}", self.call.id(), state_words(&self.call)))?;
        }
        Ok(())
    }

    async fn press(&mut self, key: Key) -> Result<(), Failure> {
        let call = self.daemon.call(&self.call.path).await?;
        self.note.clear();
        let done = match key {
            Key::Quit => return self.hang_up().await,
            Key::Digit(digit) => call.send_dtmf(digit.encode_utf8(&mut [0; 4])).await,
            Key::Mute => call.set_muted(!self.call.flag("Muted")).await.map_err(voipd_dbus::Error::from),
            Key::Hold if self.call.flag("LocalHold") => call.resume(&ResumeOptions::default()).await,
            Key::Hold => call.hold().await,
        };
        if let Err(error) = done {
            self.note = error.to_string();
        }
        Ok(())
    }

    /// Asks for the end of the call; a second time, leaves it.
    async fn hang_up(&mut self) -> Result<(), Failure> {
        if self.leave_at.is_some() {
            return Err(not_ended(&self.call));
        }
        self.leave_at = Some(Instant::now() + FAREWELL);
        match self.daemon.call(&self.call.path).await?.hangup().await {
            // It ended by itself in between, and the event is on its way.
            Err(error) if error.is_gone() || matches!(error, voipd_dbus::Error::InvalidState(_)) => Ok(()),
            done => Ok(done?),
        }
    }

    fn draw(&self) -> Result<(), Failure> {
        if self.progress != Progress::Line {
            return Ok(());
        }
        let line = live_line(&self.call, &Figures::from_dict(&self.figures), &self.note);
        // The last column stays free: some terminals wrap there.
        self.out.redraw(&cut(&line, self.out.width() - 1))
    }

    /// Sums the call up and tells scripts how it ended.
    async fn finish(mut self) -> Result<(), Failure> {
        // The object of a call stays for a while after its end; when it is gone, what is known must do.
        if let Ok(properties) = self.daemon.properties(&self.call.path, names::CALL).await {
            self.call.properties = properties;
        }
        if let Ok(figures) = self.daemon.statistics(&self.call.path).await?.get().await {
            self.figures = figures;
        }
        let exit = Exit::of_call(self.call.text("EndReason"), self.call.number("AnsweredAt") != 0);
        if self.progress == Progress::Line {
            self.out.redraw("")?;
        }
        match self.out.json {
            true => self.out.document(&report(&self.call, &self.states, &self.figures, exit))?,
            false => {
                let figures = Figures::from_dict(&self.figures);
                self.out.lines(&summary(&self.call, &self.states, &self.way, &figures))?
            }
        }
        match exit {
            Exit::Ok => Ok(()),
            exit => Err(Failure::silent(exit)),
        }
    }
}

async fn next_over(sound: &mut Option<Joined>) -> Over {
    match sound {
        Some(sound) => sound.next().await,
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn not_ended(call: &Object) -> Failure {
    Failure::failed(format!(
        "call {} was asked to end and has not ended yet. 'voipctl calls' shows it.",
        call.id()
    ))
}

/// State, time, codec, loss and levels in one line.
fn live_line(call: &Object, figures: &Figures, note: &str) -> String {
    let mut parts = vec![match state_words(call) {
        words if words.is_empty() => "…".to_owned(),
        words => words,
    }];
    if call.number("AnsweredAt") != 0 {
        parts.push(clock(call.talk_time()));
    }
    if !call.text("Codec").is_empty() {
        parts.push(call.text("Codec").to_owned());
        parts.push(format!("loss {:.1} %", figures.loss_percent));
        parts.extend(short_opinions(figures));
        parts.push(format!("in {}", meter(figures.level_in)));
        parts.push(format!("out {}", meter(figures.level_out)));
    }
    if !note.is_empty() {
        parts.push(note.to_owned());
    }
    parts.join("  ")
}

/// The call in two or three lines.
fn summary(call: &Object, states: &[String], media_way: &str, figures: &Figures) -> Vec<String> {
    let answered = call.number("AnsweredAt") != 0;
    let time = if answered { format!(" after {}", clock(call.talk_time())) } else { String::new() };
    let ended = end_words(call.text("EndReason"), call.number("SipStatus"), answered);
    let mut lines = vec![format!("Call {} with {}: {ended}{time}", call.id(), call.peer())];
    let mut way = states.join(", ");
    if !call.text("Codec").is_empty() {
        way = format!("{way}; {}", call.text("Codec"));
        if !media_way.is_empty() {
            way = format!("{way}, {media_way} path");
        }
    }
    lines.push(format!("  {way}"));
    lines.extend(identity_line(call));
    if !call.list("RedirectContacts").is_empty() {
        let contacts = call.list("RedirectContacts");
        lines.push(format!("  redirected to {contacts}; 'voipctl call --follow' goes there"));
    }
    if figures.packets_sent + figures.packets_received > 0 {
        lines.push(format!("  {}", figures_words(figures)));
    }
    lines
}

/// What the account's own server says of the peer, where it is not what the peer says itself.
fn identity_line(call: &Object) -> Option<String> {
    let asserted = call.asserted().filter(|_| call.text("AssertedIdentity") != call.text("Peer"))?;
    Some(format!("  the server says: {asserted}"))
}

/// The figures that matter, in a line.
fn figures_words(figures: &Figures) -> String {
    let frames = figures.frames_played + figures.frames_concealed;
    let round_trip = match figures.round_trip_ms {
        unknown if unknown < 0.0 => "unknown".to_owned(),
        known => format!("{known:.1} ms"),
    };
    let opinions = opinions(figures).map(|words| format!(", {words}")).unwrap_or_default();
    format!(
        "{} packets sent, {} received, {} lost ({:.1} %), {} of {frames} frames concealed, jitter {:.1} ms, round trip {round_trip}{opinions}",
        figures.packets_sent,
        figures.packets_received,
        figures.packets_lost,
        figures.loss_percent,
        figures.frames_concealed,
        figures.jitter_ms,
    )
}

/// Why a call ended, for people.
pub(crate) fn end_words(reason: &str, sip_status: u64, answered: bool) -> String {
    use voipd_dbus::Reason;
    let words = match Reason::from_word(reason) {
        Some(Reason::Local) => "hung up here",
        Some(Reason::Remote) if answered => "the peer hung up",
        Some(Reason::Remote) => "the peer ended it",
        Some(Reason::Busy) => "the peer is busy",
        Some(Reason::Declined) => "the peer declined",
        Some(Reason::NoAnswer) => "nobody answered",
        Some(Reason::Cancelled) => "the caller gave up",
        Some(Reason::Unreachable) => "the peer cannot be reached",
        Some(Reason::CertificateExpired) => "the server's certificate has expired",
        Some(Reason::CertificateNotYetValid) => {
            "the server's certificate is not valid yet: check this machine's clock"
        }
        Some(Reason::CertificateWrongName) => "the server's certificate is for another name",
        Some(Reason::CertificateUnknownIssuer) => "the server's certificate is signed by nobody known here",
        Some(Reason::CertificateNotPinned) => "the server's certificate is not the pinned one",
        Some(Reason::CertificateUnfit) => "the server's certificate is not fit for this use",
        Some(Reason::ClientCertificate) => {
            "the server does not accept this account's client certificate, or asks for one"
        }
        Some(Reason::TlsFailed) => "no TLS connection comes about",
        Some(Reason::Unresolvable) => "the host name was not found",
        Some(Reason::Network) => "the peer fell silent",
        Some(Reason::NoCommonCodec) => "no codec fits both sides",
        Some(Reason::EncryptionRequired) => "the peer wants encrypted media",
        Some(Reason::NotFound) => "the server does not know the peer",
        Some(Reason::Credentials) => "user name or password was refused",
        Some(Reason::Policy) => "voipd's settings forbid it",
        Some(Reason::Protocol) => "the peer broke the protocol",
        Some(Reason::Rejected) => "refused",
        Some(Reason::AnsweredElsewhere) => "answered elsewhere",
        Some(Reason::Redirected) => "the peer is somewhere else",
        None => return if reason.is_empty() { "ended".into() } else { format!("ended: {reason}") },
    };
    // 2xx says nothing about an end.
    if sip_status >= 300 { format!("{words} ({sip_status})") } else { words.to_owned() }
}

/// The call for programs.
fn report(call: &Object, states: &[String], figures: &Dict, exit: Exit) -> Value {
    let mut value = call.to_json();
    if let Some(object) = value.as_object_mut() {
        object.insert("states".into(), json!(states));
        object.insert("duration_seconds".into(), json!(call.talk_time().as_secs_f64()));
        object.insert("statistics".into(), dict_to_json(figures).into());
        object.insert("exit_code".into(), json!(exit.code()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    fn talk() -> Object {
        let mut talk = call(
            3,
            &[("State", "ended"), ("EndReason", "remote"), ("Codec", "opus"), ("Peer", "sip:b@example.org")],
            &[],
        );
        for (key, value) in [("AnsweredAt", 1_000_000_000u64), ("EndedAt", 1_012_400_000)] {
            talk.properties.insert(key.into(), value.into());
        }
        talk
    }

    fn states() -> Vec<String> {
        ["dialing", "ringing", "active", "ended"].map(str::to_owned).into()
    }

    #[test]
    fn the_summary_tells_the_call() {
        let figures = Figures {
            packets_sent: 620,
            packets_received: 618,
            packets_lost: 2,
            loss_percent: 0.32,
            frames_played: 618,
            frames_concealed: 2,
            jitter_ms: 1.25,
            round_trip_ms: 0.5,
            mos_conversation_in: 4.4,
            mos_conversation_out: 3.9,
            ..Figures::default()
        };
        assert_eq!(
            summary(&talk(), &states(), "relayed", &figures),
            [
                "Call 3 with sip:b@example.org: the peer hung up after 0:12",
                "  dialing, ringing, active, ended; opus, relayed path",
                "  620 packets sent, 618 received, 2 lost (0.3 %), 2 of 620 frames concealed, jitter 1.2 ms, round trip 0.5 ms, MOS 4.4 here, 3.9 at the peer",
            ]
        );
        let unknown = Figures { packets_sent: 1, round_trip_ms: -1.0, ..Figures::default() };
        assert!(summary(&talk(), &states(), "", &unknown)[2].ends_with("round trip unknown"));
    }

    #[test]
    fn a_call_without_an_answer_has_neither_time_nor_figures() {
        let mut refused =
            call(4, &[("State", "ended"), ("EndReason", "busy"), ("Peer", "sip:b@example.org")], &[]);
        refused.properties.insert("SipStatus".into(), 486u16.into());
        let states = ["dialing", "ended"].map(str::to_owned);
        assert_eq!(
            summary(&refused, &states, "", &Figures::default()),
            ["Call 4 with sip:b@example.org: the peer is busy (486)", "  dialing, ended"]
        );
    }

    #[test]
    fn the_live_line_shows_what_is_known() {
        assert_eq!(live_line(&Object::default(), &Figures::default(), ""), "…");
        let ringing = call(3, &[("State", "ringing")], &[]);
        assert_eq!(live_line(&ringing, &Figures::default(), ""), "ringing");
        let mut active = talk();
        active.properties.insert("State".into(), zbus::Variant::from("active").try_into().unwrap());
        active.properties.insert("Muted".into(), true.into());
        let figures = Figures {
            loss_percent: 1.0,
            mos_conversation_in: 4.1,
            level_in: -30.0,
            level_out: -127.0,
            ..Figures::default()
        };
        assert_eq!(
            live_line(&active, &figures, "the peer sent 5"),
            "active, muted  0:12  opus  loss 1.0 %  MOS 4.1/-  in ###...  -30  out ...... -127  the peer sent 5"
        );
    }

    #[test]
    fn each_reason_has_words_of_its_own() {
        let mut words: Vec<_> =
            voipd_dbus::Reason::ALL.iter().map(|reason| end_words(reason.as_str(), 0, true)).collect();
        let all = words.len();
        words.sort();
        words.dedup();
        assert_eq!(words.len(), all);
        assert_eq!(end_words("a-word-of-tomorrow", 200, true), "ended: a-word-of-tomorrow");
    }

    #[test]
    fn the_report_has_states_figures_and_exit_code() {
        let figures = Figures { packets_sent: 620, ..Figures::default() }.to_dict();
        let report = report(&talk(), &states(), &figures, Exit::Ok);
        assert_eq!(report["duration_seconds"], json!(12.4));
        assert_eq!(report["states"][3], json!("ended"));
        assert_eq!(report["statistics"]["packets_sent"], json!(620));
        assert_eq!((&report["exit_code"], &report["end_reason"]), (&json!(0), &json!("remote")));
    }
}
