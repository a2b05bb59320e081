//! Gathers what the driver knows for `Manager1.Diagnose`, and lets the doctor look at the rest beside the calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use voipd_agent::{AccountId, AccountView};
use voipd_sip::endpoint::Transport as Protocol;

use super::requests::answered;
use super::{Driver, Finished};
use crate::api::{ErrorKind, Reply, RequestError};
use crate::doctor::{self, Check, ConfigSource, Facts, Patient};
use crate::neighbours::SharedHealth;

/// What the doctor is to know besides.
pub(super) struct Doctor {
    config: ConfigSource,
    rng: ChaCha12Rng,
    /// As they were told last.
    accounts: BTreeMap<AccountId, AccountView>,
    /// Somebody is being told.
    busy: Arc<AtomicBool>,
    /// How telephones of the local network find each other.
    pub(super) neighbours: SharedHealth,
}

impl Doctor {
    pub(super) fn new(config: ConfigSource, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: ChaCha12Rng::from_seed(seed),
            accounts: BTreeMap::new(),
            busy: Arc::new(AtomicBool::new(false)),
            neighbours: SharedHealth::default(),
        }
    }

    pub(super) fn put_account(&mut self, view: &AccountView) {
        self.accounts.insert(view.id, view.clone());
    }

    pub(super) fn remove_account(&mut self, id: AccountId) {
        self.accounts.remove(&id);
    }
}

impl Driver {
    /// Answers when everything has been looked at; one after the other, since each looks at servers.
    pub(super) fn diagnose(&mut self, reply: Reply<Vec<Check>>) {
        if self.doctor.busy.swap(true, Ordering::Relaxed) {
            let message =
                "somebody is being told how things are just now: try again in ten seconds".to_owned();
            return self.answer(reply, Err(RequestError { kind: ErrorKind::LimitReached, message }));
        }
        let views: Vec<AccountView> = self.doctor.accounts.values().cloned().collect();
        let accounts = views.into_iter().map(|view| self.patient(view)).collect();
        let mut seed = [0; 32];
        self.doctor.rng.fill_bytes(&mut seed);
        let facts = Facts {
            audio: self.devices.view(self.realtime.scheduling()),
            accounts,
            nat: self.nat.view(&self.network),
            router: self.look_at_router(),
            neighbours: self.doctor.neighbours.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            config: self.doctor.config.clone(),
            resolver: Arc::clone(&self.resolver),
            seed,
        };
        let (devices, finished, busy) =
            (self.devices.list(), self.finished.clone(), Arc::clone(&self.doctor.busy));
        tokio::spawn(async move {
            let checks = doctor::examine(facts, devices).await;
            busy.store(false, Ordering::Relaxed);
            // The driver is gone when nobody listens.
            let _ = finished.send(Finished::Answer(answered(reply, Ok(checks))));
        });
    }

    fn patient(&mut self, view: AccountView) -> Patient {
        let registered_on = self.agent.registered_on(view.id);
        let server = doctor::server_of(&view.settings);
        let may_be_tls = |server: &voipd_sip::endpoint::NextHop| {
            server.secure || !matches!(server.transport, Some(Protocol::Udp | Protocol::Tcp))
        };
        let tls = server
            .filter(may_be_tls)
            .and_then(|server| self.transport.requirement(&server.host, &view.settings.tls).ok());
        Patient { view, registered_on, tls }
    }
}
