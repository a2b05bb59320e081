//! What the endpoint tells its owner.

use std::net::SocketAddr;

use super::{Binding, Flow, FragmentId, IdentityId, RegistrationState, SessionEnd, SessionId};
use crate::caller::Caller;
use crate::digest::Algorithm;
use crate::message::StatusCode;
use crate::uri::{NameAddr, Uri};

/// What happened.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // see `Output`
pub enum Event {
    /// A registration's state changed. A refresh that is granted the same time changes nothing.
    Registration {
        /// Whose.
        identity: IdentityId,
        /// What it is now.
        state: RegistrationState,
    },
    /// The weakest digest algorithm that the identity's servers are answered with has changed.
    Digest {
        /// Whose.
        identity: IdentityId,
        /// The weakest of all realms.
        algorithm: Algorithm,
    },
    /// What the registrar says of the binding has changed; told before the state, and empty when the binding is gone.
    Bound {
        /// Whose.
        identity: IdentityId,
        /// All of it.
        binding: Box<Binding>,
    },
    /// A server of the identity sees us under another address than before (RFC 3581).
    Seen {
        /// Whose server.
        identity: IdentityId,
        /// Between our own address and which of its servers.
        flow: Flow,
        /// As whom before, where somebody translated.
        before: Option<SocketAddr>,
        /// As whom; `None` as who we are: nobody translates.
        address: Option<SocketAddr>,
    },
    /// A new inbound session. Answer in the same drain with `ring`, `accept` or `reject`, or at leisure: 100 is sent
    /// after 200 ms.
    Incoming(Incoming),
    /// The target of an outbound session is resolved. Answer with
    /// [`Endpoint::send_invite`](super::Endpoint::send_invite).
    OfferWanted {
        /// Which session.
        session: SessionId,
        /// What the INVITE will travel on first.
        flow: Flow,
    },
    /// A provisional response above 100.
    Progress {
        /// Which session.
        session: SessionId,
        /// Its status.
        status: StatusCode,
        /// An early answer to the INVITE's offer; with forking, each callee may bring its own.
        sdp: Option<Vec<u8>>,
        /// To tag: tells the early dialogs of an INVITE that forked apart; empty where there is no tag.
        dialog: String,
    },
    /// The call goes on to another target, by a 3xx that is followed; or to the same once more, since no answer can come
    /// to the address that it was called from. [`Event::OfferWanted`] comes again, and early dialogs are forgotten.
    Redirected {
        /// Which session.
        session: SessionId,
        /// Who is called now.
        target: Uri,
    },
    /// 2xx to our INVITE; the ACK is sent already.
    Answered {
        /// Which session.
        session: SessionId,
        /// The answer to the INVITE's offer; `None` where what [`Event::Progress`] and the offers after it brought last
        /// holds.
        sdp: Option<Vec<u8>>,
        /// To of the 2xx; its tag tells which early dialog has won.
        peer: NameAddr,
        /// P-Asserted-Identity of who has answered (RFC 3325), where it comes from the identity's own servers.
        asserted: Vec<NameAddr>,
    },
    /// ACK to our 2xx, of an INVITE or a re-INVITE; or a re-INVITE in its place, where only the ACK was lost. Before
    /// that, where [`Endpoint::ring`](super::Endpoint::ring) has made the offer: the PRACK that answers it.
    Confirmed {
        /// Which session.
        session: SessionId,
        /// The answer, where our 2xx or provisional response had the offer.
        sdp: Option<Vec<u8>>,
    },
    /// The peer offers anew, in a re-INVITE, an UPDATE or a PRACK: answer with
    /// [`Endpoint::answer_offer`](super::Endpoint::answer_offer). In a session that is not answered yet, this too may
    /// come.
    Offered {
        /// Which session.
        session: SessionId,
        /// The offer; a re-INVITE without one wants it in our answer.
        sdp: Option<Vec<u8>>,
    },
    /// How our offer ended ([`Endpoint::offer`](super::Endpoint::offer)). 491 is retried by itself (RFC 3261 section
    /// 14.1) and reported only where the peer offered anew before the retry: ours is given up then, since it was made
    /// for what was before.
    OfferDone {
        /// Which session.
        session: SessionId,
        /// The answer, or the status that refused it; 503 stands for a transport that could not deliver.
        result: Result<Option<Vec<u8>>, StatusCode>,
    },
    /// The session timer wants the session refreshed by a re-INVITE, since the peer takes no UPDATE (RFC 4028 section
    /// 7.4): answer with [`Endpoint::offer`](super::Endpoint::offer) of what is agreed already. Every offer refreshes.
    RefreshWanted {
        /// Which session.
        session: SessionId,
    },
    /// The peer has sent a digit in INFO; it is answered already.
    Digit {
        /// Which session.
        session: SessionId,
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: char,
        /// How long it was pressed, in milliseconds.
        duration_ms: u32,
    },
    /// How the INFO of [`Endpoint::send_digit`](super::Endpoint::send_digit) ended.
    DigitSent {
        /// Which session.
        session: SessionId,
        /// Answered with 2xx.
        taken: bool,
    },
    /// The peer has sent candidates in INFO (RFC 8840), in a session that trickles: answer with
    /// [`Endpoint::answer_fragment`](super::Endpoint::answer_fragment).
    Fragment {
        /// Which session.
        session: SessionId,
        /// Number of the question.
        id: FragmentId,
        /// As it came, of type `application/trickle-ice-sdpfrag`.
        body: Vec<u8>,
    },
    /// How the INFO of [`Endpoint::send_fragment`](super::Endpoint::send_fragment) ended.
    FragmentSent {
        /// Which session.
        session: SessionId,
        /// Answered with 2xx.
        taken: bool,
    },
    /// The connection by which servers reached us in a session was lost, and another has taken its place: whoever is on
    /// the way may know us by the lost one alone. The peer is to be told where we are
    /// ([`Endpoint::offer`](super::Endpoint::offer)), as after
    /// [`Endpoint::handle_network`](super::Endpoint::handle_network).
    Reconnected {
        /// Which session.
        session: SessionId,
    },
    /// How an in-dialog OPTIONS ([`Endpoint::probe`](super::Endpoint::probe)) ended. 408, 481 or no answer ends the
    /// session too; a transport that could not deliver does not.
    Probed {
        /// Which session.
        session: SessionId,
        /// Any other answer means that the peer lives.
        alive: bool,
    },
    /// The session is over: the number means nothing any more.
    Ended {
        /// Which session.
        session: SessionId,
        /// How and why.
        end: SessionEnd,
    },
}

/// An INVITE that begins a session.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its number from now on.
    pub session: SessionId,
    /// Whose registered contact the Request-URI names, if the INVITE also came from that identity's servers.
    pub identity: Option<IdentityId>,
    /// Whom the INVITE is for.
    pub request_uri: Uri,
    /// Who calls, as the peer says.
    pub from: NameAddr,
    /// Who was called first, as the peer says.
    pub to: NameAddr,
    /// What it came on.
    pub flow: Flow,
    /// Its Call-ID.
    pub call_id: String,
    /// SDP; `None` asks for an offer in our 2xx.
    pub offer: Option<Vec<u8>>,
    /// What the INVITE says of its caller beside From.
    pub caller: Caller,
    /// The caller wants every provisional response to be reliable (RFC 3262): where it makes no offer, the first has
    /// to.
    pub reliable: bool,
}
