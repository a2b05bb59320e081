//! Why a server cannot be reached is told by name, of accounts and of calls.

use crate::common::{World, sip, udp};
use voipd_agent::view::{AccountState, Reason};
use voipd_sip::endpoint::{CertificateFault, TransportError};

const NAMED: [(TransportError, Reason, &str); 12] = [
    (TransportError::Refused, Reason::Unreachable, "unreachable"),
    (TransportError::NoRoute, Reason::Unreachable, "unreachable"),
    (TransportError::TimedOut, Reason::Unreachable, "unreachable"),
    (TransportError::Closed, Reason::Unreachable, "unreachable"),
    (
        TransportError::Certificate(CertificateFault::Expired),
        Reason::CertificateExpired,
        "certificate-expired",
    ),
    (
        TransportError::Certificate(CertificateFault::NotYetValid),
        Reason::CertificateNotYetValid,
        "certificate-not-yet-valid",
    ),
    (
        TransportError::Certificate(CertificateFault::WrongName),
        Reason::CertificateWrongName,
        "certificate-wrong-name",
    ),
    (
        TransportError::Certificate(CertificateFault::UnknownIssuer),
        Reason::CertificateUnknownIssuer,
        "certificate-unknown-issuer",
    ),
    (
        TransportError::Certificate(CertificateFault::NotPinned),
        Reason::CertificateNotPinned,
        "certificate-not-pinned",
    ),
    (TransportError::Certificate(CertificateFault::Unfit), Reason::CertificateUnfit, "certificate-unfit"),
    (TransportError::ClientCertificate, Reason::ClientCertificate, "client-certificate"),
    (TransportError::Handshake, Reason::TlsFailed, "tls-failed"),
];

#[test]
fn a_failed_registration_and_a_failed_call_name_the_fault() {
    for (error, reason, name) in NAMED {
        let mut world = World::new();
        let host = world.phone("192.0.2.2:5060");
        let server = "203.0.113.1:5060";
        // Nobody answers there: what the transport says is all that is heard.
        world.name("example.org", &[server]);
        let flow = udp(world.address(host), server.parse().unwrap());
        let account = world.account(host, sip("work", "sip:alice@example.org", "secret-pw"));
        world.run_ms(100);
        world.act(host, |agent, now| agent.handle_failed(now, flow, error));
        let view = world.account_view(host, account);
        assert_eq!((view.state, view.reason), (AccountState::Failed, name));
        assert!(view.retry_at.is_some(), "{name}: it is tried again");

        let call = world.dial(host, "sip:bob@example.org");
        world.run_ms(100);
        world.act(host, |agent, now| agent.handle_failed(now, flow, error));
        assert_eq!(world.end(host, call), (reason, 0));
        assert_eq!(reason.name(), name);
    }
}
