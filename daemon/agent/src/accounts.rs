//! The accounts: their settings, how each fares, and to which of them an inbound call belongs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use voipd_sip::digest::{Algorithm, Secret};
use voipd_sip::endpoint::{
    self, Binding, Credentials, Identity, IdentityId, Incoming, RegistrationFailure, RegistrationState,
};
use voipd_sip::uri::{Host, NameAddr, SipUri, Uri};

use crate::account::{AccountId, AccountKind, AccountSettings};
use crate::ice_settings::Lent;
use crate::reason;
use crate::view::{AccountState, AccountView};

/// One account.
pub(crate) struct Account {
    pub(crate) settings: AccountSettings,
    /// Its name in signalling while it places and takes calls: enabled, and the daemon not stopping.
    pub(crate) identity: Option<IdentityId>,
    registration: RegistrationState,
    digest: Option<Algorithm>,
    binding: Binding,
    /// Its relays are lent by its server.
    has_lent_relays: bool,
}

/// All accounts.
#[derive(Default)]
pub(crate) struct Accounts {
    map: BTreeMap<AccountId, Account>,
    by_identity: BTreeMap<IdentityId, AccountId>,
    last_id: u32,
}

impl Accounts {
    pub(crate) fn insert(&mut self, settings: AccountSettings) -> AccountId {
        self.last_id += 1;
        let id = AccountId(self.last_id);
        let account = Account {
            settings,
            identity: None,
            registration: RegistrationState::Unregistered,
            digest: None,
            binding: Binding::default(),
            has_lent_relays: false,
        };
        self.map.insert(id, account);
        id
    }

    pub(crate) fn get(&self, id: AccountId) -> Option<&Account> {
        self.map.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.map.iter().map(|(id, account)| (*id, account))
    }

    pub(crate) fn find(&self, name: &str) -> Option<AccountId> {
        self.iter().find(|(_, account)| account.settings.name == name).map(|(id, _)| id)
    }

    pub(crate) fn remove(&mut self, id: AccountId) -> Option<Account> {
        let account = self.map.remove(&id)?;
        if let Some(identity) = account.identity {
            self.by_identity.remove(&identity);
        }
        Some(account)
    }

    /// Ties an account to its identity, or unties it.
    pub(crate) fn set_identity(&mut self, id: AccountId, identity: Option<IdentityId>) {
        if let Some(account) = self.map.get_mut(&id) {
            if let Some(old) = account.identity.take() {
                self.by_identity.remove(&old);
            }
            account.identity = identity;
            account.registration = RegistrationState::Unregistered;
            account.digest = None;
            account.binding = Binding::default();
            if let Some(new) = identity {
                self.by_identity.insert(new, id);
            }
        }
    }

    pub(crate) fn set_enabled(&mut self, id: AccountId, enabled: bool) {
        if let Some(account) = self.map.get_mut(&id) {
            account.settings.enabled = enabled;
        }
    }

    /// Whose identity this is.
    pub(crate) fn of_identity(&self, identity: IdentityId) -> Option<AccountId> {
        self.by_identity.get(&identity).copied()
    }

    /// Notes how an identity's registration fares; answers whose it is.
    pub(crate) fn set_registration(
        &mut self,
        identity: IdentityId,
        state: RegistrationState,
    ) -> Option<AccountId> {
        let id = *self.by_identity.get(&identity)?;
        self.map.get_mut(&id)?.registration = state;
        Some(id)
    }

    /// Notes which digest algorithm is in use; answers whose.
    pub(crate) fn set_digest(&mut self, identity: IdentityId, algorithm: Algorithm) -> Option<AccountId> {
        let id = *self.by_identity.get(&identity)?;
        self.map.get_mut(&id)?.digest = Some(algorithm);
        Some(id)
    }

    /// Notes what a registrar says; answers of which account.
    pub(crate) fn set_binding(&mut self, identity: IdentityId, binding: Binding) -> Option<AccountId> {
        let id = *self.by_identity.get(&identity)?;
        self.map.get_mut(&id)?.binding = binding;
        Some(id)
    }

    /// Takes relays that the account's server lends; `false` where nothing changes.
    pub(crate) fn lend_relays(&mut self, id: AccountId, lent: Lent) -> bool {
        let Some(account) = self.map.get_mut(&id) else { return false };
        let ice = &mut account.settings.ice;
        if !ice.relays.is_empty() && !account.has_lent_relays {
            return false;
        }
        let same = ice.relays == lent.relays && (ice.relays.is_empty() || ice.login == lent.login);
        if same && ice.lent == lent.of_friends {
            return false;
        }
        account.has_lent_relays = !lent.relays.is_empty();
        ice.login = lent.login;
        ice.relays = lent.relays;
        ice.lent = lent.of_friends;
        true
    }

    /// The account that an inbound INVITE belongs to, or `None`: it is nobody's, and must ring nothing.
    ///
    /// The registered contact (as signalling matched it) comes first, then echo services by their own name, then
    /// accounts whose allow list holds the source, then the `direct` account by its allow list.
    pub(crate) fn for_incoming(&self, incoming: &Incoming) -> Option<AccountId> {
        if let Some(identity) = incoming.identity {
            return self.by_identity.get(&identity).copied();
        }
        let source = incoming.flow.remote.ip();
        let user = match &incoming.request_uri {
            Uri::Sip(uri) => uri.user.as_deref(),
            Uri::Other { .. } => None,
        };
        let open = |kind: AccountKind| self.usable(kind).filter(move |(_, account)| account.allows(source));
        let echo = open(AccountKind::Echo)
            .find(|(_, account)| account.settings.address.is_none() && user == Some(&account.settings.name));
        let served = || {
            let addressed = open(AccountKind::Sip)
                .chain(open(AccountKind::Echo))
                .filter(|(_, a)| a.settings.address.is_some());
            addressed.min_by_key(|(id, account)| (account.user() != user, *id))
        };
        let direct = || open(AccountKind::Direct).next();
        echo.or_else(served).or_else(direct).map(|(id, _)| id)
    }

    /// The account for a call to `target` when the caller named none: that of the target's domain; `direct` for a
    /// numeric or local host, which needs no server; else the first registered account, else the first with a server.
    /// A `target` of `None` is a bare name or number.
    pub(crate) fn for_target(&self, target: Option<&SipUri>) -> Option<AccountId> {
        let direct = || self.usable(AccountKind::Direct).next();
        let home = target.and_then(|target| self.usable(AccountKind::Sip).find(|(_, a)| a.serves(target)));
        if home.is_none()
            && target.is_some_and(|target| is_local(&target.host))
            && let Some((id, _)) = direct()
        {
            return Some(id);
        }
        let registered = || {
            self.usable(AccountKind::Sip)
                .find(|(_, a)| matches!(a.registration, RegistrationState::Registered { .. }))
        };
        let any = || self.usable(AccountKind::Sip).next();
        home.or_else(registered).or_else(any).or_else(direct).map(|(id, _)| id)
    }

    fn usable(&self, kind: AccountKind) -> impl Iterator<Item = (AccountId, &Account)> {
        let fits = move |account: &Account| account.settings.kind == kind && account.identity.is_some();
        self.iter().filter(move |(_, account)| fits(account))
    }
}

impl Account {
    fn allows(&self, source: IpAddr) -> bool {
        self.settings.allow_from.iter().any(|network| network.contains(source))
    }

    pub(crate) fn sip_uri(&self) -> Option<&SipUri> {
        match &self.settings.address {
            Some(Uri::Sip(uri)) => Some(uri),
            _ => None,
        }
    }

    fn user(&self) -> Option<&str> {
        self.sip_uri()?.user.as_deref()
    }

    /// The target is of this account's domain. At a numeric or local address, another port is another peer.
    fn serves(&self, target: &SipUri) -> bool {
        let Some(own) = self.sip_uri() else { return false };
        let same_host = match (&own.host, &target.host) {
            (Host::Name(own), Host::Name(target)) => own.eq_ignore_ascii_case(target),
            (own, target) => own == target,
        };
        let registrar_port = match &self.settings.registrar {
            Some(Uri::Sip(registrar)) => registrar.port,
            _ => None,
        };
        let same_port = target.port.is_none() || [own.port, registrar_port].contains(&target.port);
        same_host && (same_port || !is_local(&target.host))
    }

    pub(crate) fn wants_registration(&self) -> bool {
        self.settings.register && self.settings.address.is_some()
    }

    /// The user part of its Contact, where a server may keep one from before.
    pub(crate) fn contact_user(&self, key: &Secret) -> Option<String> {
        let address = self.settings.address.as_ref().filter(|_| self.wants_registration())?;
        Some(endpoint::contact_user(key, &format!("{} {address}", self.settings.name)))
    }

    /// A server's URI, with the account's transport where it names none itself. `sips:` is TLS already.
    fn by_transport(&self, server: Option<Uri>) -> Option<Uri> {
        let mut server = server?;
        if let (Some(transport), Uri::Sip(uri)) = (self.settings.transport, &mut server)
            && !uri.secure
            && uri.params.get("transport").is_none()
        {
            uri.params.set("transport", Some(&transport.name().to_ascii_lowercase()));
        }
        Some(server)
    }

    /// What signalling needs to know. Without an address of record, peers see the address that a call comes from.
    pub(crate) fn identity(&self, instance: Option<String>, contact_user: Option<String>) -> Identity {
        let settings = &self.settings;
        let nameless = || SipUri::new(Some("voipd"), Host::Ip(Ipv4Addr::UNSPECIFIED.into()), None);
        let aor = settings.address.clone().unwrap_or_else(|| Uri::Sip(nameless()));
        let mut aor = NameAddr::new(aor);
        aor.display_name.clone_from(&settings.display_name);
        let own_server = self.sip_uri().map(|uri| {
            Uri::Sip(SipUri { secure: uri.secure, ..SipUri::new(None, uri.host.clone(), uri.port) })
        });
        let credentials = settings.password.as_ref().map(|password| Credentials {
            user: settings.auth_user.clone().or_else(|| self.user().map(str::to_owned)).unwrap_or_default(),
            password: password.clone(),
            realms: settings.realms.clone(),
            allow_md5: settings.allow_md5,
        });
        let proxies = settings.outbound_proxies.iter().cloned();
        Identity {
            aor,
            registrar: self.by_transport(settings.registrar.clone().or(own_server)),
            outbound_proxies: proxies.filter_map(|proxy| self.by_transport(Some(proxy))).collect(),
            credentials,
            expires: settings.expires,
            instance,
            gruu: settings.gruu,
            push: settings.push.clone(),
            contact: settings.contact,
            contact_user,
        }
    }

    pub(crate) fn view(&self, id: AccountId) -> AccountView {
        let mut view = AccountView {
            id,
            settings: self.settings.clone(),
            state: AccountState::Disabled,
            reason: "",
            sip_status: 0,
            expires: 0,
            retry_at: None,
            digest: self.digest,
            binding: self.binding.clone(),
        };
        if !self.settings.enabled {
            return view;
        }
        match &self.registration {
            RegistrationState::Unregistered if !self.wants_registration() => view.state = AccountState::Ready,
            RegistrationState::Unregistered => view.state = AccountState::Unregistered,
            RegistrationState::Registering => view.state = AccountState::Registering,
            RegistrationState::Registered { expires } => {
                view.state = AccountState::Registered;
                view.expires = *expires;
                view.sip_status = 200;
            }
            RegistrationState::Failed { reason, status, retry } => {
                view.state = AccountState::Failed;
                view.reason = failure_name(*reason);
                view.sip_status = status.unwrap_or(0);
                view.retry_at = *retry;
            }
        }
        view
    }
}

pub(crate) fn failure_name(failure: RegistrationFailure) -> &'static str {
    match failure {
        RegistrationFailure::Credentials => "credentials",
        RegistrationFailure::ForeignRealm => "foreign-realm",
        RegistrationFailure::WeakDigest => "weak-digest",
        RegistrationFailure::UnknownDigest => "unknown-digest",
        RegistrationFailure::ServerProof => "server-proof",
        RegistrationFailure::Rejected => "rejected",
        RegistrationFailure::Timeout => "timeout",
        RegistrationFailure::Unresolvable => "unresolvable",
        RegistrationFailure::NoNetwork => "no-network",
        RegistrationFailure::Unreachable(error) => reason::of_transport(error).name(),
    }
}

/// Hosts that are reached without a server: address literals, this machine, and names of the local network.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Ip(_) => true,
        Host::Name(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".local") || name.ends_with(".localhost")
        }
    }
}
