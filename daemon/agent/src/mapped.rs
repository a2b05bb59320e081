//! Media ports that a router has mapped: where peers outside the local network are told to send.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use voipd_media::LocalMedia;
use voipd_sip::endpoint::Transport;

use crate::agent::Agent;
use crate::call::{Call, Phase};
use crate::ice_settings::IcePolicy;
use crate::view::CallId;

impl Agent {
    /// Whether the call's media ports are worth mapping at the router: its peer, as far as one knows, is outside the local
    /// network. To be asked when [`crate::Output::BindMedia`] comes.
    pub fn wants_mapping(&self, call: CallId) -> bool {
        let Some(call) = self.calls.get(&call) else { return false };
        let account = self.accounts.get(call.account);
        // The peer shall not learn where we are.
        if account.is_some_and(|account| account.settings.ice.policy == IcePolicy::Relay) {
            return false;
        }
        let offered = call.negotiation.offered_address().filter(|address| !address.is_unspecified());
        offered.or(call.faces).is_some_and(is_outside)
    }

    /// Whether the router's firewall should let in what is sent to the call's media ports by IPv6: its peer, as far as one
    /// knows, is outside the local network, and has no ICE, by which both sides would open their firewalls. To be asked when
    /// [`crate::Output::BindMedia`] comes.
    pub fn wants_pinhole(&self, call: CallId) -> bool {
        let Some(known) = self.calls.get(&call).filter(|_| !self.offers_ice(call)) else { return false };
        let offered = known.negotiation.offered_address().filter(|address| !address.is_unspecified());
        let peer = offered.or(known.faces);
        peer.is_some_and(|peer| matches!(peer.to_canonical(), IpAddr::V6(ip) if is_global_ipv6(ip)))
    }

    /// Where the call's media ports are reached from outside: once before the answer to [`crate::Output::BindMedia`] where
    /// that is known by then, and whenever it changes. A peer that was told the old place hears of it in a re-INVITE, as
    /// soon as a network leads to it. What led to the sockets of before is forgotten with the answer to
    /// [`crate::Output::MoveMedia`].
    pub fn handle_media_mapped(&mut self, now: Instant, call: CallId, mapped: Option<LocalMedia>) {
        let Some(known) = self.calls.get_mut(&call).filter(|call| !call.is_ended()) else { return };
        let old = std::mem::replace(&mut known.mapped, mapped);
        known.trickle.expect_mapping(false);
        known.advertised = known.advertised.filter(|advertised| Some(*advertised) != old);
        let told = old.is_some() && known.told_media == old;
        // It was told our own address, to which nothing leads from where it is.
        let late = old.is_none() && known.told_media.is_some_and(|told| Some(told) != mapped);
        if mapped.is_some() && old != mapped {
            self.offer_mapped(now, call);
        }
        let Some(known) = self.calls.get(&call) else { return };
        // Where the call is on its way to other sockets, the offer that tells it of those is the next.
        let goes_on = known.phase == Phase::Active && known.is_streaming() && !known.whereabouts.is_moving();
        if told && old != mapped && goes_on {
            if known.whereabouts.is_stranded() {
                // The timeout of a re-INVITE would end the call before the wait for a network is over.
                if let Some(known) = self.calls.get_mut(&call) {
                    known.whereabouts.due();
                }
            } else {
                self.offer_anew(now, call);
            }
        }
        if late && mapped.is_some() && self.wants_mapping(call) {
            if let Some(known) = self.calls.get_mut(&call) {
                known.whereabouts.due();
            }
            self.tell_news(now, call);
        }
        self.settle(now);
    }

    /// Where the router lets in what is meant for the port that SIP listens on.
    pub fn handle_sip_mapped(&mut self, transport: Transport, port: u16, external: Option<SocketAddr>) {
        self.endpoint.set_mapped(transport, port, external);
    }
}

impl Call {
    /// What the next description names as the place where media comes to.
    pub(crate) fn announced(&mut self, local: LocalMedia) -> LocalMedia {
        // ICE names what is mapped among its candidates, and has to know the sockets themselves.
        let plain = self.mapped.filter(|_| self.ice.is_none());
        let announced = self.describe_ice(plain.unwrap_or(local));
        self.described_media = Some(announced);
        // Where ICE finds the way, what stands here moves nothing.
        self.told_media = self.ice.is_none().then_some(announced);
        announced
    }
}

/// Neither this machine nor a private network: whoever is there does not reach our own address.
pub fn is_outside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let here = ip.is_private() || ip.is_loopback() || ip.is_link_local();
            !(here || ip.is_multicast() || ip.is_broadcast())
        }
        // Nothing is mapped for IPv6.
        IpAddr::V6(_) => false,
    }
}

/// An address of the Internet (RFC 4291 section 2.4).
pub fn is_global_ipv6(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000
}
