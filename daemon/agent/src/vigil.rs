//! Watching over the way of a call's media: a peer that is not heard at all any more, neither by sound nor by RTCP nor by
//! answers to ICE's questions, is looked for elsewhere within seconds. A peer that merely says nothing goes on answering,
//! and is left in peace.

use std::time::{Duration, Instant};

use voipd_sip::endpoint::SessionId;

use crate::account::AccountId;
use crate::agent::Agent;
use crate::call::{Call, Media, Phase};
use crate::output::Weight;
use crate::view::CallId;

/// How often a stream that should bring sound is looked at, by a peer with ICE and by one without.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
pub(crate) const PLAIN_LOOK: Duration = Duration::from_millis(500);
/// How long nothing may come before a peer with ICE is asked whether it is there.
const DOUBT: Duration = Duration::from_millis(600);
/// The same for a peer that cannot be asked so: only whether we ourselves are elsewhere can be found out.
const PLAIN_DOUBT: Duration = Duration::from_millis(1200);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at what has come of them.
const TICK: Duration = Duration::from_millis(50);
/// The server of the account is asked as whom it sees us when the first question should have been answered.
const RENEW: Duration = Duration::from_millis(250);
/// How long its answer is waited for: the peer should be told an address that is right.
const SERVER: Duration = Duration::from_millis(300);
/// Without a sign that the fault is on our side, a way is looked for after so long by whoever controls, ...
const CONTROLLING: Duration = Duration::from_secs(2);
/// ... and after so long by the other one: two offers that meet cost more time than waiting.
const CONTROLLED: Duration = Duration::from_millis(3500);
/// What was done is given so long to be of use; doubles.
const EFFECT: Duration = Duration::from_secs(4);
/// How often something is done at most until the peer is heard again.
const MOST_TRIES: u8 = 4;
/// Between two times that peers are told another address because a server sees one: there are routers that translate anew
/// at each packet.
const MOVES_APART: Duration = Duration::from_secs(30);
/// A new connection with a server is first told by the server, which sees it come from another port of a NAT, and then by
/// the binding that is made on it.
const JUST_TOLD: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Vigil {
    /// When RTP or RTCP came last; `None` where there was none yet.
    heard: Option<Instant>,
    stage: Stage,
    tries: u8,
    next: Option<Instant>,
    /// When the peer was last told another address of ours.
    told_moved: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Calm,
    Doubting {
        since: Instant,
        asked: Instant,
        /// When the account's server was asked.
        renewed: Option<Instant>,
        /// It sees us elsewhere than before.
        moved: bool,
    },
    /// Another way is looked for.
    Acted { at: Instant },
}

impl Vigil {
    /// Something of the peer's media has come.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Nothing is to be expected now, or something else looks after the way.
    fn rest(&mut self, now: Instant) {
        self.heard = self.heard.map(|_| now);
        (self.stage, self.next) = (Stage::Calm, None);
    }
}

/// What is to be done now.
enum Step {
    Nothing,
    /// The peer is asked, and servers are: the first time of this doubt.
    Doubt,
    Ask,
    Renew,
    Act,
}

impl Agent {
    /// Looks whether a call's peer is still heard.
    pub(crate) fn keep_vigil(&mut self, now: Instant, id: CallId) {
        for _ in 0..4 {
            let registered = self.is_registered_for(id);
            let Some(call) = self.calls.get_mut(&id) else { return };
            match call.next_step(now, registered) {
                Step::Nothing => return,
                Step::Doubt => {
                    if let Some(ice) = &mut call.ice {
                        ice.look_around(now);
                    }
                    self.ask_peer(now, id);
                }
                Step::Ask => self.ask_peer(now, id),
                Step::Renew => self.renew_registration(now, id),
                Step::Act => return self.look_elsewhere(now, id),
            }
        }
    }

    fn ask_peer(&mut self, now: Instant, id: CallId) {
        if let Some(ice) = self.calls.get_mut(&id).and_then(|call| call.ice.as_mut()) {
            ice.agent_mut().ask_now(now);
            self.drain_ice(now, id);
        }
    }

    fn is_registered_for(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| self.registered_on(call.account).is_some())
    }

    /// Makes the binding of the call's account anew: a router that has given us another address has lost the old way to us,
    /// and the answer tells as whom we are seen now.
    fn renew_registration(&mut self, now: Instant, id: CallId) {
        let account = self.calls.get(&id).map(|call| call.account);
        let identity =
            account.and_then(|account| self.accounts.get(account)).and_then(|known| known.identity);
        if let Some(identity) = identity {
            // An account that is being switched off needs no binding.
            let _ = self.endpoint.register(now, identity);
            self.drain_endpoint();
        }
    }

    fn look_elsewhere(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.whereabouts.due();
        let has_ice = call.uses_ice();
        let text = "nothing is heard of the peer any more: looking for another way for the media";
        self.note(Weight::Info, Some(id), text.to_owned());
        if has_ice {
            self.restart_ice(now, id, None);
        } else {
            self.tell_news(now, id);
        }
    }

    /// Servers reach us by another connection than before: whoever talks with us must hear of it, if it was not just told.
    pub(crate) fn reconnected(&mut self, now: Instant, session: SessionId) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.phase == Phase::Active) else { return };
        if call.vigil.told_moved.is_some_and(|at| now < at + JUST_TOLD) {
            return;
        }
        call.vigil.told_moved = Some(now);
        call.whereabouts.due();
        let text = "the connection with the server was lost: the peer is told of the new one";
        self.note(Weight::Info, Some(id), text.to_owned());
        self.tell_news(now, id);
    }

    /// A server of an account sees us elsewhere than before: whoever talks with us must hear of it.
    pub(crate) fn seen_elsewhere(&mut self, now: Instant, account: AccountId) {
        let of_account = self.calls.values_mut().filter(|call| call.account == account);
        let mut concerned = Vec::new();
        for call in of_account.filter(|call| call.phase == Phase::Active) {
            if let Stage::Doubting { moved, .. } = &mut call.vigil.stage {
                *moved = true;
            } else if call.vigil.told_moved.is_some_and(|at| now < at + MOVES_APART) {
                continue;
            } else {
                call.whereabouts.due();
            }
            call.vigil.told_moved = Some(now);
            concerned.push(call.id);
        }
        for id in concerned {
            self.keep_vigil(now, id);
            self.tell_news(now, id);
        }
    }
}

impl Call {
    /// Sound of the peer's is to be expected.
    pub(crate) fn expects_sound(&self) -> bool {
        let plays = matches!(&self.media, Media::Streaming(stream) if stream.plan.play);
        plays && self.phase == Phase::Active && !self.local_hold && !self.remote_hold()
    }

    fn next_step(&mut self, now: Instant, registered: bool) -> Step {
        let expects = self.expects_sound() && !self.whereabouts.is_stranded();
        let uses_ice = self.uses_ice();
        let ice = self.ice.as_deref().filter(|_| uses_ice);
        let vigil = &mut self.vigil;
        let Some(heard) = vigil.heard.filter(|_| expects && ice.is_none_or(|ice| ice.is_settled())) else {
            vigil.rest(now);
            return Step::Nothing;
        };
        let heard = ice.and_then(|ice| ice.heard_at()).map_or(heard, |signed| heard.max(signed));
        let doubt = if ice.is_some() { DOUBT } else { PLAIN_DOUBT };
        match &mut vigil.stage {
            Stage::Calm => {
                if now < heard + doubt {
                    (vigil.tries, vigil.next) = (0, Some(heard + doubt));
                    return Step::Nothing;
                }
                if vigil.tries >= MOST_TRIES {
                    vigil.next = None;
                    return Step::Nothing;
                }
                vigil.stage = Stage::Doubting { since: now, asked: now, renewed: None, moved: false };
                vigil.next = Some(now + TICK);
                Step::Doubt
            }
            Stage::Doubting { since, .. } if *since < heard => {
                vigil.stage = Stage::Calm;
                self.next_step(now, registered)
            }
            Stage::Doubting { since, asked, renewed, moved } => {
                let at_fault = *moved || ice.is_some_and(|ice| ice.is_at_fault(now));
                if registered && renewed.is_none() && (at_fault || *since + RENEW <= now) {
                    *renewed = Some(now);
                    return Step::Renew;
                }
                let told = *moved || renewed.map_or(!registered, |at| at + SERVER <= now);
                let patient = ice.is_none_or(|ice| {
                    now < heard + if ice.is_controlling() { CONTROLLING } else { CONTROLLED }
                });
                if (at_fault && told) || !patient {
                    vigil.stage = Stage::Acted { at: now };
                    vigil.tries += 1;
                    vigil.next = Some(now + EFFECT * u32::from(vigil.tries));
                    return Step::Act;
                }
                if ice.is_none() && renewed.map_or(!registered, |at| at + EFFECT <= now) {
                    // Nothing shows that it is our side: signalling asks the peer in time.
                    vigil.stage = Stage::Acted { at: now };
                    vigil.tries = MOST_TRIES;
                    vigil.next = None;
                    return Step::Nothing;
                }
                vigil.next = Some(now + TICK);
                if *asked + AGAIN <= now {
                    *asked = now;
                    return Step::Ask;
                }
                Step::Nothing
            }
            Stage::Acted { at } => {
                let until = *at + EFFECT * u32::from(vigil.tries);
                let again = until <= now && vigil.tries < MOST_TRIES;
                if *at < heard || again {
                    vigil.stage = Stage::Calm;
                    return self.next_step(now, registered);
                }
                vigil.next = Some(until).filter(|until| now < *until);
                Step::Nothing
            }
        }
    }
}
