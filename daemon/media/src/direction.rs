//! Media direction (RFC 3264 section 5.1): who may send, as one side sees it; not why.

/// Media direction as this side sees it (RFC 3264 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both send and receive.
    SendRecv,
    /// This side sends and does not listen: it holds the call.
    SendOnly,
    /// This side listens and does not send.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    const ALL: [Direction; 4] =
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive];

    /// The direction with exactly these rights.
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether this side may send.
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether this side wants to receive.
    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same direction as the other side sees it.
    pub const fn reversed(self) -> Self {
        Direction::new(self.receives(), self.sends())
    }

    /// What both allow (RFC 3264 section 6.1, when one of them is [reversed](Direction::reversed)).
    pub const fn and(self, other: Self) -> Self {
        Direction::new(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// The name of the SDP attribute (RFC 8866 section 6.7).
    pub(crate) const fn attribute(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// The direction that an SDP attribute of this name gives, if it gives one.
    pub(crate) fn from_attribute(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| direction.attribute().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversing_swaps_sending_and_receiving() {
        assert_eq!(Direction::SendOnly.reversed(), Direction::RecvOnly);
        assert_eq!(Direction::RecvOnly.reversed(), Direction::SendOnly);
        assert_eq!(Direction::SendRecv.reversed(), Direction::SendRecv);
        assert_eq!(Direction::Inactive.reversed(), Direction::Inactive);
    }

    #[test]
    fn both_must_allow() {
        assert_eq!(Direction::SendRecv.and(Direction::SendOnly), Direction::SendOnly);
        assert_eq!(Direction::RecvOnly.and(Direction::SendOnly), Direction::Inactive);
        assert_eq!(Direction::SendRecv.and(Direction::SendRecv), Direction::SendRecv);
    }

    #[test]
    fn attributes_are_read_in_any_case() {
        for direction in Direction::ALL {
            assert_eq!(Direction::from_attribute(direction.attribute()), Some(direction));
        }
        assert_eq!(Direction::from_attribute("SendOnly"), Some(Direction::SendOnly));
        assert_eq!(Direction::from_attribute("rtpmap"), None);
    }
}
