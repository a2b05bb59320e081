//! How a NAT or firewall behaves, in the words of RFC 4787, and nothing about how that was found out.

/// When a NAT takes another public address and port for the same local ones (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Nobody could tell.
    #[default]
    Unknown,
    /// There is no NAT.
    None,
    /// Never.
    EndpointIndependent,
    /// For each address that is sent to.
    AddressDependent,
    /// For each address and port that is sent to.
    AddressAndPortDependent,
    /// One of the last two: with servers that have no second port, nobody can tell which.
    DestinationDependent,
}

impl Mapping {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::DestinationDependent => "destination-dependent",
        }
    }
}

/// Whose packets reach a local port that has sent something (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// Nobody could tell.
    #[default]
    Unknown,
    /// Everybody's, and there is no NAT.
    None,
    /// Everybody's.
    EndpointIndependent,
    /// Those from addresses that were sent to.
    AddressDependent,
    /// Those from addresses and ports that were sent to.
    AddressAndPortDependent,
}

impl Filtering {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

/// Whether servers see the port that was sent from (RFC 4787 section 4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// Nobody could tell.
    #[default]
    Unknown,
    /// They do.
    Preserved,
    /// They see another one.
    Changed,
}

impl Ports {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Preserved => "preserved",
            Self::Changed => "changed",
        }
    }
}

/// Whether a packet to the own public address comes back (RFC 4787 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hairpin {
    /// It was not tried.
    #[default]
    Unknown,
    /// It does.
    Works,
    /// It does not.
    Fails,
}

impl Hairpin {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Works => "works",
            Self::Fails => "fails",
        }
    }
}
