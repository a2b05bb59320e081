//! `org.voipd.Account1`: an account and how it fares.

use std::time::Instant;

use voipd_agent::account::AccountOrigin;
use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountView};
use voipd_dbus::AccountState as Word;
use voipd_sip::Uri;
use voipd_sip::digest::Algorithm;
use voipd_sip::uri::SipUri;
use zbus::message::Body;

use super::outcome::{Dict, Failure, Outcome, Requests, nothing, unknown_method};
use super::tree::Account;
use crate::api::Request;
use crate::config::account::{dtmf_name, kind_name, redirect_name, transport_name};
use crate::config::dialplan;
use crate::config::ice::ice_name;

pub(super) fn properties(account: &Account) -> Dict {
    let Account { view, security } = account;
    let settings = &view.settings;
    let uri = |uri: &Option<Uri>| uri.as_ref().map(Uri::to_string).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let binding = &view.binding;
    let gruu = |uri: &Option<SipUri>| uri.as_ref().map(SipUri::to_string).unwrap_or_default();
    let route: Vec<String> = binding.service_route.iter().map(SipUri::to_string).collect();
    let associated: Vec<String> = binding.associated.iter().map(|address| address.uri.to_string()).collect();
    let provider = settings.push.as_ref().map(|push| push.provider.clone());
    let proxies: Vec<String> = settings.outbound_proxies.iter().map(ToString::to_string).collect();
    let codecs: Vec<&str> = settings.codecs.iter().map(|codec| codec.name()).collect();
    let stun: Vec<String> = settings.ice.stun.iter().map(ToString::to_string).collect();
    let relays: Vec<String> = settings.ice.relays.iter().map(ToString::to_string).collect();
    Dict::from([
        ("Name", settings.name.clone().into()),
        ("Kind", kind_name(settings.kind).into()),
        ("Origin", origin(settings.origin).into()),
        ("Enabled", settings.enabled.into()),
        ("Address", uri(&settings.address).into()),
        ("DisplayName", text(&settings.display_name).into()),
        ("Registrar", uri(&settings.registrar).into()),
        ("OutboundProxy", proxies.join(" ").into()),
        ("Transport", settings.transport.map_or("", transport_name).into()),
        ("Security", security.clone().into()),
        ("AuthUser", text(&settings.auth_user).into()),
        ("HasPassword", settings.password.is_some().into()),
        ("AllowMd5", settings.allow_md5.into()),
        ("Registers", settings.register.into()),
        ("PushProvider", text(&provider).into()),
        ("Codecs", codecs.into()),
        ("Redundancy", settings.redundancy.into()),
        ("SilenceSuppression", settings.silence_suppression.into()),
        ("DialPlan", dialplan::lines(&settings.dial_plan).into()),
        ("Redirect", redirect_name(settings.redirect).into()),
        ("Dtmf", dtmf_name(settings.dtmf).into()),
        ("Ice", ice_name(settings.ice.policy).into()),
        ("Stun", stun.into()),
        ("Relays", relays.into()),
        ("State", state(view.state).into()),
        ("Reason", view.reason.into()),
        ("SipStatus", view.sip_status.into()),
        ("Expires", view.expires.into()),
        ("DigestAlgorithm", view.digest.map_or("", Algorithm::name).into()),
        ("PublicGruu", gruu(&binding.public_gruu).into()),
        ("TemporaryGruu", gruu(&binding.temporary_gruu).into()),
        ("AssociatedAddresses", associated.into()),
        ("ServiceRoute", route.into()),
        ("PushService", text(&binding.push_service).into()),
    ])
}

/// The property that changes with the clock.
pub(super) fn live(view: &AccountView, now: Instant) -> Dict {
    let left = view.retry_at.map(|at| at.saturating_duration_since(now)).unwrap_or_default();
    // Rounded up: 0 is said only when no try is to come.
    let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    Dict::from([("RetryIn", seconds.into())])
}

pub(super) fn call(
    requests: &Requests,
    account: AccountId,
    member: &str,
    body: &Body,
) -> Result<Outcome, Failure> {
    let enable = |enabled| requests.order(|reply| Request::EnableAccount { account, enabled, reply });
    let register = |register| requests.order(|reply| Request::RegisterAccount { account, register, reply });
    let order: &dyn Fn() -> _ = match member {
        "Enable" => &|| enable(true),
        "Disable" => &|| enable(false),
        "Register" => &|| register(true),
        "Unregister" => &|| register(false),
        _ => return Err(unknown_method(member)),
    };
    nothing(member, body)?;
    order()
}

pub(super) fn state(state: AccountState) -> &'static str {
    match state {
        AccountState::Disabled => Word::Disabled,
        AccountState::Ready => Word::Ready,
        AccountState::Unregistered => Word::Unregistered,
        AccountState::Registering => Word::Registering,
        AccountState::Registered => Word::Registered,
        AccountState::Failed => Word::Failed,
    }
    .as_str()
}

fn origin(origin: AccountOrigin) -> &'static str {
    match origin {
        AccountOrigin::Config => "config",
        AccountOrigin::Bus => "bus",
        AccountOrigin::BuiltIn => "built-in",
    }
}
