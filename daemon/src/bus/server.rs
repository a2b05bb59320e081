//! The one task on the bus: takes calls, and writes answers, changes and signals in the order in which they happened.

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use voipd_agent::view::CallState;
use voipd_agent::{CallView, ConferenceView};
use voipd_audio::plan::Heard;
use voipd_dbus::names;
use zbus::message::{Flags, Type};
use zbus::names::OwnedUniqueName;
use zbus::{Connection, DBusError, Message, MessageStream};

use super::activity::TimedOut;
use super::dispatch::{Call, dispatch};
use super::outcome::{Answer, Dict, Failure, Outcome, Reply, Requests, busy};
use super::tree::{Account, Conference, Interface, Object, Tree};
use super::watch::Watches;
use super::{BusError, account, activity, audio, statistics};
use crate::api::nat::NatView;
use crate::api::{AudioView, FriendsView, Request, Update};

/// Level of what has not been measured.
const SILENCE_DBOV: i8 = -127;
/// Most calls that wait for the driver's answer.
const MOST_UNANSWERED: usize = 256;

/// What the driver's answer is for.
enum Answered {
    Call(Message, Answer),
    Watchers(Object, Vec<OwnedUniqueName>, Answer),
}

pub(super) struct Server {
    connection: Connection,
    calls: MessageStream,
    tree: Tree,
    requests: Requests,
    updates: mpsc::UnboundedReceiver<Update>,
    unanswered: FuturesUnordered<BoxFuture<'static, Answered>>,
    watches: Watches,
    departures: mpsc::UnboundedReceiver<OwnedUniqueName>,
}

impl Server {
    pub(super) fn new(
        connection: Connection,
        calls: MessageStream,
        tree: Tree,
        requests: mpsc::Sender<Request>,
        updates: mpsc::UnboundedReceiver<Update>,
    ) -> Self {
        let (watches, departures) = Watches::new(connection.clone());
        let (requests, unanswered) = (Requests(requests), FuturesUnordered::new());
        Self { connection, calls, tree, requests, updates, unanswered, watches, departures }
    }

    /// Serves until nobody has updates to tell any more.
    pub(super) async fn run(mut self) -> Result<(), BusError> {
        loop {
            self.review_speakers().await?;
            self.watches
                .listeners()
                .review(|call, on| self.requests.0.try_send(Request::WatchActivity { call, on }).is_ok());
            let speaker = self.watches.listeners().speaker();
            if speaker != self.tree.speaker {
                let before = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.speaker = speaker;
                self.changed(Object::Root, Interface::Manager, before).await?;
            }
            let due = self.watches.next_due();
            let silent = self.watches.listeners().next_due();
            let speaker = self.watches.next_speaker_due();
            // Updates first: a call that is taken now sees all that has happened.
            tokio::select! {
                biased;
                update = self.updates.recv() => match update {
                    Some(update) => self.update(update).await?,
                    None => break,
                },
                Some(answered) = self.unanswered.next() => self.answered(answered).await?,
                Some(who) = self.departures.recv() => self.watches.left(&who),
                () = sleep_until(due) => self.ask_for_watchers().await?,
                () = sleep_until(silent) => self.tell_silences().await?,
                // Who it is shows when the loop begins again.
                () = sleep_until(speaker) => {}
                message = self.calls.next() => match message {
                    Some(Ok(message)) => self.message(message).await?,
                    Some(Err(error)) => log::debug!("a message that cannot be read: {error}"),
                    None => return Err(BusError::Lost),
                },
            }
        }
        // Whoever still waits is told that there will be no answer.
        self.send_ready_answers().await
    }

    async fn message(&mut self, message: Message) -> Result<(), BusError> {
        if message.message_type() != Type::MethodCall {
            return Ok(());
        }
        // Before anything is asked of the driver: what is refused must not happen.
        if self.unanswered.len() >= MOST_UNANSWERED {
            return self.reply(&message, Err(busy())).await;
        }
        let answer = match self.outcome(&message) {
            Ok(Outcome::Later(answer)) => {
                self.unanswered.push(answer.map(move |answer| Answered::Call(message, answer)).boxed());
                return Ok(());
            }
            Ok(Outcome::Now(reply)) => Ok(reply),
            Ok(Outcome::Watch(interval)) => self.watcher(&message).and_then(|(object, who)| {
                self.watches.watch(object, who, interval)?;
                Ok(Reply::Nothing)
            }),
            Ok(Outcome::Unwatch) => self.watcher(&message).map(|(object, who)| {
                self.watches.unwatch(object, &who);
                Reply::Nothing
            }),
            Ok(Outcome::WatchActivity(silence)) => {
                let begun = self.watcher(&message).and_then(|(object, who)| {
                    let Object::Call(call) = object else { return Ok(None) };
                    let talking = self.watches.listen(call, who.clone(), silence)?;
                    let active =
                        self.tree.calls.get(&call).is_some_and(|view| view.state == CallState::Active);
                    self.watches.listeners().count_silence(call, active, Instant::now());
                    Ok(Some((object, who, talking)))
                });
                match begun {
                    Ok(begun) => {
                        self.reply(&message, Ok(Reply::Nothing)).await?;
                        for (object, who, heard) in begun.into_iter().flat_map(|(object, who, talking)| {
                            talking.into_iter().map(move |heard| (object, who.clone(), heard))
                        }) {
                            self.tell_activity(object, &who, heard, true, f64::from(SILENCE_DBOV)).await?;
                        }
                        return Ok(());
                    }
                    Err(failure) => Err(failure),
                }
            }
            Ok(Outcome::UnwatchActivity) => self.watcher(&message).map(|(object, who)| {
                if let Object::Call(call) = object {
                    self.watches.stop_listening(call, &who);
                }
                Reply::Nothing
            }),
            Ok(Outcome::WatchSpeaker) => self.watcher(&message).and_then(|(object, who)| {
                if let Object::Conference(conference) = object {
                    self.watches.watch_speaker(conference, who)?;
                }
                Ok(Reply::Nothing)
            }),
            Ok(Outcome::UnwatchSpeaker) => self.watcher(&message).map(|(object, who)| {
                if let Object::Conference(conference) = object {
                    self.watches.unwatch_speaker(conference, &who);
                }
                Reply::Nothing
            }),
            Err(failure) => Err(failure),
        };
        self.reply(&message, answer).await
    }

    fn outcome(&self, message: &Message) -> Result<Outcome, Failure> {
        let header = message.header();
        let body = message.body();
        // A method call always has a path and a member; the interface may be absent, and then none is meant.
        let call = Call {
            path: header.path().map_or("/", |path| path.as_str()),
            interface: header.interface().map_or("", |interface| interface.as_str()),
            member: header.member().map_or("", |member| member.as_str()),
            body: &body,
        };
        dispatch(&self.tree, &self.requests, &call)
    }

    /// Who calls, and which object.
    fn watcher(&self, message: &Message) -> Result<(Object, OwnedUniqueName), Failure> {
        let header = message.header();
        let object = header.path().and_then(|path| Object::at(path.as_str()));
        let who = header.sender().map(|sender| sender.to_owned().into());
        object.zip(who).ok_or_else(|| {
            Box::new(zbus::fdo::Error::Failed("watching needs a bus, which names its clients".to_owned()))
                as Failure
        })
    }

    async fn reply(&mut self, call: &Message, answer: Answer) -> Result<(), BusError> {
        let header = call.header();
        if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
            return Ok(());
        }
        let reply = match answer {
            Ok(reply) => reply.message(&header),
            Err(failure) => failure.create_reply(&header),
        };
        self.send(reply).await
    }

    async fn answered(&mut self, answered: Answered) -> Result<(), BusError> {
        match answered {
            Answered::Call(call, answer) => self.reply(&call, answer).await,
            Answered::Watchers(object, watchers, answer) => {
                let watchers = self.watches.answered(object, watchers);
                let Ok(Reply::Dict(figures)) = answer else { return Ok(()) };
                let (interface, member) = match object {
                    Object::Audio => (names::AUDIO, "Levels"),
                    _ => (names::CALL_STATISTICS, "Statistics"),
                };
                for who in watchers {
                    let signal = Message::signal(object.path(), interface, member);
                    self.send(signal.destination(who.as_ref()).build(&figures)).await?;
                }
                Ok(())
            }
        }
    }

    /// Writes the answers that are there by now.
    async fn send_ready_answers(&mut self) -> Result<(), BusError> {
        while let Some(Some(answered)) = self.unanswered.next().now_or_never() {
            self.answered(answered).await?;
        }
        Ok(())
    }

    async fn ask_for_watchers(&mut self) -> Result<(), BusError> {
        for (object, watchers) in self.watches.due(Instant::now()) {
            let reply = |figures| Ok(Reply::Dict(figures));
            let asked = match object {
                Object::Call(id) => statistics::ask(&self.requests, id, reply),
                _ => audio::ask(&self.requests, false, reply),
            };
            match asked {
                Ok(Outcome::Later(answer)) => {
                    let answered = move |answer| Answered::Watchers(object, watchers, answer);
                    self.unanswered.push(answer.map(answered).boxed());
                }
                // The driver has more to do than it can: these figures are left out.
                _ => drop(self.watches.answered(object, watchers)),
            }
        }
        Ok(())
    }

    /// Tells one listener of talk or silence.
    async fn tell_activity(
        &mut self,
        object: Object,
        who: &OwnedUniqueName,
        heard: Heard,
        talking: bool,
        level: f64,
    ) -> Result<(), BusError> {
        let body = (activity::direction(heard), talking, level);
        let signal = Message::signal(object.path(), names::CALL_STATISTICS, "ActivityChanged");
        self.send(signal.destination(who.as_ref()).build(&body)).await
    }

    /// Tells those who wanted to know of so long a silence.
    async fn tell_silences(&mut self) -> Result<(), BusError> {
        for TimedOut { call, who, heard, seconds } in self.watches.listeners().timed_out(Instant::now()) {
            let signal = Message::signal(Object::Call(call).path(), names::CALL_STATISTICS, "SilenceTimeout");
            let body = (activity::direction(heard), seconds);
            self.send(signal.destination(who.as_ref()).build(&body)).await?;
        }
        Ok(())
    }

    async fn update(&mut self, update: Update) -> Result<(), BusError> {
        match update {
            Update::Account { view, security } => self.account(Account { view, security }).await,
            Update::AccountRemoved(id) => {
                let lists = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.accounts.remove(&id);
                self.removed(Object::Account(id), lists).await
            }
            Update::Call(view) => self.call(view).await,
            Update::CallStateChanged { call: id, old, new, reason, sip_status } => {
                let body = (old.name(), new.name(), reason.name(), sip_status);
                self.signal(Object::Call(id), names::CALL, "StateChanged", &body).await
            }
            Update::DtmfReceived { call: id, digit, duration_ms } => {
                let body = (digit.to_string(), duration_ms);
                self.signal(Object::Call(id), names::CALL, "DtmfReceived", &body).await
            }
            Update::QualityChanged { call: id, warning } => {
                let quality = if warning.poor { "poor" } else { "good" };
                let body = (warning.flow.name(), quality, warning.opinion, warning.cause.name());
                self.signal(Object::Call(id), names::CALL_STATISTICS, "QualityChanged", &body).await
            }
            Update::Activity { call: id, heard, talking, level_dbov } => {
                for who in self.watches.listeners().heard(id, heard, talking, Instant::now()) {
                    self.tell_activity(Object::Call(id), &who, heard, talking, level_dbov.into()).await?;
                }
                Ok(())
            }
            Update::CallRemoved(id) => {
                let lists = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.calls.remove(&id);
                self.watches.removed(Object::Call(id));
                self.removed(Object::Call(id), lists).await
            }
            Update::Conference(view) => self.conference(view).await,
            Update::ConferenceRemoved(id) => {
                let lists = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.conferences.remove(&id);
                self.watches.removed(Object::Conference(id));
                self.removed(Object::Conference(id), lists).await
            }
            Update::DoNotDisturb(on) => {
                let before = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.do_not_disturb = on;
                self.changed(Object::Root, Interface::Manager, before).await
            }
            Update::DialTone(on) => {
                let before = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.dial_tone = on;
                self.changed(Object::Root, Interface::Manager, before).await
            }
            Update::Audio(view) => self.audio(view).await,
            Update::Nat(view) => self.nat(view).await,
            Update::Neighbours(neighbours) => {
                let before = self.tree.properties(Object::Root, Interface::Manager);
                self.tree.neighbours = neighbours;
                self.changed(Object::Root, Interface::Manager, before).await
            }
            Update::PortMappings(mappings) => {
                let before = self.tree.properties(Object::Nat, Interface::Nat);
                self.tree.mappings = mappings;
                self.changed(Object::Nat, Interface::Nat, before).await
            }
            Update::Friends(view) => self.friends(view).await,
            Update::Answer(answer) => {
                answer();
                // What was answered just now goes out before the next update.
                self.send_ready_answers().await
            }
        }
    }

    async fn account(&mut self, account: Account) -> Result<(), BusError> {
        let view = &account.view;
        let object = Object::Account(view.id);
        let (new, reason, sip_status) = (view.state, view.reason, view.sip_status);
        let lists = self.tree.properties(Object::Root, Interface::Manager);
        let before = self.tree.properties(object, Interface::Account);
        let Some(old) = self.tree.accounts.insert(view.id, account) else {
            return self.added(object, lists).await;
        };
        self.changed(object, Interface::Account, before).await?;
        if old.view.state == new {
            return Ok(());
        }
        let body = (account::state(old.view.state), account::state(new), reason, sip_status);
        self.signal(object, names::ACCOUNT, "StateChanged", &body).await
    }

    async fn call(&mut self, view: Box<CallView>) -> Result<(), BusError> {
        let (id, state) = (view.id, view.state);
        let object = Object::Call(id);
        let lists = self.tree.properties(Object::Root, Interface::Manager);
        let before = self.tree.properties(object, Interface::Call);
        match self.tree.calls.insert(id, view) {
            None => self.added(object, lists).await?,
            Some(_) => self.changed(object, Interface::Call, before).await?,
        }
        self.watches.listeners().count_silence(id, state == CallState::Active, Instant::now());
        if state == CallState::Ended {
            // The driver tells nothing more of who talks there.
            for (who, heard) in self.watches.listeners().ended(id) {
                self.tell_activity(object, &who, heard, false, SILENCE_DBOV.into()).await?;
            }
        }
        Ok(())
    }

    async fn conference(&mut self, view: Box<ConferenceView>) -> Result<(), BusError> {
        let id = view.id;
        let object = Object::Conference(id);
        let lists = self.tree.properties(Object::Root, Interface::Manager);
        let before = self.tree.properties(object, Interface::Conference);
        let speaker = self.tree.conferences.get(&id).and_then(|conference| conference.speaker);
        match self.tree.conferences.insert(id, Conference { view, speaker }) {
            None => self.added(object, lists).await,
            Some(_) => self.changed(object, Interface::Conference, before).await,
        }
    }

    /// Tells who speaks in the conferences where somebody wants to know.
    async fn review_speakers(&mut self) -> Result<(), BusError> {
        let conferences = self.tree.conferences.values().map(|conference| &*conference.view);
        let is_active = |call| self.tree.calls.get(&call).is_some_and(|view| view.state == CallState::Active);
        for (id, speaker) in self.watches.review_speakers(conferences, is_active, Instant::now()) {
            let object = Object::Conference(id);
            let known = self.tree.conferences.get(&id).and_then(|conference| conference.speaker);
            if known == speaker {
                continue;
            }
            let before = self.tree.properties(object, Interface::Conference);
            if let Some(conference) = self.tree.conferences.get_mut(&id) {
                conference.speaker = speaker;
            }
            self.changed(object, Interface::Conference, before).await?;
        }
        Ok(())
    }

    async fn audio(&mut self, view: Box<AudioView>) -> Result<(), BusError> {
        let lists = self.tree.properties(Object::Root, Interface::Manager);
        let before = self.tree.properties(Object::Audio, Interface::Audio);
        match self.tree.audio.replace(view) {
            None => self.added(Object::Audio, lists).await,
            Some(_) => self.changed(Object::Audio, Interface::Audio, before).await,
        }
    }

    async fn nat(&mut self, view: Box<NatView>) -> Result<(), BusError> {
        let lists = self.tree.properties(Object::Root, Interface::Manager);
        let before = self.tree.properties(Object::Nat, Interface::Nat);
        match self.tree.nat.replace(view) {
            None => self.added(Object::Nat, lists).await,
            Some(_) => self.changed(Object::Nat, Interface::Nat, before).await,
        }
    }

    async fn friends(&mut self, view: FriendsView) -> Result<(), BusError> {
        let lists = self.tree.properties(Object::Root, Interface::Manager);
        let before = self.tree.properties(Object::Friends, Interface::Friends);
        match self.tree.friends.replace(view) {
            None => self.added(Object::Friends, lists).await,
            Some(_) => self.changed(Object::Friends, Interface::Friends, before).await,
        }
    }

    /// A new object: first itself, then the list that names it.
    async fn added(&mut self, object: Object, lists: Dict) -> Result<(), BusError> {
        let body = (object.path(), self.tree.interfaces(object));
        self.signal(Object::Root, OBJECT_MANAGER, "InterfacesAdded", &body).await?;
        self.changed(Object::Root, Interface::Manager, lists).await
    }

    /// An object that is no more: first the list that named it, then itself.
    async fn removed(&mut self, object: Object, lists: Dict) -> Result<(), BusError> {
        self.changed(Object::Root, Interface::Manager, lists).await?;
        let interfaces: Vec<&str> = object.interfaces().iter().map(|interface| interface.name()).collect();
        self.signal(Object::Root, OBJECT_MANAGER, "InterfacesRemoved", &(object.path(), interfaces)).await
    }

    /// One signal for all properties that are not as they were before.
    async fn changed(&mut self, object: Object, interface: Interface, before: Dict) -> Result<(), BusError> {
        let mut changed = self.tree.properties(object, interface);
        changed.retain(|property, value| before.get(property) != Some(value));
        if changed.is_empty() {
            return Ok(());
        }
        let body = (interface.name(), changed, Vec::<&str>::new());
        self.signal(object, "org.freedesktop.DBus.Properties", "PropertiesChanged", &body).await
    }

    async fn signal<B: serde::Serialize + zbus::wire::DynamicType>(
        &mut self,
        object: Object,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<(), BusError> {
        self.send(Message::signal(object.path(), interface, member).build(body)).await
    }

    async fn send(&mut self, message: zbus::Result<Message>) -> Result<(), BusError> {
        match message {
            Ok(message) => self.connection.send(&message).await.map_err(|error| {
                log::debug!("the bus takes no messages: {error}");
                BusError::Lost
            }),
            Err(error) => {
                log::error!("a message cannot be made: {error}");
                Ok(())
            }
        }
    }
}

const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
