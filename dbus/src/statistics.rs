//! `org.voipd.CallStatistics1`: figures of a call's media.

use zbus::{OwnedVariant, Variant};

use crate::{Dict, Result};

macro_rules! figures {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $key:literal or $default:literal,)+) => {
        /// All figures of a call at one instant.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct Figures { $($(#[$doc])* pub $field: $type,)+ }

        /// The figures before there is media.
        impl Default for Figures {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Figures {
            /// Keys on the bus, which are the names of the properties too.
            pub const KEYS: &[&str] = &[$($key,)+];

            /// Reads the figures that are there and of the right type; the others are as before there is media.
            pub fn from_dict(dict: &Dict) -> Self {
                let mut figures = Self::default();
                $(if let Some(value) = dict.get($key).and_then(|v| <$type>::try_from(v).ok()) {
                    figures.$field = value;
                })+
                figures
            }

            /// The figures as they are sent.
            pub fn to_dict(&self) -> Dict {
                // A number always makes an owned variant: only a descriptor can fail to be duplicated.
                let pair = |key: &str, value| Some((key.to_owned(), OwnedVariant::try_from(value).ok()?));
                [$(pair($key, Variant::from(self.$field)),)+].into_iter().flatten().collect()
            }
        }
    };
}

figures! {
    /// RTP packets sent.
    packets_sent: u64 = "PacketsSent" or 0,
    /// RTP packets received.
    packets_received: u64 = "PacketsReceived" or 0,
    /// Octets of RTP payload sent.
    octets_sent: u64 = "OctetsSent" or 0,
    /// Octets of RTP payload received.
    octets_received: u64 = "OctetsReceived" or 0,
    /// Packets that never came.
    packets_lost: u64 = "PacketsLost" or 0,
    /// Packets that came after their time to be played.
    packets_late: u64 = "PacketsLate" or 0,
    /// Packets that came again.
    packets_duplicate: u64 = "PacketsDuplicate" or 0,
    /// Packets that came after a later one.
    packets_reordered: u64 = "PacketsReordered" or 0,
    /// Packets that were no RTP of this call.
    packets_invalid: u64 = "PacketsInvalid" or 0,
    /// Valid packets that were thrown away because the jitter buffer was full.
    packets_discarded: u64 = "PacketsDiscarded" or 0,
    /// Blocks of sound that were played from packets.
    frames_played: u64 = "FramesPlayed" or 0,
    /// Blocks of sound that were made up for missing packets.
    frames_concealed: u64 = "FramesConcealed" or 0,
    /// Packets lost, in percent of those expected.
    loss_percent: f64 = "LossPercent" or 0.0,
    /// Interarrival jitter.
    jitter_ms: f64 = "JitterMs" or 0.0,
    /// Sound in the jitter buffer.
    buffer_ms: f64 = "BufferMs" or 0.0,
    /// Sound that the jitter buffer aims to hold.
    buffer_target_ms: f64 = "BufferTargetMs" or 0.0,
    /// Round-trip time; -1 when not known.
    round_trip_ms: f64 = "RoundTripMs" or -1.0,
    /// Loss that the peer reports; -1 when not known.
    remote_loss_percent: f64 = "RemoteLossPercent" or -1.0,
    /// Jitter that the peer reports; -1 when not known.
    remote_jitter_ms: f64 = "RemoteJitterMs" or -1.0,
    /// Level of what is heard from the peer, in dBov.
    level_in: f64 = "LevelIn" or -127.0,
    /// Level of what is sent to the peer, in dBov.
    level_out: f64 = "LevelOut" or -127.0,
    /// Bursts of losses (RFC 3611).
    bursts: u64 = "Bursts" or 0,
    /// Missing packets within bursts, in percent.
    burst_density: f64 = "BurstDensity" or 0.0,
    /// Missing packets outside of bursts, in percent.
    gap_density: f64 = "GapDensity" or 0.0,
    /// Sound of the last seconds that was made up, in percent.
    concealed_percent: f64 = "ConcealedPercent" or 0.0,
    /// From the peer to here; -1 when not known.
    one_way_delay_ms: f64 = "OneWayDelayMs" or -1.0,
    /// Rating of what is heard here; -1 when not known.
    rating_in: f64 = "RatingIn" or -1.0,
    /// Opinion of what is heard here; -1 when not known.
    mos_listening_in: f64 = "MosListeningIn" or -1.0,
    /// The same with delay; -1 when not known.
    mos_conversation_in: f64 = "MosConversationIn" or -1.0,
    /// Rating of what the peer hears; -1 when not known.
    rating_out: f64 = "RatingOut" or -1.0,
    /// Opinion of what the peer hears; -1 when not known.
    mos_listening_out: f64 = "MosListeningOut" or -1.0,
    /// The same with delay; -1 when not known.
    mos_conversation_out: f64 = "MosConversationOut" or -1.0,
    /// What the peer itself says; -1 when it does not.
    reported_mos: f64 = "ReportedMos" or -1.0,
    /// Density of bursts at the peer; -1 when not known.
    reported_burst_density: f64 = "ReportedBurstDensity" or -1.0,
    /// Packets too late at the peer; -1 when not known.
    reported_discard_percent: f64 = "ReportedDiscardPercent" or -1.0,
    /// Jitter buffer of the peer; -1 when not known.
    reported_buffer_ms: f64 = "ReportedBufferMs" or -1.0,
    /// Packets lost whose sound came in a later packet (RFC 2198).
    packets_restored: u64 = "PacketsRestored" or 0,
    /// Packets lost whose sound Opus's forward error correction brought back.
    packets_corrected: u64 = "PacketsCorrected" or 0,
    /// Waiting time in queues on the way from the peer.
    queued_ms: f64 = "QueuedMs" or 0.0,
    /// Bits per second that Opus is asked for; 0 for other codecs.
    send_bitrate: u32 = "SendBitrate" or 0,
    /// Sound in each packet sent.
    send_ptime_ms: u32 = "SendPtimeMs" or 0,
    /// Earlier packets that each packet sent repeats (RFC 2198).
    send_copies: u32 = "SendCopies" or 0,
    /// Whether packets sent carry Opus's forward error correction.
    send_fec: bool = "SendFec" or false,
}

/// The figures of a call; the proxy's path is the call's.
#[zbus::proxy(
    interface = "org.voipd.CallStatistics1",
    default_service = "org.voipd",
    async_name = "CallStatisticsProxy"
)]
pub trait CallStatistics {
    /// All figures at one instant; see [`Figures::from_dict`].
    fn get(&self) -> Result<Dict>;

    /// Asks for [`statistics`](CallStatisticsProxy::receive_statistics) signals every so many milliseconds.
    fn watch(&self, interval_ms: u32) -> Result<()>;

    /// Ends the signals.
    fn unwatch(&self) -> Result<()>;

    /// RTP packets sent.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_sent(&self) -> zbus::Result<u64>;

    /// RTP packets received.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_received(&self) -> zbus::Result<u64>;

    /// Octets of RTP payload sent.
    #[zbus(property(emits_changed_signal = "false"))]
    fn octets_sent(&self) -> zbus::Result<u64>;

    /// Octets of RTP payload received.
    #[zbus(property(emits_changed_signal = "false"))]
    fn octets_received(&self) -> zbus::Result<u64>;

    /// Packets that never came.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_lost(&self) -> zbus::Result<u64>;

    /// Packets that came after their time to be played.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_late(&self) -> zbus::Result<u64>;

    /// Packets that came again.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_duplicate(&self) -> zbus::Result<u64>;

    /// Packets that came after a later one.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_reordered(&self) -> zbus::Result<u64>;

    /// Packets that were no RTP of this call.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_invalid(&self) -> zbus::Result<u64>;

    /// Valid packets that were thrown away because the jitter buffer was full.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_discarded(&self) -> zbus::Result<u64>;

    /// Blocks of sound that were played from packets.
    #[zbus(property(emits_changed_signal = "false"))]
    fn frames_played(&self) -> zbus::Result<u64>;

    /// Blocks of sound that were made up for missing packets.
    #[zbus(property(emits_changed_signal = "false"))]
    fn frames_concealed(&self) -> zbus::Result<u64>;

    /// Packets lost, in percent of those expected.
    #[zbus(property(emits_changed_signal = "false"))]
    fn loss_percent(&self) -> zbus::Result<f64>;

    /// Interarrival jitter.
    #[zbus(property(emits_changed_signal = "false"))]
    fn jitter_ms(&self) -> zbus::Result<f64>;

    /// Sound in the jitter buffer.
    #[zbus(property(emits_changed_signal = "false"))]
    fn buffer_ms(&self) -> zbus::Result<f64>;

    /// Sound that the jitter buffer aims to hold.
    #[zbus(property(emits_changed_signal = "false"))]
    fn buffer_target_ms(&self) -> zbus::Result<f64>;

    /// Round-trip time; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn round_trip_ms(&self) -> zbus::Result<f64>;

    /// Loss that the peer reports; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn remote_loss_percent(&self) -> zbus::Result<f64>;

    /// Jitter that the peer reports; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn remote_jitter_ms(&self) -> zbus::Result<f64>;

    /// Level of what is heard from the peer, in dBov.
    #[zbus(property(emits_changed_signal = "false"))]
    fn level_in(&self) -> zbus::Result<f64>;

    /// Level of what is sent to the peer, in dBov.
    #[zbus(property(emits_changed_signal = "false"))]
    fn level_out(&self) -> zbus::Result<f64>;

    /// Bursts of losses (RFC 3611).
    #[zbus(property(emits_changed_signal = "false"))]
    fn bursts(&self) -> zbus::Result<u64>;

    /// Missing packets within bursts, in percent.
    #[zbus(property(emits_changed_signal = "false"))]
    fn burst_density(&self) -> zbus::Result<f64>;

    /// Missing packets outside of bursts, in percent.
    #[zbus(property(emits_changed_signal = "false"))]
    fn gap_density(&self) -> zbus::Result<f64>;

    /// Sound of the last seconds that was made up, in percent.
    #[zbus(property(emits_changed_signal = "false"))]
    fn concealed_percent(&self) -> zbus::Result<f64>;

    /// From the peer to here; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn one_way_delay_ms(&self) -> zbus::Result<f64>;

    /// Rating of what is heard here; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn rating_in(&self) -> zbus::Result<f64>;

    /// Opinion of what is heard here; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn mos_listening_in(&self) -> zbus::Result<f64>;

    /// The same with delay; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn mos_conversation_in(&self) -> zbus::Result<f64>;

    /// Rating of what the peer hears; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn rating_out(&self) -> zbus::Result<f64>;

    /// Opinion of what the peer hears; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn mos_listening_out(&self) -> zbus::Result<f64>;

    /// The same with delay; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn mos_conversation_out(&self) -> zbus::Result<f64>;

    /// What the peer itself says; -1 when it does not.
    #[zbus(property(emits_changed_signal = "false"))]
    fn reported_mos(&self) -> zbus::Result<f64>;

    /// Density of bursts at the peer; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn reported_burst_density(&self) -> zbus::Result<f64>;

    /// Packets too late at the peer; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn reported_discard_percent(&self) -> zbus::Result<f64>;

    /// Jitter buffer of the peer; -1 when not known.
    #[zbus(property(emits_changed_signal = "false"))]
    fn reported_buffer_ms(&self) -> zbus::Result<f64>;

    /// Packets lost whose sound came in a later packet (RFC 2198).
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_restored(&self) -> zbus::Result<u64>;

    /// Packets lost whose sound Opus's forward error correction brought back.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_corrected(&self) -> zbus::Result<u64>;

    /// Waiting time in queues on the way from the peer.
    #[zbus(property(emits_changed_signal = "false"))]
    fn queued_ms(&self) -> zbus::Result<f64>;

    /// Bits per second that Opus is asked for; 0 for other codecs.
    #[zbus(property(emits_changed_signal = "false"))]
    fn send_bitrate(&self) -> zbus::Result<u32>;

    /// Sound in each packet sent.
    #[zbus(property(emits_changed_signal = "false"))]
    fn send_ptime_ms(&self) -> zbus::Result<u32>;

    /// Earlier packets that each packet sent repeats (RFC 2198).
    #[zbus(property(emits_changed_signal = "false"))]
    fn send_copies(&self) -> zbus::Result<u32>;

    /// Whether packets sent carry Opus's forward error correction.
    #[zbus(property(emits_changed_signal = "false"))]
    fn send_fec(&self) -> zbus::Result<bool>;

    /// The parts of the media path as it runs now: `id`, `kind`, `name`, `to` and figures of each.
    fn graph(&self) -> Result<Vec<Dict>>;

    /// Asks for [`activity_changed`](CallStatisticsProxy::receive_activity_changed) signals, and for silences of so many
    /// seconds (0: no such).
    fn watch_activity(&self, silence_seconds: u32) -> Result<()>;

    /// Ends them.
    fn unwatch_activity(&self) -> Result<()>;

    /// A direction has begun to sound bad (`poor`), or is `good` again.
    #[zbus(signal)]
    fn quality_changed(&self, direction: &str, quality: &str, mos: f64, cause: &str) -> zbus::Result<()>;

    /// Somebody has begun to talk, or has stopped.
    #[zbus(signal)]
    fn activity_changed(&self, direction: &str, talking: bool, level: f64) -> zbus::Result<()>;

    /// Nobody has talked for so long.
    #[zbus(signal)]
    fn silence_timeout(&self, direction: &str, seconds: u32) -> zbus::Result<()>;

    /// All figures, sent to those who watch.
    #[zbus(signal)]
    fn statistics(&self, statistics: Dict) -> zbus::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_survive_the_way_over_the_bus_and_unknown_ones_are_skipped() {
        let sent = Figures { packets_lost: 3, round_trip_ms: -1.0, level_in: -40.5, ..Figures::default() };
        let mut dict = sent.to_dict();
        assert_eq!(dict.len(), Figures::KEYS.len());
        dict.insert("AFigureOfTomorrow".into(), OwnedVariant::from(4.2));
        dict.insert("PacketsLate".into(), OwnedVariant::from(true));
        assert_eq!(Figures::from_dict(&dict), sent);
    }
}
