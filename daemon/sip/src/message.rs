//! Requests and responses as types: what every message carries is parsed once, when it is read.

use std::fmt;

use crate::grammar;
use crate::headers::{CSeq, Headers, Via};
use crate::uri::{NameAddr, Uri};

/// A request method (RFC 3261 section 7.1). Methods are case-sensitive; what is not known is kept as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261 section 13.
    Invite,
    /// RFC 3261 section 13.2.2.4.
    Ack,
    /// RFC 3261 section 15.
    Bye,
    /// RFC 3261 section 9.
    Cancel,
    /// RFC 3261 section 11.
    Options,
    /// RFC 3261 section 10.
    Register,
    /// RFC 3262.
    Prack,
    /// RFC 3311.
    Update,
    /// RFC 6086.
    Info,
    /// RFC 3428.
    Message,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3515.
    Refer,
    /// RFC 3903.
    Publish,
    /// Every other token; make it with [`Method::new`], which never puts a known method here.
    Other(Box<str>),
}

impl Method {
    /// The method of that name; `None` when it is no token.
    pub fn new(name: &str) -> Option<Self> {
        let method = match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "REGISTER" => Self::Register,
            "PRACK" => Self::Prack,
            "UPDATE" => Self::Update,
            "INFO" => Self::Info,
            "MESSAGE" => Self::Message,
            "SUBSCRIBE" => Self::Subscribe,
            "NOTIFY" => Self::Notify,
            "REFER" => Self::Refer,
            "PUBLISH" => Self::Publish,
            other if grammar::is_token(other) => Self::Other(other.into()),
            _ => return None,
        };
        Some(method)
    }

    /// The name as it stands in a request line.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Message => "MESSAGE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Publish => "PUBLISH",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status code, 100 to 699 (RFC 3261 section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusCode(u16);

/// The codes that the stack itself sends or looks for.
#[allow(missing_docs)] // their names are their reason phrases
impl StatusCode {
    pub const TRYING: Self = Self(100);
    pub const RINGING: Self = Self(180);
    pub const SESSION_PROGRESS: Self = Self(183);
    pub const EARLY_DIALOG_TERMINATED: Self = Self(199);
    pub const OK: Self = Self(200);
    pub const BAD_REQUEST: Self = Self(400);
    pub const UNAUTHORIZED: Self = Self(401);
    pub const FORBIDDEN: Self = Self(403);
    pub const NOT_FOUND: Self = Self(404);
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    pub const NOT_ACCEPTABLE: Self = Self(406);
    pub const PROXY_AUTHENTICATION_REQUIRED: Self = Self(407);
    pub const REQUEST_TIMEOUT: Self = Self(408);
    pub const REQUEST_URI_TOO_LONG: Self = Self(414);
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self(415);
    pub const UNSUPPORTED_URI_SCHEME: Self = Self(416);
    pub const BAD_EXTENSION: Self = Self(420);
    pub const EXTENSION_REQUIRED: Self = Self(421);
    pub const SESSION_INTERVAL_TOO_SMALL: Self = Self(422);
    pub const INTERVAL_TOO_BRIEF: Self = Self(423);
    pub const BAD_INFO_PACKAGE: Self = Self(469);
    pub const TEMPORARILY_UNAVAILABLE: Self = Self(480);
    pub const CALL_OR_TRANSACTION_DOES_NOT_EXIST: Self = Self(481);
    pub const LOOP_DETECTED: Self = Self(482);
    pub const TOO_MANY_HOPS: Self = Self(483);
    pub const BUSY_HERE: Self = Self(486);
    pub const REQUEST_TERMINATED: Self = Self(487);
    pub const NOT_ACCEPTABLE_HERE: Self = Self(488);
    pub const REQUEST_PENDING: Self = Self(491);
    pub const SERVER_INTERNAL_ERROR: Self = Self(500);
    pub const NOT_IMPLEMENTED: Self = Self(501);
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    pub const SERVER_TIME_OUT: Self = Self(504);
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);
    pub const MESSAGE_TOO_LARGE: Self = Self(513);
    pub const DECLINE: Self = Self(603);
}

impl StatusCode {
    /// `None` unless `code` lies in 100..=699.
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 100 && code <= 699 { Some(Self(code)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// 1xx.
    pub const fn is_provisional(self) -> bool {
        self.0 < 200
    }

    /// 2xx.
    pub const fn is_success(self) -> bool {
        self.0 / 100 == 2
    }

    /// 3xx.
    pub const fn is_redirection(self) -> bool {
        self.0 / 100 == 3
    }

    /// The default reason phrase: as registered, for an unknown code the name of its class.
    pub fn reason(self) -> &'static str {
        use rsip::StatusCode as Known;
        match Known::from(self.0) {
            Known::Trying => "Trying",
            Known::Ringing => "Ringing",
            Known::CallIsBeingForwarded => "Call Is Being Forwarded",
            Known::Queued => "Queued",
            Known::SessionProgress => "Session Progress",
            Known::EarlyDialogTerminated => "Early Dialog Terminated",
            Known::OK => "OK",
            Known::NoNotification => "No Notification",
            Known::MultipleChoices => "Multiple Choices",
            Known::MovedPermanently => "Moved Permanently",
            Known::MovedTemporarily => "Moved Temporarily",
            Known::UseProxy => "Use Proxy",
            Known::AlternativeService => "Alternative Service",
            Known::BadRequest => "Bad Request",
            Known::Unauthorized => "Unauthorized",
            Known::PaymentRequired => "Payment Required",
            Known::Forbidden => "Forbidden",
            Known::NotFound => "Not Found",
            Known::MethodNotAllowed => "Method Not Allowed",
            Known::NotAcceptable => "Not Acceptable",
            Known::ProxyAuthenticationRequired => "Proxy Authentication Required",
            Known::RequestTimeout => "Request Timeout",
            Known::Conflict => "Conflict",
            Known::Gone => "Gone",
            Known::LengthRequired => "Length Required",
            Known::ConditionalRequestFailed => "Conditional Request Failed",
            Known::RequestEntityTooLarge => "Request Entity Too Large",
            Known::RequestUriTooLong => "Request-URI Too Long",
            Known::UnsupportedMediaType => "Unsupported Media Type",
            Known::UnsupportedUriScheme => "Unsupported URI Scheme",
            Known::UnknownResourcePriority => "Unknown Resource-Priority",
            Known::BadExtension => "Bad Extension",
            Known::ExtensionRequired => "Extension Required",
            Known::SessionIntervalTooSmall => "Session Interval Too Small",
            Known::IntervalTooBrief => "Interval Too Brief",
            Known::BadLocationInformation => "Bad Location Information",
            Known::UseIdentityHeader => "Use Identity Header",
            Known::ProvideReferrerIdentity => "Provide Referrer Identity",
            Known::AnonymityDisallowed => "Anonymity Disallowed",
            Known::BadIdentityInfo => "Bad Identity Info",
            Known::UnsupportedCertificate => "Unsupported Credential",
            Known::InvalidIdentityHeader => "Invalid Identity Header",
            Known::FirstHopLacksOutboundSupport => "First Hop Lacks Outbound Support",
            Known::MaxBreadthExceeded => "Max-Breadth Exceeded",
            Known::BadInfoPackage => "Bad Info Package",
            Known::ConsentNeeded => "Consent Needed",
            Known::TemporarilyUnavailable => "Temporarily Unavailable",
            Known::CallTransactionDoesNotExist => "Call/Transaction Does Not Exist",
            Known::LoopDetected => "Loop Detected",
            Known::TooManyHops => "Too Many Hops",
            Known::AddressIncomplete => "Address Incomplete",
            Known::Ambiguous => "Ambiguous",
            Known::BusyHere => "Busy Here",
            Known::RequestTerminated => "Request Terminated",
            Known::NotAcceptableHere => "Not Acceptable Here",
            Known::BadEvent => "Bad Event",
            Known::RequestPending => "Request Pending",
            Known::Undecipherable => "Undecipherable",
            Known::SecurityAgreementRequired => "Security Agreement Required",
            Known::ServerInternalError => "Server Internal Error",
            Known::NotImplemented => "Not Implemented",
            Known::BadGateway => "Bad Gateway",
            Known::ServiceUnavailable => "Service Unavailable",
            Known::ServerTimeOut => "Server Time-out",
            Known::VersionNotSupported => "Version Not Supported",
            Known::MessageTooLarge => "Message Too Large",
            Known::PreconditionFailure => "Precondition Failure",
            Known::BusyEverywhere => "Busy Everywhere",
            Known::Decline => "Decline",
            Known::DoesNotExistAnywhere => "Does Not Exist Anywhere",
            Known::NotAcceptableGlobal => "Not Acceptable",
            Known::Unwanted => "Unwanted",
            // rsip takes 201 for RFC 6665's 202.
            Known::Accepted | Known::Other(..) => self.unnamed_reason(),
        }
    }

    /// Codes that rsip's vocabulary lacks, then the classes of RFC 3261 section 7.2.
    fn unnamed_reason(self) -> &'static str {
        match (self.0, self.0 / 100) {
            (202, _) => "Accepted",
            (425, _) => "Bad Alert Message",
            (430, _) => "Flow Failed",
            (555, _) => "Push Notification Service Not Supported",
            (608, _) => "Rejected",
            (_, 1) => "Provisional",
            (_, 2) => "Success",
            (_, 3) => "Redirection",
            (_, 4) => "Request Failure",
            (_, 5) => "Server Failure",
            _ => "Global Failure",
        }
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request (RFC 3261 section 7.1). `via` holds at least one entry, topmost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The method of the request line.
    pub method: Method,
    /// The Request-URI.
    pub uri: Uri,
    /// Every Via value, comma lists split.
    pub via: Vec<Via>,
    /// From; without a tag where the peer speaks RFC 2543.
    pub from: NameAddr,
    /// To; with a tag inside of a dialog.
    pub to: NameAddr,
    /// Call-ID.
    pub call_id: String,
    /// The sequence number; the CSeq method of a request is always `method`.
    pub cseq: u32,
    /// Max-Forwards; 70 where the request has none (RFC 2543).
    pub max_forwards: u8,
    /// All other header fields but Content-Length, in their order, under their long names.
    pub headers: Headers,
    /// The body, as long as Content-Length says.
    pub body: Vec<u8>,
}

/// A response (RFC 3261 section 7.2). `via` holds at least one entry, topmost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase; may be empty.
    pub reason: String,
    /// Every Via value, comma lists split.
    pub via: Vec<Via>,
    /// From of the request.
    pub from: NameAddr,
    /// To of the request with a tag (but for 100).
    pub to: NameAddr,
    /// Call-ID of the request.
    pub call_id: String,
    /// CSeq of the request.
    pub cseq: CSeq,
    /// All other header fields but Content-Length, in their order, under their long names.
    pub headers: Headers,
    /// The body, as long as Content-Length says.
    pub body: Vec<u8>,
}

/// A SIP message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Asks.
    Request(Request),
    /// Answers.
    Response(Response),
}

impl Request {
    /// A response to this request as RFC 3261 section 8.2.6.2 wants it: Via, From, To, Call-ID and CSeq copied
    /// (also Record-Route for dialog-making 1xx/2xx is the caller's), the default reason phrase, no To tag added.
    pub fn response(&self, status: StatusCode) -> Response {
        Response {
            status,
            reason: status.reason().to_owned(),
            via: self.via.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            call_id: self.call_id.clone(),
            cseq: CSeq { seq: self.cseq, method: self.method.clone() },
            headers: Headers::default(),
            body: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_rsip_has_its_name_here() {
        for known in rsip::Method::all() {
            let name = known.to_string();
            let method = Method::new(&name).unwrap();
            assert!(!matches!(method, Method::Other(_)), "{name}");
            assert_eq!(method.as_str(), name);
        }
    }

    #[test]
    fn methods_are_case_sensitive_tokens() {
        assert_eq!(Method::new("invite"), Some(Method::Other("invite".into())));
        for bad in ["", "IN VITE", "INVITE\r\n", "É", "a/b"] {
            assert_eq!(Method::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_status_code_has_a_reason_phrase() {
        for code in 100..700 {
            let reason = StatusCode::new(code).unwrap().reason();
            assert!(
                reason.chars().all(|c| c.is_ascii_alphanumeric() || " -/".contains(c)) && !reason.is_empty()
            );
        }
        let reason = |code| StatusCode::new(code).unwrap().reason();
        assert_eq!(reason(202), "Accepted");
        assert_eq!(reason(201), "Success");
        assert_eq!(reason(488), "Not Acceptable Here");
        assert_eq!(reason(599), "Server Failure");
        assert_eq!(StatusCode::new(99), None);
        assert_eq!(StatusCode::new(700), None);
    }
}
