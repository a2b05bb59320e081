//! Requests from the bus: each is handed to the agent or the devices, and answered behind what it changed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT};
use voipd_agent::view::CallId;
use voipd_agent::{AccountId, AgentError, DialOptions, SoundChoice, TargetError};
use voipd_audio::plan::EngineCounters;

use super::devices::role_name;
use super::traces::TraceError;
use super::{Driver, Finished};
use crate::api::conferences::ConferenceRequest;
use crate::api::devices::DeviceChange;
use crate::api::ports::PortsRequest;
use crate::api::{
    AccountChoice, AudioLive, CallSound, CallStatistics, DeviceRole, ErrorKind, Reply, Request, RequestError,
    Update,
};
use crate::sound::FindError;
use crate::store::StoreError;

/// Upper bounds of the lateness histogram, as counters are named on the bus.
const LATENESS: [&str; 8] = [
    "lateness-under-50us",
    "lateness-under-100us",
    "lateness-under-200us",
    "lateness-under-500us",
    "lateness-under-1000us",
    "lateness-under-2000us",
    "lateness-under-5000us",
    "lateness-above-5000us",
];

impl Driver {
    /// Takes a request. Its files are looked at first: what cannot be played or recorded into is said to the client, not
    /// to the peer.
    pub(super) fn request(&mut self, request: Request) {
        let (play, record) = match &request {
            Request::Dial { sound, .. } | Request::Accept { sound, .. } => {
                (sound.play.as_ref(), sound.record.as_ref())
            }
            Request::Ports(PortsRequest::Play { file, .. }) => (Some(file), None),
            Request::Ports(PortsRequest::StartRecording { file, .. }) => (None, Some(file)),
            _ => (None, None),
        };
        if play.is_none() && record.is_none() {
            return self.carry_out_request(request);
        }
        let clone = |file: Option<&OwnedFd>| file.map(OwnedFd::try_clone).transpose();
        let files = clone(play).and_then(|play| Ok((play, clone(record)?)));
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let checked = match files {
                Ok((play, record)) => crate::sound::check_files(play, record).await,
                Err(error) => Err(format!("the files cannot be used: {error}")),
            };
            // Nobody listens when the driver is gone.
            let _ = finished.send(match checked {
                Ok(()) => Finished::FilesChecked(Box::new(request)),
                Err(message) => Finished::Answer(refused(request, message)),
            });
        });
    }

    pub(super) fn carry_out_request(&mut self, request: Request) {
        let now = Instant::now();
        match request {
            Request::Dial { target, account, sound, codecs, anonymous, follow, reply } => {
                let options = DialOptions { sound: choice(&sound), codecs, anonymous, follow };
                let result = self.dial(now, &target, account, sound, options);
                self.answer(reply, result);
            }
            Request::AddAccount { settings, reply } => {
                let stored = settings.clone();
                match self.agent.add_account(now, *settings) {
                    Ok(id) => {
                        let keep = self.store.put_account(*stored);
                        self.answer_when_stored(reply, id, keep);
                    }
                    Err(error) => self.answer(reply, Err(error.into())),
                }
            }
            Request::RemoveAccount { account, reply } => match self.agent.remove_account(now, account) {
                Ok(settings) => {
                    let forget = self.store.remove_account(settings.name);
                    self.answer_when_stored(reply, (), forget);
                }
                Err(error) => self.answer(reply, Err(error.into())),
            },
            Request::EnableAccount { account, enabled, reply } => {
                self.enable_account(now, account, enabled, reply);
            }
            Request::RegisterAccount { account, register, reply } => {
                let result = self.agent.register_account(now, account, register);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::SetDoNotDisturb { on, reply } => {
                self.agent.set_do_not_disturb(now, on);
                self.tell(Update::DoNotDisturb(on));
                let keep = self.store.set_do_not_disturb(on);
                self.answer_when_stored(reply, (), keep);
            }
            Request::SetDialTone { on, reply } => {
                let result = self.agent.set_dial_tone(now, on);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::Accept { call, sound, reply } => {
                let result = self.agent.accept(now, call, choice(&sound)).map_err(Into::into);
                if result.is_ok() {
                    self.add_files(now, call, sound);
                }
                self.answer(reply, result);
            }
            Request::Reject { call, reason, reply } => {
                let result = self.agent.reject(now, call, reason);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::Hangup { call, reply } => {
                let result = self.agent.hang_up(now, call);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::Hold { call, reply } => {
                let result = self.agent.hold(now, call);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::Resume { call, mix, reply } => {
                let result = self.agent.resume(now, call, mix);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::Silence { call, reply } => {
                let result = self.agent.silence(now, call);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::SetMuted { call, muted, reply } => {
                let result = self.agent.set_muted(now, call, muted);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::SetCodec { call, codec, reply } => {
                let result = self.agent.set_codec(now, call, codec);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::SendDtmf { call, digits, reply } => {
                let result = self.agent.send_dtmf(now, call, &digits);
                self.answer(reply, result.map_err(Into::into));
            }
            Request::CallStatistics { call, reply } => {
                let statistics = self.call_statistics(call);
                self.answer(reply, Ok(statistics));
            }
            Request::CallGraph { call, reply } => {
                let graph = self.graph(call);
                self.answer(reply, Ok(graph));
            }
            Request::WatchActivity { call, on } => self.listen(call, on),
            Request::Trace { call, reply } => {
                let result = self.trace(call);
                self.answer(reply, result);
            }
            Request::ListDevices { reply } => {
                let (list, finished) = (self.devices.list(), self.finished.clone());
                tokio::spawn(async move {
                    let devices = list.await;
                    // The driver is gone when nobody listens.
                    let _ = finished.send(Finished::Answer(answered(reply, Ok(devices))));
                });
            }
            Request::SelectDevice { role, name, reply } => self.find_device(role, name, reply),
            Request::ConfigureDevice { role, change, reply } => self.configure_device(role, change, reply),
            Request::StartTest { output, input, reply } => {
                let result = self.devices.start_test(output, input, &mut self.patchbay);
                self.publish_audio();
                self.answer(reply, result);
            }
            Request::StopTest { reply } => {
                self.devices.stop_test(&mut self.patchbay);
                self.publish_audio();
                self.answer(reply, Ok(()));
            }
            Request::Diagnose { reply } => self.diagnose(reply),
            Request::AddMapping { wish, reply } => {
                let result = self.add_mapping(wish);
                self.answer(reply, result);
            }
            Request::RemoveMapping { mapping, reply } => {
                let result = self.remove_mapping(mapping);
                self.answer(reply, result);
            }
            Request::Discover { reply } => {
                self.nat.network_changed();
                self.serve_nat();
                self.answer(reply, Ok(()));
            }
            Request::Conference(request) => self.conference_request(now, request),
            Request::Friends(request) => self.friends_request(now, request),
            Request::Ports(request) => self.ports_request(now, request),
            Request::AudioLive { reply } => {
                let live = self.audio_live();
                self.answer(reply, Ok(live));
            }
        }
    }

    fn dial(
        &mut self,
        now: Instant,
        target: &str,
        account: Option<AccountChoice>,
        sound: CallSound,
        options: DialOptions,
    ) -> Result<CallId, RequestError> {
        let account = account.map(|account| self.find_account(account)).transpose()?;
        let account = account.or_else(|| self.friends.account_of(target));
        let call = self.agent.dial(now, target, account, options).map_err(|error| match error {
            // An account can be enabled, and then the call be placed: the call has no state yet.
            AgentError::AccountDisabled(_) => {
                RequestError { kind: ErrorKind::NotReady, message: error.to_string() }
            }
            error => error.into(),
        })?;
        self.add_files(now, call, sound);
        Ok(call)
    }

    fn conference_request(&mut self, now: Instant, request: ConferenceRequest) {
        let agent = &mut self.agent;
        let (reply, result) = match request {
            ConferenceRequest::Open { calls, device, reply } => {
                let result = agent.open_conference(now, &calls, device);
                return self.answer(reply, result.map_err(Into::into));
            }
            ConferenceRequest::Join { conference, call, reply } => {
                (reply, agent.join_conference(now, conference, call))
            }
            ConferenceRequest::Leave { conference, call, reply } => {
                (reply, agent.leave_conference(now, conference, call))
            }
            ConferenceRequest::SetMuted { conference, call, muted, reply } => {
                (reply, agent.mute_in_conference(now, conference, call, muted))
            }
            ConferenceRequest::SetDevice { conference, device, reply } => {
                (reply, agent.set_conference_device(now, conference, device))
            }
            ConferenceRequest::End { conference, reply } => (reply, agent.end_conference(now, conference)),
        };
        self.answer(reply, result.map_err(Into::into));
    }

    fn trace(&mut self, call: Option<CallId>) -> Result<OwnedFd, RequestError> {
        call.map_or(Ok(()), |call| self.agent.find_call(call))?;
        self.traces.begin(call).map_err(|error| {
            let kind = match &error {
                TraceError::TooMany(_) => ErrorKind::LimitReached,
                TraceError::System(_) => ErrorKind::Failed,
            };
            RequestError { kind, message: error.to_string() }
        })
    }

    fn find_account(&self, choice: AccountChoice) -> Result<AccountId, RequestError> {
        match choice {
            AccountChoice::Id(id) => Ok(id),
            AccountChoice::Name(name) => self.agent.find_account(&name).ok_or_else(|| RequestError {
                kind: ErrorKind::NoSuchAccount,
                message: format!("there is no account '{name}'; list the accounts to see which there are"),
            }),
        }
    }

    fn enable_account(&mut self, now: Instant, account: AccountId, enabled: bool, reply: Reply<()>) {
        let name = self.agent.account_settings(account).map(|settings| settings.name.clone());
        match (self.agent.enable_account(now, account, enabled), name) {
            (Ok(()), Some(name)) => {
                let keep = self.store.set_enabled(name, enabled);
                self.answer_when_stored(reply, (), keep);
            }
            (result, _) => self.answer(reply, result.map_err(Into::into)),
        }
    }

    /// A sound system that is asked for its devices may hang: nothing waits for it.
    fn find_device(&mut self, role: DeviceRole, name: String, reply: Reply<()>) {
        let found = self.devices.find(role, &name);
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let found = found.await;
            // The driver is gone when nobody listens.
            let _ = finished.send(Finished::DeviceFound { role, name, found, reply });
        });
    }

    pub(super) fn select_device(
        &mut self,
        role: DeviceRole,
        name: String,
        found: Result<(), FindError>,
        reply: Reply<()>,
    ) {
        if let Err(error) = found {
            let kind = match error {
                FindError::NoSuchDevice(_) => ErrorKind::NoSuchDevice,
                FindError::Unavailable(_) => ErrorKind::DeviceUnavailable,
            };
            return self.answer(reply, Err(RequestError { kind, message: error.to_string() }));
        }
        self.devices.select(role, &name, &mut self.patchbay);
        log::info!("{} is now {name}", role_name(role));
        self.publish_audio();
        let keep = self.store.set_device(role, name);
        self.answer_when_stored(reply, (), keep);
    }

    fn configure_device(&mut self, role: DeviceRole, change: DeviceChange, reply: Reply<()>) {
        if role != DeviceRole::Input && change.is_processing() {
            let message =
                "only the input, the microphone, has echo-cancellation, noise-suppression and gain-control";
            let kind = ErrorKind::InvalidArgument;
            return self.answer(reply, Err(RequestError { kind, message: message.to_owned() }));
        }
        let (name, settings) = self.devices.configure(role, change, &mut self.patchbay);
        self.publish_audio();
        let keep = self.store.set_device_settings(role, &name, settings.write());
        self.answer_when_stored(reply, (), keep);
    }

    pub(super) fn call_statistics(&mut self, call: CallId) -> CallStatistics {
        let counters =
            self.agent.stream_port(call).and_then(|port| self.patchbay.controller().stream_counters(port));
        match counters {
            Some(counters) => {
                let (remote, quality) = (self.agent.remote_view(call), self.agent.quality(call));
                super::media::statistics(counters, remote, quality)
            }
            None => self.statistics.get(&call).copied().unwrap_or_default(),
        }
    }

    fn audio_live(&mut self) -> AudioLive {
        let level = |levels: Option<(i8, i8)>, playback: bool| {
            levels.map_or(-127.0, |(captured, played)| f64::from(if playback { played } else { captured }))
        };
        let input = self.patchbay.controller().device_levels(DEVICE_INPUT);
        let output = self.patchbay.controller().device_levels(DEVICE_OUTPUT);
        AudioLive {
            parked: self.realtime.is_parked(),
            input_level_dbov: level(input, false),
            output_level_dbov: level(output, true),
            counters: named(&self.patchbay.controller().counters())
                .into_iter()
                .chain(self.devices.figures())
                .collect(),
        }
    }

    /// Answers behind everything that happened before.
    pub(super) fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, RequestError>) {
        self.carry_out();
        self.tell(answered(reply, result));
    }

    /// Answers when the change will also survive a restart.
    pub(super) fn answer_when_stored<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        value: T,
        store: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        self.carry_out();
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let result = store.await.map(|()| value).map_err(|error| RequestError {
                kind: ErrorKind::Failed,
                message: format!("done, but it will be forgotten at the next start: {error}"),
            });
            // The driver is gone when nobody listens.
            let _ = finished.send(Finished::Answer(answered(reply, result)));
        });
    }
}

pub(super) fn answered<T: Send + 'static>(reply: Reply<T>, result: Result<T, RequestError>) -> Update {
    // A caller that has gone does not want the answer.
    Update::Answer(Box::new(move || drop(reply.send(result))))
}

/// The answer to a request whose files cannot be used.
fn refused(request: Request, message: String) -> Update {
    let error = RequestError { kind: ErrorKind::InvalidArgument, message };
    match request {
        Request::Dial { reply, .. } => answered(reply, Err(error)),
        Request::Accept { reply, .. }
        | Request::Ports(PortsRequest::Play { reply, .. } | PortsRequest::StartRecording { reply, .. }) => {
            answered(reply, Err(error))
        }
        // No other one brings files.
        _ => Update::Answer(Box::new(|| ())),
    }
}

fn choice(sound: &CallSound) -> SoundChoice {
    let ports = sound.programs || sound.play.is_some();
    SoundChoice { ports, mix: sound.mix, conference: sound.conference }
}

fn named(counters: &EngineCounters) -> BTreeMap<&'static str, u64> {
    let plain = [
        ("ticks", counters.ticks),
        ("ticks-late", counters.ticks_late),
        ("ticks-missed", counters.ticks_missed),
        ("longest-tick-us", counters.longest_tick_us),
        ("most-gap-work", counters.most_gap_work),
        ("gaps-spared", counters.gaps_spared),
        ("events-dropped", counters.events_dropped),
        ("device-underruns", counters.device_underruns),
        ("device-overruns", counters.device_overruns),
    ];
    plain.into_iter().chain(LATENESS.into_iter().zip(counters.lateness)).collect()
}

impl From<AgentError> for RequestError {
    fn from(error: AgentError) -> Self {
        let kind = match &error {
            AgentError::NoSuchCall(_) => ErrorKind::NoSuchCall,
            AgentError::NoSuchConference(_) => ErrorKind::NoSuchConference,
            AgentError::NoSuchAccount | AgentError::NoUsableAccount => ErrorKind::NoSuchAccount,
            AgentError::AlreadyExists(_) => ErrorKind::AlreadyExists,
            AgentError::NotRemovable(_)
            | AgentError::RedirectionForbidden(_)
            | AgentError::Target(TargetError::Blocked { .. }) => ErrorKind::NotPermitted,
            AgentError::AccountDisabled(_)
            | AgentError::DeviceInUse
            | AgentError::NoIce(_)
            | AgentError::NotInConference { .. }
            | AgentError::WrongState { .. } => ErrorKind::InvalidState,
            AgentError::NoDtmf => ErrorKind::NotReady,
            AgentError::Target(_)
            | AgentError::BadDigit(_)
            | AgentError::TooManyDigits(_)
            | AgentError::CodecNotAllowed(_)
            | AgentError::DoesNotRegister(_) => ErrorKind::InvalidArgument,
            AgentError::TooManyCalls(_)
            | AgentError::TooManyAccounts(_)
            | AgentError::TooManyConferences(_)
            | AgentError::TooManyPorts(_) => ErrorKind::LimitReached,
        };
        Self { kind, message: error.to_string() }
    }
}
