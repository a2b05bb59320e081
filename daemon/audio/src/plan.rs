//! Plain data that says what the engine shall do: stream plans, ports, commands, events, counters.

use std::net::SocketAddr;

/// A port of the mixer. Drawn by the control side, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// An audio codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 6716, mono, 48 kHz.
    Opus,
    /// ITU-T G.711, µ-law, 8 kHz.
    Pcmu,
    /// ITU-T G.711, A-law, 8 kHz.
    Pcma,
    /// ITU-T G.722 at 64 kbit/s, 16 kHz.
    G722,
    /// 16-bit samples (RFC 3551 section 4.5.11), 8 kHz.
    L16Narrow,
    /// 16-bit samples, 16 kHz.
    L16Wide,
    /// 16-bit samples, 48 kHz.
    L16Full,
    /// ITU-T G.726 at 32 kbit/s, 8 kHz.
    G726,
    /// The same in the packing of AAL2 (ITU-T I.366.2 annex E).
    G726Aal2,
    /// GSM 06.10 full rate, 8 kHz.
    Gsm,
    /// Speex, 8 kHz.
    SpeexNarrow,
    /// Speex, 16 kHz.
    SpeexWide,
    /// ITU-T G.729, 8 kHz.
    G729,
}

impl Codec {
    /// How many there are.
    pub(crate) const COUNT: usize = 13;

    /// All of them.
    pub const ALL: [Codec; Self::COUNT] = [
        Codec::Opus,
        Codec::Pcmu,
        Codec::Pcma,
        Codec::G722,
        Codec::L16Narrow,
        Codec::L16Wide,
        Codec::L16Full,
        Codec::G726,
        Codec::G726Aal2,
        Codec::Gsm,
        Codec::SpeexNarrow,
        Codec::SpeexWide,
        Codec::G729,
    ];

    /// Place in a table of [`Codec::COUNT`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// All that decides how the packets of a stream look and where they go. It changes as one; every plan of a stream has
/// a higher generation than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPlan {
    /// Higher than that of the plan before.
    pub generation: u32,
    /// The way packets take.
    pub path: Path,
    /// How packets are protected.
    pub protection: Protection,
    /// SSRC of what we send, drawn at random. First sequence number and timestamp follow from it; another one in a
    /// later plan begins a new RTP source.
    pub ssrc: u32,
    /// `None`: nothing is sent (held, receive-only).
    pub send: Option<SendPlan>,
    /// Where nothing is sent: empty packets of this payload type, of which the peer knows nothing, let routers on the way
    /// go on passing what comes (RFC 6263 section 4.6). They are in no counter.
    pub keep_open: Option<u8>,
    /// What may arrive: payload type and meaning. Others are counted and dropped.
    pub receive: Vec<(u8, ReceiveKind)>,
    /// What arrives is played (false while held: packets are counted and dropped).
    pub play: bool,
}

/// The way packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Straight to this address; with `symmetric`, to wherever valid packets come from (RFC 4961), once
    /// an address has shown itself by several packets in a row.
    Udp {
        /// Where the peer says that it receives.
        remote: SocketAddr,
        /// Whether the stream follows the peer to another address.
        symmetric: bool,
    },
    /// In a channel of a TURN server that is reached from the stream's own socket (RFC 8656 section 12): each packet has
    /// four bytes before it.
    TurnChannel {
        /// The TURN server.
        server: SocketAddr,
        /// 0x4000 to 0x4FFF.
        channel: u16,
    },
    /// In a channel of a TURN server that is reached by TCP or TLS, through rings to whoever has the connection
    /// ([`crate::engine::Controller::attach_relay`]). Without them, nothing is sent.
    Stream {
        /// The peer behind the server; its packets seem to come from here.
        peer: SocketAddr,
        /// Which connection: the control side's number, of no meaning to the engine.
        link: u32,
        /// 0x4000 to 0x4FFF.
        channel: u16,
    },
}

impl Path {
    /// Where packets go first, and where the peer's seem to come from.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        match self {
            Path::Udp { remote, .. } => *remote,
            Path::TurnChannel { server, .. } => *server,
            Path::Stream { peer, .. } => *peer,
        }
    }

    pub(crate) fn is_symmetric(&self) -> bool {
        matches!(self, Path::Udp { symmetric: true, .. })
    }
}

/// How packets are protected. SRTP takes its place here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Plain RTP.
    None,
}

/// How we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPlan {
    /// What the peer takes.
    pub codec: Codec,
    /// The peer's number for it.
    pub payload_type: u8,
    /// 10, 20, 30, 40 or 60; Opus, which has no 30, takes 20 instead.
    pub ptime_ms: u16,
    /// telephone-event: payload type and clock rate in hertz. Mostly the codec's rate; some peers take 8000 beside
    /// Opus. Durations are told in its units, timestamps stay those of the stream.
    pub events: Option<(u8, u32)>,
    /// Opus only, bits per second.
    pub bitrate: Option<u32>,
    /// Opus only: in-band forward error correction.
    pub fec: bool,
    /// Opus only: nothing is sent in silence.
    pub dtx: bool,
    /// Opus only: every packet has the same length.
    pub cbr: bool,
    /// Opus only: the highest rate in hertz that the peer plays (RFC 7587 `maxplaybackrate`).
    pub max_playback_rate: Option<u32>,
    /// The peer's number for comfort noise (RFC 3389) at the codec's clock, where silence is to be suppressed: then a
    /// description of the noise is sent in pauses, and nothing else. Opus has its own way ([`SendPlan::dtx`]).
    pub comfort_noise: Option<u8>,
    /// The peer's number for redundant audio data (RFC 2198) at the codec's clock, where it takes that. Nothing is sent
    /// so before [`Steering`] asks for it.
    pub redundancy: Option<u8>,
}

/// How a running stream is sent, as far as the peer need not be asked about it: what the network's state suggests. It
/// outlives plans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// Opus only: bits per second, never above [`SendPlan::bitrate`]. `None`: the codec's usual rate.
    pub bitrate: Option<u32>,
    /// Milliseconds in each packet, from the next one on. `None`: as the plan says.
    pub ptime_ms: Option<u16>,
    /// Opus only: in-band forward error correction, where [`SendPlan::fec`] allows it.
    pub fec: bool,
    /// Opus only: bits are scarce, so more care is taken with them than with other streams' where the tick's load does not
    /// allow all care for all.
    pub careful: bool,
    /// Earlier frames that each packet repeats, at most 2, where [`SendPlan::redundancy`] allows it.
    pub copies: u8,
}

/// What a payload type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveKind {
    /// Sound of this codec.
    Audio(Codec),
    /// telephone-event with its clock rate in hertz.
    Events(u32),
    /// Comfort noise (RFC 3389) with its clock rate in hertz.
    ComfortNoise(u32),
    /// Packets of RFC 2198, whose blocks have payload types of their own.
    Redundant,
}

/// Which end of a stream is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// This one: what is sent.
    Near,
    /// The peer: what is received.
    Far,
}

/// What the real-time side reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EngineEvent {
    /// A telephone event ended, or was no longer heard of.
    DtmfReceived {
        /// The stream.
        port: PortId,
        /// `0`–`9`, `*`, `#`, `A`–`D`, or `!` for flash.
        digit: char,
        /// As the peer told it.
        duration_ms: u32,
    },
    /// A telephone event has been sent, or was broken off by a plan that sends otherwise.
    DtmfSent {
        /// The stream.
        port: PortId,
        /// As it was asked for.
        digit: char,
    },
    /// The first valid packet of the stream arrived.
    FirstPacket {
        /// The stream.
        port: PortId,
    },
    /// Symmetric RTP moved the stream to this address.
    RemoteChanged {
        /// The stream.
        port: PortId,
        /// Where it is sent to from now on.
        remote: SocketAddr,
    },
    /// The peer's SSRC changed.
    SsrcChanged {
        /// The stream.
        port: PortId,
        /// The new one.
        ssrc: u32,
    },
    /// Somebody else's packets come in under the SSRC that this stream sends with (RFC 3550 section 8.2); told once for
    /// each SSRC.
    SsrcCollision {
        /// The stream.
        port: PortId,
        /// Who sends them.
        source: SocketAddr,
    },
    /// What this stream sends comes back as it is: a reflector, such as an echo test, or a loop. Told once for each SSRC.
    Reflected {
        /// The stream.
        port: PortId,
        /// Who sends it back.
        source: SocketAddr,
    },
    /// Somebody has begun to talk, or has stopped; only where [`crate::Controller::watch_activity`] asked for it.
    Activity {
        /// The stream.
        port: PortId,
        /// Who.
        heard: Heard,
        /// Whether talk begins; else silence does.
        talking: bool,
        /// The loudest 10 ms since the change before, in dBov.
        level_dbov: i8,
    },
    /// A source port that ends (a file player) has given its last sample.
    SourceEnded {
        /// The device port.
        port: PortId,
    },
    /// A tone of limited length ended.
    ToneEnded {
        /// The port that played it.
        port: PortId,
    },
}

/// Figures of a stream since it was opened. Always current; read without disturbing the tick. Before there is a stream, they
/// are zero and the levels those of silence: that is the default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamCounters {
    /// Valid RTP packets, telephone events among them.
    pub packets_received: u64,
    /// Payload octets of these.
    pub octets_received: u64,
    /// RTP packets handed to the system.
    pub packets_sent: u64,
    /// Payload octets of these.
    pub octets_sent: u64,
    /// The system would not take them.
    pub packets_unsent: u64,
    /// Telephone events sent or broken off.
    pub events_sent: u64,
    /// Never arrived, by sequence number.
    pub packets_lost: u64,
    /// Arrived after their place was played.
    pub packets_late: u64,
    /// Arrived more than once.
    pub packets_duplicate: u64,
    /// Arrived behind a later one.
    pub packets_reordered: u64,
    /// Neither RTP nor RTCP, unknown payload type, foreign source.
    pub packets_invalid: u64,
    /// Dropped because a buffer was full.
    pub packets_discarded: u64,
    /// Lost packets that a copy in a later one has replaced (RFC 2198); they count as lost nevertheless.
    pub packets_restored: u64,
    /// Lost packets that Opus's in-band forward error correction has replaced; they count as lost nevertheless.
    pub packets_corrected: u64,
    /// Frames of 10 ms that were decoded, and those of the sender's pauses.
    pub frames_played: u64,
    /// Frames of 10 ms that were made up in the place of what was lost or late; known with the packet that comes next.
    pub frames_concealed: u64,
    /// Bursts of losses (RFC 3611 section 4.7.2, Gmin 16); late packets count as lost here and in the five that follow,
    /// which lag 64 packets behind.
    pub bursts: u64,
    /// Packets, missing or not, in these bursts.
    pub burst_packets: u64,
    /// Missing packets in these bursts.
    pub burst_missing: u64,
    /// Packets outside of bursts.
    pub gap_packets: u64,
    /// Missing packets outside of bursts.
    pub gap_missing: u64,
    /// Times that one or more packets in a row were missing.
    pub loss_runs: u64,
    /// Interarrival jitter (RFC 3550) in microseconds.
    pub jitter_us: u64,
    /// Delay of the jitter buffer now, in microseconds.
    pub buffer_us: u64,
    /// Delay that the jitter buffer aims at, in microseconds.
    pub buffer_target_us: u64,
    /// How long sound waits beyond the fastest packet's time on its way to us, by the packets of the last second, in
    /// microseconds: what queues on the way hold.
    pub queued_us: u64,
    /// The same by the packets of the last 0.1 to 0.2 s, in microseconds: known sooner, and jitter deceives it.
    pub queued_now_us: u64,
    /// SSRC of what is sent.
    pub sent_ssrc: u32,
    /// Sequence number of the packet that is sent next.
    pub sent_sequence: u16,
    /// Bits per second that Opus is asked for; 0 for codecs without a choice, and where nothing is sent.
    pub send_bitrate: u32,
    /// Milliseconds in each packet sent; 0 where nothing is sent.
    pub send_ptime_ms: u16,
    /// Earlier frames that the last packet of sound sent repeats (RFC 2198).
    pub send_copies: u8,
    /// 1 where packets sent carry Opus's in-band forward error correction.
    pub send_fec: u8,
    /// Milliseconds in the packet of sound that came last; 0 before the first.
    pub receive_ptime_ms: u16,
    /// Codec of what was decoded last: its place in [`Codec::ALL`], from 1 on; 0 before the first.
    pub receive_codec: u8,
    /// Sound that was left out to bring the delay down (time-stretching), in microseconds.
    pub accelerated_us: u64,
    /// Sound that was put in to let the delay grow (time-stretching), in microseconds.
    pub expanded_us: u64,
    /// RMS level of what was received, over the last 100 ms, in dBov (0 = full scale, -127 = silence).
    pub level_in_dbov: i8,
    /// The same of what was sent.
    pub level_out_dbov: i8,
    /// SSRC of the peer; 0 before its first packet.
    pub remote_ssrc: u32,
    /// For RTCP: first sequence number of this SSRC.
    pub base_extended_seq: u32,
    /// For RTCP: highest sequence number of this SSRC, with the count of its wraps in the upper half.
    pub highest_extended_seq: u32,
    /// For RTCP: packets since `base_extended_seq`, those that came twice once.
    pub source_received: u64,
    /// For RTCP: interarrival jitter in units of the RTP clock.
    pub jitter_timestamp_units: u32,
    /// RTP timestamp of the last audio packet sent.
    pub last_sent_timestamp: u32,
    /// Monotonic time of its sending in nanoseconds; 0 before the first.
    pub last_sent_nanos: u64,
    /// Monotonic time of the last valid packet received, in nanoseconds; 0 before the first.
    pub last_received_nanos: u64,
}

impl StreamCounters {
    /// Codec of what was decoded last, which need not be that of what is sent.
    #[must_use]
    pub fn received_codec(&self) -> Option<Codec> {
        Codec::ALL.get(usize::from(self.receive_codec).checked_sub(1)?).copied()
    }
}

/// Figures of the engine since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Ticks executed.
    pub ticks: u64,
    /// Started more than half a tick late.
    pub ticks_late: u64,
    /// Left out because the thread came far too late.
    pub ticks_missed: u64,
    /// How late ticks started, by microseconds: under 50, 100, 200, 500, 1000, 2000, 5000, and above. Of two that are served
    /// together the one that was due counts.
    pub lateness: [u64; 8],
    /// Longest tick in microseconds.
    pub longest_tick_us: u64,
    /// Most work, in multiplications, that one tick has spent on filling gaps from both sides.
    pub most_gap_work: u64,
    /// Gaps that were filled less well than they could have been, because the tick had no room for more work.
    pub gaps_spared: u64,
    /// Reports to the control side for which there was no room.
    pub events_dropped: u64,
    /// Times that a device, while running, had recorded too little or was given too late.
    pub device_underruns: u64,
    /// Times that a device had recorded too much or did not take what it was given.
    pub device_overruns: u64,
}
